"""Figures for a paper: F1 per hypothesis with intervals and baselines, and text coloured three ways.

In kind they are Figures 3-6, and 2 and 7, of van der Ouderaa, Quantitatively understanding recurrent networks. PNG and
SVG, the same bytes for the same results: matplotlib's default style whatever the user's own, no time stamp, and Figure
objects without pyplot's state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from gatescope.analysis.coloured_text import LIGHT
from gatescope.analysis.results import Excerpt, Record, Result, headline, leading, number, ordered
from gatescope.analysis.text_figure import drawable, text_figure
from gatescope.engine.files import write_atomic

FONT_SIZE = 8.0
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "text.parse_math": False,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.edgecolor": "#8a8f98",
    "axes.linewidth": 0.6,
    "xtick.color": "#8a8f98",
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "svg.hashsalt": "gatescope",
}
PIXELS_PER_INCH = 200
# More rows than this do not fit a page; the report's table has them all.
MOST_ROWS = 40
# A fit far worse than the mean would squeeze all others: below this its mark stands at the edge, as an arrow.
LEAST_R2 = -1.0

PLAIN, BALANCED, BASELINE = "#1f5fae", "#c2600a", "#5c626c"
WEIGHTINGS = {"plain": (PLAIN, "o", -0.14), "balanced": (BALANCED, "D", 0.14)}


def paper_style() -> AbstractContextManager[None]:
    """The style that figures are made and saved in: matplotlib's default but for STYLE, whatever the user's own."""
    # Looking at the backend would choose one; it belongs to the user.
    defaults: dict[Any, Any] = {
        key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")
    }
    return matplotlib.rc_context(defaults | STYLE)


def write_figures(results: Sequence[Result], excerpts: Sequence[tuple[Result, Excerpt]], folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG.

    Args:
        results: results that stand side by side in the figures of scores.
        excerpts: the texts to colour, each with its result; one figure each, `text_<hypothesis>` (and `_<result>` where
            there are several results).
        folder: where the files go; made if it is absent.

    Returns:
        The files written: `f1` where a hypothesis is boolean, `r2` where one is continuous, then the texts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with paper_style():
        for stem, kind in (("f1", "boolean"), ("r2", "continuous")):
            if ordered(results, kind):
                written += _save(scores_figure(results, kind), folder / stem)
        taken: set[str] = set()
        for result, excerpt in excerpts:
            stem = f"text_{excerpt.hypothesis}" + (f"_{result.name}" if len(results) > 1 else "")
            written += _save(text_figure(excerpt), folder / _file_stem(stem, taken))
    return written


def _file_stem(name: str, taken: set[str]) -> str:
    """A file name of letters that every file system takes, unlike any taken before."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:100]
    stem, count = safe, 1
    while stem.casefold() in taken:
        count += 1
        stem = f"{safe}-{count}"
    taken.add(stem.casefold())
    return stem


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=PIXELS_PER_INCH, metadata=metadata)
        files.append(stem.with_name(stem.name + suffix))
        write_atomic(files[-1], buffer.getvalue())
    return files


def scores_figure(results: Sequence[Result], kind: str) -> Figure:
    """Draw one row per hypothesis, best known first, and one column per result.

    Boolean: F1 of the plain and the balanced fit with its 95% interval, over the majority and n-gram baselines.
    Continuous: R2 and Pearson's r.

    Args:
        results: results that share the rows; a hypothesis that a result lacks is an empty row there.
        kind: "boolean" or "continuous".

    Returns:
        The figure; it shows the first 40 hypotheses and says so if there are more.
    """
    names = ordered(results, kind)
    shown = names[:MOST_ROWS]
    labels = [drawable(name, 32) for name in shown]
    # Inches: room for the names, one panel per result, rows, and header with legend.
    left, panel, right = 0.2 + max(map(_inches, labels)), 3.6 if len(results) == 1 else 2.6, 0.2
    gap, top, bottom, rows = 0.25, 0.5 if len(results) > 1 else 0.3, 0.48, 0.24 * len(shown)
    width = max(left + len(results) * (panel + gap) - gap + right, 5.0)
    height = top + rows + bottom + (0.2 if len(names) > len(shown) else 0.0)
    figure = Figure(figsize=(width, height))
    for i_result, result in enumerate(results):
        span = (width - left - right + gap) / len(results)
        box = ((left + i_result * span) / width, 1 - (top + rows) / height, (span - gap) / width, rows / height)
        axes = figure.add_axes(box)
        chosen = headline(result.records)
        axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=range(len(shown)))
        axes.set_yticklabels(labels if i_result == 0 else [])
        axes.tick_params(length=0, axis="y")
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.grid(axis="x", color="#e3e5e8", linewidth=0.6)
        axes.set_axisbelow(True)
        if len(results) > 1:
            axes.set_title(drawable(result.name, 34), fontsize=8, fontweight="bold", loc="left")
        rows_here = [(y, chosen[name]) for y, name in enumerate(shown) if name in chosen]
        (_draw_f1 if kind == "boolean" else _draw_r2)(axes, rows_here)
    leads = [leading(weightings) for result in results for weightings in headline(result.records).values()]
    lowest = min((number(record, key) or 0.0 for record in leads for key in ("r2", "pearson")), default=0.0)
    _scale(figure.axes, kind, lowest)
    handles = _f1_legend() if kind == "boolean" else _r2_legend()
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
        note = f"The first {len(shown)} of {len(names)} hypotheses; the report's table has them all."
        figure.text(left / width, 0.05 / height, note, fontsize=7, color=BASELINE)
    return figure


