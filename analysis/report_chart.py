"""The report's charts: a score with its interval and the text baseline, one line for each hypothesis."""

from __future__ import annotations

from collections.abc import Sequence

from gatescope.analysis.results import LABELS, LEAST, Record, number, score

GRID = "".join(f'<line class="grid" x1="{x}%" x2="{x}%" y1="-4" y2="29"/>' for x in (0, 50, 100))
# The shape of the text baseline's mark, and the class of marks for what lies below the axis.
CROSS, BELOW_AXIS = "M-3-3L3 3M-3 3L3-3", ' cut"'


def axis_of(least: float) -> str:
    """The numbers above a chart."""
    ticks = zip((0, 50, 100), ("start", "middle", "end"), (least, (1 + least) / 2, 1.0), strict=True)
    words = (
        f'<text x="{x}%" y="10" text-anchor="{anchor}">{f"{at:g}".removeprefix("0") or 0}</text>'
        for x, anchor, at in ticks
    )
    return f'<svg height="12" aria-hidden="true">{"".join(words)}</svg>'


def marks_of(record: Record, measure: str, kind: str, y: int) -> str:
    """The marks of a score, its interval and the score of the text baseline in a chart."""
    least, marks = LEAST[measure], ""
    text, low, high = (number(record, key) for key in (f"baseline_text_{measure}", f"{measure}_low", f"{measure}_high"))
    if text is not None:
        marks += cross(f"{place_on(text, least)}%", y)
        # To the left of the axis, where there is never an interval.
        marks += chevron("mark", -6, y) if text < least else ""
    if low is not None and high is not None:
        marks += (
            f'<line class="{kind} bar" x1="{place_on(low, least)}%" x2="{place_on(high, least)}%" y1="{y}" y2="{y}"/>'
        )
    value = number(record, measure)
    assert value is not None
    if value < least:
        # The score lies beyond the left end.
        return marks + f'<path class="{kind} dot" d="M0 {y}L6 {y - 4}L6 {y + 4}Z"/>'
    if low is not None and high is not None and low < least:
        marks += chevron(kind, 1, y)
    return marks + f'<circle class="{kind} dot" cx="{place_on(value, least)}%" cy="{y}" r="3.2"/>'


def in_words(record: Record, measure: str) -> str:
    """A description of a chart in words."""
    low, high = number(record, f"{measure}_low"), number(record, f"{measure}_high")
    ends = "" if low is None or high is None else f", interval {score(low)} to {score(high)}"
    alone = score(number(record, f"baseline_text_{measure}"))
    return f"{LABELS[measure]} {score(number(record, measure))}{ends}, text baseline {alone}"


def chart_of(height: int, marks: Sequence[str], words: str) -> str:
    """Marks over a grid, with words for screen readers."""
    return f'<svg height="{height}" role="img" aria-label="{words}">{GRID}{"".join(marks)}</svg>'


def place_on(value: float, least: float) -> str:
    """A score's place on an axis from its least value to 1, in percent; lower scores are placed at the left end."""
    return f"{100 * min(max((value - least) / (1 - least), 0.0), 1.0):.1f}"


def cross(x: str, y: float) -> str:
    """The mark of the text baseline."""
    return f'<svg x="{x}" y="{y}"><path class="mark" d="{CROSS}"/></svg>'


def chevron(kind: str, x: int, y: int) -> str:
    """A chevron that points to the left, with its tip at a place."""
    return f'<path class="{kind}{BELOW_AXIS} d="M{x + 4} {y - 4}L{x} {y}L{x + 4} {y + 4}"/>'


def key_of(kind: str) -> str:
    """The mark of a fit in a legend."""
    dot = f'<circle class="{kind} dot" cx="13" cy="6" r="3.2"/>'
    return f'<line class="{kind} bar" x1="2" x2="24" y1="6" y2="6"/>{dot}'
