"""The answer of the page: its tables hold the numbers of the records, and its charts show them."""

import json

import pytest
from report_page import Page, body_rows, cells, within

from gatescope.analysis.read_results import read_results
from gatescope.analysis.report import write_report
from gatescope.analysis.results import headline, leading, score, verdict


def tables(page):
    """The rows of the answer tables by their measure, each by its hypothesis."""
    heads = {"AUROC": "auroc", "R²": "r2", "F1": "f1"}
    return {
        heads[next(e["text"] for e in within(table, "span") if e["text"] in heads)]: {
            cells(row)[0]: row for row in body_rows(table)
        }
        for table in page.all("table", **{"class": "answers"})
    }


def test_the_answer_tables_hold_the_headline_of_every_hypothesis(folder, page):
    (result,) = read_results([folder])
    rows, seen = tables(page), []
    for name, weightings in headline(result.records).items():
        record = leading(weightings)
        measure, alone = ("auroc", "best_unit_auroc") if record["kind"] == "boolean" else ("r2", "best_unit_pearson")
        _, _, value, text, other, *holds, unit, judged = cells(rows[measure][name])
        seen.append(name)
        assert holds == (["2,400 of 20,000"] if measure == "auroc" else [])
        if record[measure] is None:
            assert (value, text, other, unit, judged) == ("–", "–", "–", "–", "not scored (one_class)")
            continue
        assert value == f"{score(record[measure])} {score(record[f'{measure}_low'])}–{score(record[f'{measure}_high'])}"
        assert text == score(record[f"baseline_text_{measure}"])
        both = "/".join(score(each["f1"]) for each in weightings.values())
        assert other == (both if measure == "auroc" else score(record["pearson"]))
        assert (unit, judged) == (f"layer0/c 17 {score(record[alone])}", verdict(record))
    assert sorted([*rows["auroc"], *rows["r2"]]) == sorted(seen)


def test_f1_of_both_fits_has_a_table_of_its_own(folder, page):
    (result,) = read_results([folder])
    rows = tables(page)["f1"]
    for name, weightings in headline(result.records).items():
        if "plain" in weightings:
            _, _, *fits, text, majority = cells(rows.pop(name))
            if weightings["plain"]["f1"] is None:
                assert {*fits, text, majority} == {"–"}
                continue
            for shown, record in zip(fits, weightings.values(), strict=True):
                assert shown == f"{score(record['f1'])} {score(record['f1_low'])}–{score(record['f1_high'])}"
            assert text == "/".join(score(record["baseline_text_f1"]) for record in weightings.values())
            assert majority == score(weightings["plain"]["baseline_majority_f1"])
    assert not rows


@pytest.mark.parametrize(("measure", "least"), [("auroc", 0.5), ("f1", 0.0), ("r2", 0.0)])
def test_the_charts_show_what_the_numbers_say(folder, page, measure, least):
    (result,) = read_results([folder])
    for name, row in tables(page)[measure].items():
        weightings = headline(result.records)[name]
        shown = weightings if measure == "f1" else {"plain": leading(weightings)}
        circles = [e["attrs"] for e in within(row, "circle")]
        if shown["plain"][measure] is None:
            assert not circles
            continue
        for weighting, record in shown.items():
            (dot,) = (c for c in circles if c["class"] == f"{weighting} dot")
            (bar,) = (e["attrs"] for e in within(row, "line") if e["attrs"]["class"] == f"{weighting} bar")
            for at, key in ((dot["cx"], measure), (bar["x1"], f"{measure}_low"), (bar["x2"], f"{measure}_high")):
                assert abs(float(at[:-1]) / 100 - (record[key] - least) / (1 - least)) <= 0.0005 + 1e-9
        (chart,) = (e["attrs"] for e in within(row, "svg") if e["attrs"].get("role") == "img")
        first = {"auroc": "AUROC", "f1": "plain F1", "r2": "R²"}[measure]
        assert chart["aria-label"].startswith(f"{first} {score(shown['plain'][measure])}, interval")
        assert len(circles) == len(shown)


def page_of(folder, change, few=(("inside_string", r'"[^"\n]*"', 0.9),), write=None):
    """The page of a result whose records are changed."""
    folder = write(folder, hypotheses=list(few))
    records = [change(record) for record in json.loads((folder / "probes.json").read_text())]
    (folder / "probes.json").write_text(json.dumps(records))
    return Page(write_report([folder], folder).read_text(encoding="utf-8"))


