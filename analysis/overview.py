"""Scores of several results side by side, in the order in which they were given.

Such as those of one network at several steps of its training: what it comes to know, and when.
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

# Two results have their difference instead.
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
    """Whether there is a record, and its hypothesis is known by it."""
    return record is not None and verdict(record) == Verdict.KNOWN


def text_alone(course: Course) -> str:
    """Return the text baseline as it is shown, a dash where results have different ones, or none."""
    alone = {score(number(record, f"baseline_text_{course.measure}")) for record in course.records if record}
    return alone.pop() if len(alone) == 1 else score(None)
