"""The terminal table: the contents of its cells, and that it stays readable at 80 columns whatever the names."""

import io

import pytest
from rich.console import Console

from gatescope.analysis.table import paper_table

HEADINGS = ["hypothesis", "acc.", "prec.", "recall", "F1", "AUROC", "95%", "text", "best unit"]


def cells(table):
    """The rows of a table as lists of plain text."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def printed(table, width=80):
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=True).print(table)
    return file.getvalue()


def record(name, weighting="plain", kind="boolean", states="all", status="converged", **scores):
    units = [{"states": "layer0/c", "unit": 17, "coefficient": 1.0, "importance": 1.0, "auroc": 0.9}]
    fixed = {"hypothesis": name, "kind": kind, "states": states, "weighting": weighting, "status": status}
    return fixed | {"top_units": units} | scores


PLAIN = record(
    "string",
    accuracy=0.991,
    precision=0.84,
    recall=0.914,
    f1=0.872,
    auroc=0.97,
    auroc_low=0.95,
    auroc_high=0.98,
    auroc_over_text_low=-0.01,
    auroc_over_text_high=0.1,
    baseline_text_auroc=0.9,
)
BALANCED = PLAIN | {"weighting": "balanced", "accuracy": 1.0, "recall": None, "auroc_low": 0.1, "auroc": 0.63}
DEPTH = record("depth", "none", "continuous", r2=0.81, r2_low=0.7, r2_high=0.86, pearson=-0.9, baseline_text_r2=0.4)


def test_a_row_shows_plain_and_balanced_pairs():
    table = paper_table([PLAIN, BALANCED])
    assert [column.header for column in table.columns] == HEADINGS
    assert cells(table) == [
        ["string", ".99/1.00", ".84/.84", ".91/–", ".87/.87", ".97", ".95–.98", ".90", "layer0/c 17"]
    ]


def test_known_hypotheses_have_a_star():
    known = {"auroc_over_text_low": 0.01}
    deep = {"r2_over_text_low": 0.1, "r2_over_text_high": 0.3}
    assert [row[0] for row in cells(paper_table([PLAIN | known, DEPTH | deep]))] == ["string*", "depth*"]


def test_a_single_weighting_gives_single_numbers():
    assert cells(paper_table([BALANCED]))[0][1:8] == ["1.00", ".84", "–", ".87", ".63", ".10–.98", ".90"]


def test_continuous_hypotheses_come_last_with_r2_and_pearson():
    table = paper_table([DEPTH, PLAIN])
    assert cells(table)[0][0] == "string"
    assert cells(table)[1] == ["depth", "", "", "", "r -.90", "R² .81", ".70–.86", ".40", "layer0/c 17"]
    assert table.rows[0].end_section


def test_a_state_set_other_than_all_is_named():
    layer, every = (PLAIN | {"states": name, "f1": f1} for name, f1 in (("layer0/h", 0.11), ("all", 0.33)))
    only = PLAIN | {"hypothesis": "comment", "states": "layer1/h", "f1": 0.22}
    rows = cells(paper_table([layer, every, only]))
    assert [row[0] for row in rows] == ["string", "comment\n layer1/h"]
    assert [row[4] for row in rows] == [".33", ".22"]


def test_a_state_set_shared_by_all_rows_is_named_once():
    alone = [PLAIN | {"states": "layer0/h"}, DEPTH | {"states": "layer0/h"}]
    table = paper_table(alone)
    assert [row[0] for row in cells(table)] == ["string", "depth"]
    assert str(table.caption).endswith("; pairs are plain/balanced; states: layer0/h")
    assert "states:" not in str(paper_table([PLAIN, DEPTH]).caption)


def test_the_caption_explains_stars_only_with_a_text_baseline():
    without = PLAIN | {"baseline_text_auroc": None}
    caption = str(paper_table([without, DEPTH | {"baseline_text_r2": None}]).caption)
    assert caption == "the text is unknown: without a text baseline nothing counts as known; pairs are plain/balanced"
    assert str(paper_table([without, DEPTH]).caption).startswith("* known")


def test_rows_that_cannot_be_scored_give_the_reason():
    nowhere = PLAIN | {"auroc": None, "prevalence": 0.0}
    assert cells(paper_table([nowhere]))[0][0] == "string\n holds nowhere in the test sequences"


@pytest.mark.parametrize(
    "statuses, label",
    [
        (("converged", "converged"), "string"),
        (("one_class", "one_class"), "string\n one_class"),
        (("converged", "max_iter"), "string\n balanced: max_iter"),
        (("max_iter", "one_class"), "string\n plain: max_iter\n balanced: one_class"),
    ],
)
def test_a_fit_that_did_not_converge_is_shown(statuses, label):
    records = [PLAIN | {"status": statuses[0]}, BALANCED | {"status": statuses[1]}]
    assert cells(paper_table(records))[0][0] == label


def test_unfitted_hypotheses_have_dashes_and_no_unit():
    empty = record("string", status="one_class") | {"top_units": []}
    assert cells(paper_table([empty]))[0] == ["string\n one_class", *["–"] * 8]


def test_names_are_shown_literally():
    wild = PLAIN | {"hypothesis": "[bold]x[/] \x1b[31m\u202e"}
    assert "[bold]x[/] U+001B[31mU+202E" in printed(paper_table([wild]), width=160)
    assert "\x1b" not in printed(paper_table([wild]))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_number_is_truncated(width):
    full = PLAIN | {"hypothesis": "a_rather_long_hypothesis_name_of_a_user", "accuracy": 1.0}
    text = printed(paper_table([full, full | {"weighting": "balanced"}, DEPTH]), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for cell in ("1.00/1.00", ".84/.84", ".91/.91", ".87/.87", ".97", ".95–.98", ".90", "R² .81", "r -.90"):
        assert cell in text
    assert "layer0/c" in text and "17" in text
    if width == 160:
        assert "a_rather_long_hypothesis_name_of_a_user" in text


def test_no_records_give_an_empty_table():
    assert cells(paper_table([])) == []
