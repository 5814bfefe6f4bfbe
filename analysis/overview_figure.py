"""Scores from one result to the next: a panel for each hypothesis, as in the report's overview."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gatescope.analysis.overview import Course, is_known
from gatescope.analysis.palette import LIGHT
from gatescope.analysis.panels import figure_of_panels
from gatescope.analysis.results import LEAST, Result, number
from gatescope.analysis.text_figure import drawable, inches

# How many letters of a result's name are shown, their size in points, and how many names a panel has room for.
MOST_LETTERS, SIZE, MOST_NAMES = 16, 6.0, 12
# Distance below chance of the arrows that replace lower scores.
BELOW = 0.03


def overview_figure(results: Sequence[Result], courses: Sequence[Course]) -> Figure:
    """Draw AUROC (R2) with its interval and the text baseline, over the results in order.

    Args:
        results: three or more.
        courses: as returned by `courses_of` for these results, at least one. A mark is filled if the hypothesis is
            known; a score below the panel is an arrow at its edge.
    """
    step = -(-len(results) // MOST_NAMES)
    names = [drawable(result.name, MOST_LETTERS) for result in results[::step]]

    def draw(axes: Axes, place: int) -> None:
        _draw(axes, courses[place])
        axes.set(xlim=(-0.5, len(results) - 0.5), xticks=range(0, len(results), step))
        axes.set_xticklabels(names, rotation=90, fontsize=SIZE)

    hypotheses = [(course.hypothesis, course.measure) for course in courses]
    return figure_of_panels(hypotheses, draw, "", bottom=max(inches(name, SIZE) for name in names) + 0.2)


def _draw(axes: Axes, course: Course) -> None:
    least, measure, n = LEAST[course.measure], course.measure, len(course.records)
    text, score, low, high = (
        _values(course, key) for key in (f"baseline_text_{measure}", measure, f"{measure}_low", f"{measure}_high")
    )
    known = np.array([is_known(record) for record in course.records])
    edge, places = least - BELOW, np.arange(n)
    below = score < edge
    axes.plot(places, text, "x", color=LIGHT["muted"], ms=3.5, mew=0.9, label="text")
    axes.vlines(places, np.maximum(low, edge), np.maximum(high, edge), color=LIGHT["plain"], linewidth=0.9)
    # If a result lacks a hypothesis, the line continues to the next result that has it.
    scored = ~np.isnan(score)
    axes.plot(places[scored], np.maximum(score, edge)[scored], "-", color=LIGHT["plain"], linewidth=0.9)
    for of_known, face, label in ((True, LIGHT["plain"], "known"), (False, "white", "not known")):
        chosen = np.where((known == of_known) & ~below, score, np.nan)
        axes.plot(places, chosen, "o", color=LIGHT["plain"], mfc=face, ms=3.5, label=label)
    axes.plot(places[below], np.full(below.sum(), edge), "v", color=LIGHT["plain"], mfc="white", ms=4)
    axes.axhline(least, color=LIGHT["behind"], linewidth=0.8, zorder=0)


def _values(course: Course, key: str) -> np.ndarray:
    """One number for each result, NaN where there is none."""
    values = [number(record or {}, key) for record in course.records]
    return np.array([np.nan if value is None else value for value in values])
