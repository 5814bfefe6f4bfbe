"""Scores of several results side by side, in the order in which they were given.

With results of one network at several steps of its training, this shows what it learns, and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatescope.analysis.results import (
    MEASURES,
    Record,
    Result,
    Verdict,
    leading_records,
    number,
    ordered,
    score,
    verdict,
)

# For two results the difference is shown instead.
LEAST_RESULTS = 3


@dataclass(frozen=True)
class Course:
    """A hypothesis, the measure that judges it, and the record of each result, None without a score."""

    hypothesis: str
    measure: str
    records: tuple[Record | None, ...]


def courses_of(results: Sequence[Result]) -> list[Course]:
    """Return the hypotheses that any result scores, boolean before continuous, the best known first.

    Args:
        results: as returned by `read_results`.

    Returns:
        The hypotheses; none for fewer than three results.
    """
    if len(results) < LEAST_RESULTS:
        return []
    chosen = [leading_records(result.records) for result in results]
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
    """Whether there is a record, and by it the hypothesis is known."""
    return record is not None and verdict(record) == Verdict.KNOWN


def text_alone(course: Course) -> str:
    """Return the text baseline for display, a dash if there is none or the results have different ones."""
    alone = {score(number(record, f"baseline_text_{course.measure}")) for record in course.records if record}
    return alone.pop() if len(alone) == 1 else score(None)
