"""Several results side by side: which hypotheses are shown, and in which order."""

import pytest
from several_results import RESULTS, judged, of

from gatescope.analysis.overview import courses_of


def test_a_hypothesis_has_the_records_of_all_results_that_score_it():
    courses = courses_of(RESULTS)
    assert [(each.hypothesis, each.measure) for each in courses] == [
        ("comment", "auroc"),
        ("string", "auroc"),
        ("depth", "r2"),
    ]
    assert [[each and each[course.measure] for each in course.records] for course in courses] == [
        [None, None, 0.9],
        [0.6, 0.804, None],
        [-0.004, None, 0.5],
    ]


@pytest.mark.parametrize("n", [1, 2])
def test_two_results_have_no_overview(n):
    assert courses_of(RESULTS[:n]) == []


def test_a_hypothesis_of_another_kind_elsewhere_is_not_compared():
    other = of(judged("depth", 0.7, True), name="other")
    (course,) = [each for each in courses_of([*RESULTS, other]) if each.hypothesis == "depth"]
    assert course.measure == "r2" and course.records[-1] is None
