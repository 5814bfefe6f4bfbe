"""Several results side by side in the terminal."""

import io

import pytest
from probe_record import record
from rich.console import Console
from several_results import RESULTS, judged, of

from gatescope.analysis.overview import courses_of
from gatescope.analysis.overview_table import overview_columns, overview_table


def test_a_line_shows_all_scores_and_stars_the_known_ones():
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


def test_an_equal_text_baseline_is_shown_only_once():
    def texts(*baselines):
        records = [judged("string", 0.8, True, baseline_text_auroc=each) for each in baselines]
        results = [of(each, name=f"r{i}") for i, each in enumerate(records)] + [of(record("other"))]
        table = overview_table(results, courses_of(results))
        return [str(cell) for cell in table.columns[1].cells]

    assert texts(0.7041, 0.7042) == [".70"]
    assert texts(0.7, 0.6) == texts(0.7, None) == texts(None, None) == ["–"]


@pytest.mark.parametrize("n", [3, 6, 10, 20])
def test_the_computed_width_holds_every_score(n):
    assert n > 6 or overview_columns(n) <= 80
    width = overview_columns(n)
    results = [of(judged("a_hypothesis_of_a_long_name", 0.8, True), name=f"after_{1000 * i:06d}") for i in range(n)]
    file = io.StringIO()
    Console(file=file, width=width).print(overview_table(results, courses_of(results)))
    lines = file.getvalue().splitlines()
    assert "…" not in file.getvalue() and max(map(len, lines)) <= width
    assert file.getvalue().count(".80*") == n
    # A name is folded at a separator.
    assert n < 6 or lines[0].split() == ["after_"] * n
