"""A page of small panels, one for each hypothesis: boolean before continuous, with one scale per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gatescope.analysis.results import LABELS, LEAST, MEASURES
from gatescope.analysis.text_figure import drawable

# Inches: side of a panel, and room for labels to the left, above and to the right. Gaps are shares of a panel.
PANEL, LEFT, TOP, RIGHT = 1.35, 0.75, 0.5, 0.15
ACROSS, DOWN = 0.12, 0.28
COLUMNS = 5
LEAST_WIDTH = 3.6
# More panels do not fit a page; the report has them all.
MOST_PANELS = 30


def figure_of_panels(
    hypotheses: Sequence[tuple[str, str]], draw: Callable[[Axes, int], None], abscissa: str, bottom: float
) -> Figure:
    """Draw the panels, with the legend of the first one.

    Args:
        hypotheses: name and measure (auroc, r2) of each, in order; the first 30 are drawn.
        draw: draws the hypothesis at a place in the list.
        abscissa: label of the horizontal axes.
        bottom: inches for the lowest axis and its label.
    """
    shown = list(enumerate(hypotheses[:MOST_PANELS]))
    groups = [[each for each in shown if each[1][1] == measure] for measure, _ in MEASURES.values()]
    rows = [group[start : start + COLUMNS] for group in groups for start in range(0, len(group), COLUMNS)]
    columns = max(map(len, rows))
    width = max(LEFT + (columns + (columns - 1) * ACROSS) * PANEL + RIGHT, LEAST_WIDTH)
    height = bottom + (len(rows) + (len(rows) - 1) * DOWN) * PANEL + TOP
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    borders = {"left": LEFT / width, "bottom": bottom / height, "right": 1 - RIGHT / width, "top": 1 - TOP / height}
    figure.subplots_adjust(**borders, wspace=ACROSS, hspace=DOWN)
    for panels, row in zip(grid, rows, strict=True):
        measure = row[0][1][1]
        for axes, (place, (name, _)) in zip(panels, row, strict=False):
            draw(axes, place)
            axes.set_title(drawable(name, 22), fontsize=8)
            axes.set_ylim(LEAST[measure] - 0.05, 1.02)
            axes.tick_params(labelleft=axes is panels[0])
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel(LABELS[measure])
        for axes in panels[len(row) :]:
            axes.set_axis_off()
    for column in range(columns):
        *above, last = [panels[column] for panels, row in zip(grid, rows, strict=True) if column < len(row)]
        last.set_xlabel(abscissa)
        for axes in above:
            axes.tick_params(labelbottom=False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=len(labels), frameon=False)
    return figure
