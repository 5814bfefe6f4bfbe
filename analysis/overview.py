"""Scores of several results side by side, in the order in which they were given.

Such as those of one network at several steps of its training: what it comes to know, and when.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from gatescope.analysis.coloured_text import visible
from gatescope.analysis.results import (
    MEASURES,
    Record,
    Result,
    Verdict,
    headline,
    leading,
    number,
    ordered,
    score,
    verdict,
)

CAPTION = (
    "AUROC, or R²; * known: above chance and the text baseline, each with the whole 95% interval; text: that baseline, "
    "where it is the same beside all"
)
# Two stand side by side in their difference.
LEAST_RESULTS = 3


@dataclass(frozen=True)
class Course:
    """A hypothesis, by what it is judged, and the record of each result, where that has a score."""

    hypothesis: str
    measure: str
    records: tuple[Record | None, ...]


def courses_of(results: Sequence[Result]) -> list[Course]:
    """Return the hypotheses that any result scores, best known first and boolean before continuous.

    Args:
        results: what `read_results` returns.

    Returns:
        Nothing of fewer than three results.
    """
    if len(results) < LEAST_RESULTS:
        return []
    chosen = [{name: leading(each) for name, each in headline(result.records).items()} for result in results]
    courses = []
    for kind, (measure, _) in MEASURES.items():
        for name in ordered(results, kind):
            records = tuple(_scored(of_result.get(name), kind) for of_result in chosen)
            if any(records):
                courses.append(Course(name, measure, records))
    return courses


def _scored(record: Record | None, kind: str) -> Record | None:
    if record is None or record["kind"] != kind or verdict(record) == Verdict.UNSCORED:
        return None
    return record


def is_known(record: Record | None) -> bool:
    """Whether there is a record, and its hypothesis is known by it."""
    return record is not None and verdict(record) == Verdict.KNOWN


def text_alone(course: Course) -> str:
    """Return the text baseline as it is shown, a dash where results have different ones, or none."""
    alone = {score(number(record, f"baseline_text_{course.measure}")) for record in course.records if record}
    return alone.pop() if len(alone) == 1 else score(None)


def overview_columns(n_results: int) -> int:
    """Return how many columns of a terminal the table takes, with room for the names of hypotheses."""
    return 19 + n_results * (_width(n_results) + 1)


def _width(n_results: int) -> int:
    """Columns of a result, within which its name is folded."""
    return max(6, 55 // n_results)


def _folded(name: str, width: int) -> str:
    """Return a name in lines that end behind a separator, where it has any."""
    lines = [""]
    for piece in re.findall(r"[^_/-]*[_/-]|[^_/-]+", name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def overview_table(results: Sequence[Result], courses: Sequence[Course]) -> Table:
    """Lay out a line for each hypothesis and a column for each result, for the terminal.

    A star stands behind the score of what is known. Names are plain text, never markup. It takes `overview_columns`.
    """
    table = Table(
        caption=Text(CAPTION),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("hypothesis", overflow="fold", min_width=12)
    table.add_column("text", justify="right", no_wrap=True)
    width = _width(len(results))
    for result in results:
        heading = Text(_folded(visible(result.name), width))
        table.add_column(heading, justify="right", overflow="fold", max_width=width)
    for course in courses:
        name = visible(course.hypothesis) + ", R²" * (course.measure == "r2")
        cells = [
            score(number(record or {}, course.measure)) + ("*" if is_known(record) else " ")
            for record in course.records
        ]
        table.add_row(*map(Text, [name, text_alone(course), *cells]))
    return table