def _inches(label: str) -> float:
    """Width of a row's label."""
    # TextPath would read a pair of dollar signs as mathematics.
    path = TextPath((0, 0), label.replace("$", "S"), size=FONT_SIZE, prop=FontProperties(family="DejaVu Sans"))
    return path.get_extents().width / 72


def _scale(panels: Sequence[Axes], kind: str, lowest: float) -> None:
    if kind == "boolean":
        for axes in panels:
            axes.set(xlim=(-0.02, 1.02), xticks=np.linspace(0, 1, 6), xlabel="F1 on held-out sequences")
    else:
        left = max(lowest, LEAST_R2) - (0.04 if lowest < 0 else 0.02)
        ticks = [tick / 5 for tick in range(-5, 6) if tick / 5 >= left]
        for axes in panels:
            axes.set(xlim=(left, 1.02), xticks=ticks, xlabel="Score on held-out sequences")


Row = tuple[float, Mapping[str, Record]]


def _draw_f1(axes: Axes, rows: Sequence[Row]) -> None:
    for name, (colour, marker, offset) in WEIGHTINGS.items():
        fits = [(y + offset, weightings[name]) for y, weightings in rows if name in weightings]
        fits = [(y, record) for y, record in fits if number(record, "f1") is not None]
        for key, mark, size in (("baseline_majority_f1", "|", 5), ("baseline_ngram_f1", "x", 3.5)):
            axes.plot(*_points(fits, key), mark, color=BASELINE, markersize=size, markeredgewidth=0.9)
        low, y_low = _points([fit for fit in fits if number(fit[1], "f1_high") is not None], "f1_low")
        high, y_high = _points([fit for fit in fits if number(fit[1], "f1_low") is not None], "f1_high")
        # One line with gaps, so that a figure of many rows stays quick.
        gaps = [np.nan] * len(low)
        axes.plot(_interleaved(low, high, gaps), _interleaved(y_low, y_high, gaps), "-", color=colour, linewidth=1.2)
        face = colour if name == "plain" else LIGHT["paper"]
        axes.plot(*_points(fits, "f1"), marker, color=colour, markerfacecolor=face, markersize=3.6, zorder=3)
    _say_unscored(axes, rows, "f1")


def _draw_r2(axes: Axes, rows: Sequence[Row]) -> None:
    fits = [(y, leading(weightings)) for y, weightings in rows]
    fits = [(y, record) for y, record in fits if number(record, "r2") is not None]
    r2, y = (np.array(values) for values in _points(fits, "r2"))
    shown = r2 >= LEAST_R2
    axes.plot(r2[shown], y[shown], "o", color=PLAIN, markersize=4.4)
    axes.plot(np.full((~shown).sum(), LEAST_R2), y[~shown], "<", color=PLAIN, markersize=4.4)
    axes.plot(*_points(fits, "pearson"), "D", color=BALANCED, markerfacecolor=LIGHT["paper"], markersize=3.6)
    _say_unscored(axes, rows, "r2")


def _points(fits: Sequence[tuple[float, Record]], key: str) -> tuple[list[float], list[float]]:
    """Where one metric of several fits stands: places along the axis and rows, without those that lack it."""
    pairs = [(value, y) for y, record in fits if (value := number(record, key)) is not None]
    return [value for value, _ in pairs], [y for _, y in pairs]


def _interleaved(*columns: Sequence[float]) -> np.ndarray:
    return np.array(columns, dtype=np.float64).T.ravel()


def _say_unscored(axes: Axes, rows: Sequence[Row], key: str) -> None:
    for y, weightings in rows:
        if all(number(record, key) is None for record in weightings.values()):
            words = f"not scored ({drawable(leading(weightings)['status'], 40)})"
            axes.text(0.0, y, words, va="center", fontsize=7, color=BASELINE)


def _f1_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=PLAIN, marker="o", markersize=3.6, linewidth=1.2, label="plain, 95% interval"),
        Line2D(
            [], [], color=BALANCED, marker="D", markerfacecolor="white", markersize=3.6, linewidth=1.2, label="balanced"
        ),
        Line2D([], [], color=BASELINE, marker="|", linestyle="", markersize=6, label="majority"),
        Line2D([], [], color=BASELINE, marker="x", linestyle="", markersize=4, label="n-gram table"),
    ]


def _r2_legend() -> list[Line2D]:
    return [
        Line2D([], [], color=PLAIN, marker="o", linestyle="", markersize=4.4, label="R²"),
        Line2D(
            [],
            [],
            color=BALANCED,
            marker="D",
            markerfacecolor="white",
            linestyle="",
            markersize=3.6,
            label="Pearson's r",
        ),
    ]
