"""Figures of scores: a row for each hypothesis and a column for each result, with intervals and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gatescope.analysis.palette import LIGHT
from gatescope.analysis.results import (
    LABELS,
    LEAST,
    Record,
    Result,
    Verdict,
    headline,
    leading,
    leading_records,
    number,
    ordered,
    verdict,
    why_unscored,
)
from gatescope.analysis.text_figure import drawable, inches

# Font size of the names in points; the default of all figures.
FONT_SIZE = 8.0
# More rows than this do not fit a page; the report's table has them all.
MOST_ROWS = 40
# A fit far worse than the mean would squeeze all others: below this its mark is an arrow at the edge.
LEAST_R2 = -1.0

# The measures that have a figure, and the kind of hypothesis of each.
KIND_OF = {"auroc": "boolean", "f1": "boolean", "r2": "continuous"}
PLAIN, BALANCED, BASELINE = LIGHT["plain"], LIGHT["balanced"], LIGHT["muted"]
# Colour, mark and offset below the middle of the row for each fit; continuous hypotheses use the plain fit's.
FITS = {"plain": (PLAIN, "o", -0.14), "balanced": (BALANCED, "D", 0.14)}


def scores_figure(results: Sequence[Result], measure: str) -> Figure:
    """Draw one row per hypothesis, best known first, and one column per result.

    Scores are drawn with their 95% interval and with the text baseline: AUROC of the plain fit; F1 of the plain and the
    balanced fit, with the majority's; R2 of continuous hypotheses, with Pearson's r.

    Args:
        results: results, which share the rows; a hypothesis that a result lacks is an empty row there.
        measure: "auroc", "f1" or "r2".

    Returns:
        The figure; it shows the first 40 hypotheses, with a note if there are more.
    """
    names = ordered(results, KIND_OF[measure])
    shown = names[:MOST_ROWS]
    labels = [drawable(name, 32) for name in shown]
    # Inches: room for the names, one panel per result, rows, and header with legend.
    left, panel, right = 0.2 + max(inches(label, FONT_SIZE) for label in labels), 3.6 if len(results) == 1 else 2.6, 0.2
    gap, top, bottom, rows = 0.25, 0.5 if len(results) > 1 else 0.3, 0.48, 0.24 * len(shown)
    width = max(left + len(results) * (panel + gap) - gap + right, 5.0)
    height = top + rows + bottom + (0.2 if len(names) > len(shown) else 0.0)
    figure = Figure(figsize=(width, height))
    for i_result, result in enumerate(results):
        span = (width - left - right + gap) / len(results)
        box = ((left + i_result * span) / width, 1 - (top + rows) / height, (span - gap) / width, rows / height)
        axes = figure.add_axes(box)
        _draw_rows(axes, result, shown, measure)
        axes.set_yticklabels(labels if i_result == 0 else [])
        if len(results) > 1:
            axes.set_title(drawable(result.name, 34), fontsize=8, fontweight="bold", loc="left")
    leads = [record for result in results for record in leading_records(result.records).values()]
    keys = (measure, f"{measure}_low", f"baseline_text_{measure}", *(("pearson",) if measure == "r2" else ()))
    values = [value for record in leads for key in keys if (value := number(record, key)) is not None]
    _scale(figure.axes, measure, min([*values, LEAST[measure]]))
    handles = _legend(measure)
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left / width, 1 - 0.06 / height),
        ncols=4,
        frameon=False,
        fontsize=7,
        borderpad=0,
        borderaxespad=0,
        handletextpad=0.4,
        columnspacing=1.2,
    )
    if len(names) > len(shown):
        note = f"The first {len(shown)} of {len(names)} hypotheses; the report's table lists all."
        figure.text(left / width, 0.05 / height, note, fontsize=7, color=BASELINE)
    return figure


def _draw_rows(axes: Axes, result: Result, names: Sequence[str], measure: str) -> None:
    """Draw a row for each hypothesis of one result."""
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
    axes.tick_params(length=0, axis="y")
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.grid(axis="x", color=LIGHT["rule"], linewidth=0.6)
    axes.set_axisbelow(True)
    chosen = headline(result.records)
    rows = [(y, chosen[name]) for y, name in enumerate(names) if name in chosen]
    unscored = [row for row in rows if verdict(leading(row[1])) == Verdict.UNSCORED]
    scored = [row for row in rows if row not in unscored]
    {"auroc": _draw_auroc, "f1": _draw_f1, "r2": _draw_r2}[measure](axes, scored)
    _say_unscored(axes, unscored)


def _scale(panels: Sequence[Axes], measure: str, lowest: float) -> None:
    label = {"auroc": "AUROC on held-out sequences; .5 by chance", "f1": "F1 on held-out sequences"}
    ticks = np.linspace(-1, 1, 21 if measure == "auroc" else 11)
    left = max(lowest, LEAST_R2) - (0.04 if lowest < 0 else 0.02)
    for axes in panels:
        axes.set(xlabel=label.get(measure, "R² and r on held-out sequences"), xlim=(left, 1.02))
        axes.set(xticks=ticks[ticks >= left])
        if measure == "auroc":
            axes.axvline(LEAST[measure], color=BASELINE, linewidth=0.8)


Row = tuple[float, Mapping[str, Record]]


def _draw_auroc(axes: Axes, rows: Sequence[Row]) -> None:
    fits = [(y, leading(weightings)) for y, weightings in rows]
    _draw_fits(axes, fits, "auroc", "plain")


def _draw_f1(axes: Axes, rows: Sequence[Row]) -> None:
    for name, (_, _, offset) in FITS.items():
        fits = [(y + offset, weightings[name]) for y, weightings in rows if name in weightings]
        fits = [(y, record) for y, record in fits if number(record, "f1") is not None]
        axes.plot(*_points(fits, "baseline_majority_f1"), "|", color=BASELINE, markersize=5, markeredgewidth=0.9)
        _draw_fits(axes, fits, "f1", name)


def _draw_r2(axes: Axes, rows: Sequence[Row]) -> None:
    fits = [(y, leading(weightings)) for y, weightings in rows]
    shown = [(y, record) for y, record in fits if record["r2"] >= LEAST_R2]
    _draw_fits(axes, shown, "r2", "plain")
    beyond = [y for y, record in fits if record["r2"] < LEAST_R2]
    axes.plot(np.full(len(beyond), LEAST_R2), beyond, "<", color=PLAIN, markersize=4.4)
    axes.plot(*_points(fits, "pearson"), "D", color=BALANCED, markerfacecolor=LIGHT["paper"], markersize=3.6)


def _draw_fits(axes: Axes, fits: Sequence[tuple[float, Record]], measure: str, weighting: str) -> None:
    """Draw the scores of one weighting with their intervals, and the scores of the text baseline."""
    colour, marker, _ = FITS[weighting]
    axes.plot(*_points(fits, f"baseline_text_{measure}"), "x", color=BASELINE, markersize=3.5, markeredgewidth=0.9)
    low, y_low = _points([fit for fit in fits if number(fit[1], f"{measure}_high") is not None], f"{measure}_low")
    high, y_high = _points([fit for fit in fits if number(fit[1], f"{measure}_low") is not None], f"{measure}_high")
    # One line with gaps, so that a figure with many rows is drawn quickly.
    gaps = [np.nan] * len(low)
    axes.plot(_interleaved(low, high, gaps), _interleaved(y_low, y_high, gaps), "-", color=colour, linewidth=1.2)
    face = colour if weighting == "plain" else LIGHT["paper"]
    axes.plot(*_points(fits, measure), marker, color=colour, markerfacecolor=face, markersize=3.6, zorder=3)


def _points(fits: Sequence[tuple[float, Record]], key: str) -> tuple[list[float], list[float]]:
    """Values and rows of one metric for several fits, without fits that lack it."""
    pairs = [(value, y) for y, record in fits if (value := number(record, key)) is not None]
    return [value for value, _ in pairs], [y for _, y in pairs]


def _interleaved(*columns: Sequence[float]) -> np.ndarray:
    return np.array(columns, dtype=np.float64).T.ravel()


def _say_unscored(axes: Axes, rows: Sequence[Row]) -> None:
    for y, weightings in rows:
        record, right = leading(weightings), axes.get_yaxis_transform()
        words = f"not scored ({why_unscored(record) or drawable(record['status'], 40)})"
        # A patch of paper behind the words keeps the line of chance from crossing them.
        box = {"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 0.8}
        axes.text(0.02, y, words, transform=right, va="center", fontsize=7, color=BASELINE, bbox=box)


def _legend(measure: str) -> list[Line2D]:
    name = "plain" if measure == "f1" else LABELS[measure]
    handles = [Line2D([], [], color=PLAIN, marker="o", markersize=3.6, linewidth=1.2, label=f"{name}, 95% interval")]
    if measure != "auroc":
        label, line = ("balanced", "-") if measure == "f1" else ("Pearson's r", "")
        handles.append(Line2D([], [], color=BALANCED, marker="D", markerfacecolor="white", markersize=3.6))
        handles[-1].set(linestyle=line, linewidth=1.2, label=label)
    if measure == "f1":
        handles.append(Line2D([], [], color=BASELINE, marker="|", linestyle="", markersize=6, label="majority"))
    return [*handles, Line2D([], [], color=BASELINE, marker="x", linestyle="", markersize=4, label="text")]