def keys_of(page):
    """The words of each table's legend."""
    found = []
    for table in page.all("table", **{"class": "answers"}):
        found.append([e["text"] for e in within(table, "span") if e["attrs"].get("class") == "key"])
    return found


def test_an_interval_that_is_cut_at_the_left_end_has_a_mark(tmp_path, write_result, texts_to_draw):
    whole = page_of(tmp_path / "whole", lambda record: record, write=write_result)
    assert not [key for keys in keys_of(whole) for key in keys if "below" in key]
    cut = page_of(tmp_path / "cut", lambda record: record | {"auroc_low": 0.4, "r2_low": -0.3}, write=write_result)
    for measure, rows in tables(cut).items():
        for row in rows.values():
            marks = [e for e in within(row, "path") if e["attrs"]["class"] == "plain cut"]
            assert len(marks) == (measure != "f1")
            # The score itself stands where it is.
            assert within(row, "circle")
    assert [keys[-1] for keys in keys_of(cut)[:2]] == ["goes on below the axis"] * 2
    text = page_of(tmp_path / "text", lambda record: record | {"baseline_text_r2": -0.2}, write=write_result)
    for row in tables(text)["r2"].values():
        assert [e["attrs"]["class"] for e in within(row, "path")] == ["mark", "mark cut"]


def test_a_legend_names_no_baseline_that_is_nowhere(tmp_path, write_result, texts_to_draw):
    without = dict.fromkeys(("baseline_text_auroc", "baseline_text_r2", "baseline_text_f1"))
    page = page_of(tmp_path / "lstm", lambda record: record | without, write=write_result)
    assert keys_of(page) == [
        ["probe, 95% interval"],
        ["probe, 95% interval"],
        ["plain fit, 95% interval", "balanced fit", "majority"],
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prevalence": 0.0, "n_holds": 0}, "holds nowhere in the test sequences"),
        ({"prevalence": 1.0, "n_holds": 20_000}, "holds everywhere in the test sequences"),
        ({"prevalence": None, "n_test": 0, "n_holds": 0}, "undefined in the test sequences"),
        ({"prevalence": 0.5, "folds": 5}, "in no fold does it hold here and not there"),
    ],
)
def test_what_the_test_sequences_cannot_score_says_why(tmp_path, write_result, texts_to_draw, change, why):
    change |= {"auroc": None, "auroc_low": None, "auroc_high": None, "f1": 0.0, "f1_low": 0.0, "f1_high": 0.1}
    page = page_of(
        tmp_path / "lstm", lambda record: record | change if record["kind"] == "boolean" else record, write=write_result
    )
    *shown, judged = cells(tables(page)["auroc"]["inside_string"])
    assert judged == f"not scored ({why})" and shown.pop(5).startswith(("0 of", "20,000", "2,400"))
    assert shown == ["inside_string", *["–"] * 5]
    assert cells(tables(page)["f1"]["inside_string"]) == ["inside_string", *["–"] * 5]


def test_what_has_no_interval_has_a_dash(tmp_path, write_result, texts_to_draw):
    page = page_of(
        tmp_path / "lstm", lambda record: record | {"auroc_low": None, "auroc_high": None}, write=write_result
    )
    value = cells(tables(page)["auroc"]["inside_string"])[2]
    assert value.endswith(" –") and value[0] == "."


def test_what_lies_beyond_the_left_end_is_an_arrow(tmp_path, write_result, texts_to_draw):
    folder = write_result(tmp_path / "lstm", hypotheses=[("inside_string", r'"[^"\n]*"', 0.9)])
    change = {"auroc": 0.41, "r2": -0.3}
    records = [
        record | {key: value for key, value in change.items() if record[key] is not None}
        for record in json.loads((folder / "probes.json").read_text())
    ]
    (folder / "probes.json").write_text(json.dumps(records))
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    for measure, rows in tables(page).items():
        for row in rows.values():
            arrows = [e for e in within(row, "path") if e["attrs"]["class"] == "plain dot"]
            assert len(arrows) == (measure != "f1") and bool(within(row, "circle")) == (measure == "f1")
