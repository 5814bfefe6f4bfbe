"""Several results side by side: which are there, in which order, and how the terminal shows them."""

import io
from pathlib import Path

import pytest
from probe_record import record
from rich.console import Console

from gatescope.analysis.overview import courses_of, overview_columns, overview_table
from gatescope.analysis.results import Result


def judged(name, auroc, known, **changed):
    over = 0.1 if known else -0.1
    return record(
        name,
        auroc=auroc,
        auroc_low=0.55,
        auroc_high=0.99,
        auroc_over_text_low=over,
        auroc_over_text_high=0.3,
        **changed,
    )


def of(*records, name="r"):
    return Result(name, Path(name), records, {}, {}, (), ())


DEPTH = {"kind": "continuous", "weighting": "none"}
RESULTS = [
    of(judged("string", 0.6, False), record("depth", **DEPTH, r2=-0.004), name="after_000000"),
    of(judged("string", 0.804, True), judged("string", 0.1, True, weighting="balanced"), name="after_[bold]000300"),
    of(
        judged("comment", 0.9, True), record("depth", **DEPTH, r2=0.5), record("never", auroc=None), name="after_003000"
    ),
]


def test_a_hypothesis_has_a_record_of_each_result_that_scores_it():
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
def test_two_results_have_their_difference_alone(n):
    assert courses_of(RESULTS[:n]) == []


def test_a_name_that_stands_for_another_kind_elsewhere_has_no_score_there():
    other = of(judged("depth", 0.7, True), name="other")
    (course,) = [each for each in courses_of([*RESULTS, other]) if each.hypothesis == "depth"]
    assert course.measure == "r2" and course.records[-1] is None


def test_a_line_has_the_scores_of_all_results_and_a_star_where_one_knows():
    table = overview_table(RESULTS, courses_of(RESULTS))
    assert [str(column.header) for column in table.columns] == [
        "hypothesis",
        "text",
        "after_000000",
        "after_[bold]000300",
        "after_003000",
    ]
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    assert [list(row) for row in zip(*columns, strict=True)] == [
        ["comment", "–", "– ", "– ", ".90*"],
        ["string", "–", ".60 ", ".80*", "– "],
        ["depth, R²", "–", ".00 ", "– ", ".50 "],
    ]


def test_the_text_baseline_stands_once_where_it_is_the_same_beside_all():
    def texts(*baselines):
        records = [judged("string", 0.8, True, baseline_text_auroc=each) for each in baselines]
        results = [of(each, name=f"r{i}") for i, each in enumerate(records)] + [of(record("other"))]
        table = overview_table(results, courses_of(results))
        return [str(cell) for cell in table.columns[1].cells]

    assert texts(0.7041, 0.7042) == [".70"]
    assert texts(0.7, 0.6) == texts(0.7, None) == texts(None, None) == ["–"]


@pytest.mark.parametrize("n", [3, 6, 10, 20])
def test_as_many_columns_as_are_asked_for_hold_every_score(n):
    assert n > 6 or overview_columns(n) <= 80
    width = overview_columns(n)
    results = [of(judged("a_hypothesis_of_a_long_name", 0.8, True), name=f"after_{1000 * i:06d}") for i in range(n)]
    file = io.StringIO()
    Console(file=file, width=width).print(overview_table(results, courses_of(results)))
    lines = file.getvalue().splitlines()
    assert "…" not in file.getvalue() and max(map(len, lines)) <= width
    assert file.getvalue().count(".80*") == n
    # A name is folded where it has a separator.
    assert n < 6 or lines[0].split() == ["after_"] * n
