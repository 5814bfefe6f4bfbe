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
        _, _, value, text, other, unit, judged = cells(rows[measure][name])
        seen.append(name)
        if record[measure] is None:
            assert (value, text, unit, judged) == ("–", "–", "–", "not scored (one_class)")
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
            for shown, record in zip(fits, weightings.values(), strict=True):
                if record["f1"] is not None:
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
