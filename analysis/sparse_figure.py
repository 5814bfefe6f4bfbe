"""How much few units tell: a panel for each hypothesis, the units selected beside random ones (Gurnee et al. 2023)."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gatescope.analysis.results import MEASURES, Record, Result, number, ordered
from gatescope.analysis.text_figure import drawable

# Inches: a panel, and what its labels take to the left, below, above and to the right; between panels, of their size.
PANEL, LEFT, BOTTOM, TOP, RIGHT = 1.35, 0.75, 0.45, 0.5, 0.15
ACROSS, DOWN = 0.12, 0.42
COLUMNS = 5
# More panels do not fit a page; the report has them all.
MOST_PANELS = 30
SELECTED, RANDOM, ALL = "#1f5fae", "#5c626c", "#c9cdd3"
FIRST = {"auroc": "AUROC", "r2": "R²"}
TICKS = (1, 4, 16, 64)
LEAST_WIDTH = 3.6


def drawn(result: Result) -> dict[str, Record]:
    """The records, by hypothesis, of which there is something to draw: probes of few units that have a score."""
    asked = [record for record in result.records if record.get("sparse")]
    return {
        each["hypothesis"]: each for each in asked if any(value is not None for value in each["sparse"]["selected"])
    }


def sparse_figure(result: Result) -> Figure:
    """Draw AUROC (R2) against the number of units, of the hypotheses in `drawn`, best known first."""
    records = drawn(result)
    names = [name for kind in MEASURES for name in ordered([result], kind) if name in records][:MOST_PANELS]
    # A row has one scale.
    rows = [
        of_kind[start : start + COLUMNS]
        for of_kind in ([name for name in names if records[name]["kind"] == kind] for kind in MEASURES)
        for start in range(0, len(of_kind), COLUMNS)
    ]
    columns = max(map(len, rows))
    width = max(LEFT + (columns + (columns - 1) * ACROSS) * PANEL + RIGHT, LEAST_WIDTH)
    height = BOTTOM + (len(rows) + (len(rows) - 1) * DOWN) * PANEL + TOP
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    borders = {"left": LEFT / width, "bottom": BOTTOM / height, "right": 1 - RIGHT / width, "top": 1 - TOP / height}
    figure.subplots_adjust(**borders, wspace=ACROSS, hspace=DOWN)
    for panels, row in zip(grid, rows, strict=True):
        measure, chance = MEASURES[records[row[0]]["kind"]]
        for axes, name in zip(panels, row, strict=False):
            _draw(axes, records[name], measure)
            axes.set_title(drawable(name, 22), fontsize=8)
            axes.set_ylim(chance - 0.05, 1.02)
            axes.tick_params(labelleft=axes is panels[0])
        panels[0].set_ylabel(FIRST[measure])
        for axes in panels[len(row) :]:
            axes.set_axis_off()
    for column in range(columns):
        last = max(place for place, row in enumerate(rows) if column < len(row))
        grid[last, column].set_xlabel("units")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=3, frameon=False)
    return figure


def _draw(axes: Axes, record: Record, measure: str) -> None:
    """Draw what units selected, as many random ones, and all of them tell of one hypothesis."""
    sparse, of_all = record["sparse"], number(record, measure)
    if of_all is not None:
        axes.axhline(of_all, color=ALL, linewidth=2.5, label="all units")
    for key, colour, marker in (("random", RANDOM, "."), ("selected", SELECTED, "o")):
        # A line has a gap where a probe has no score.
        values = [math.nan if value is None else value for value in sparse[key]]
        axes.plot(sparse["units"], values, marker, ls="-", color=colour, ms=3, lw=0.9, label=f"{key} ones")
    axes.set_xscale("log", base=2)
    axes.set(xlim=(0.8, 80), xticks=TICKS, xticklabels=map(str, TICKS))
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
