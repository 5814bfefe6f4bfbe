"""report_chart.py: the charts of the answer show the numbers of the records."""

import json

import pytest
from report_page import Page, keys_of, page_of, tables, within

from gatescope.analysis.read_results import read_results
from gatescope.analysis.report import write_report
from gatescope.analysis.report_chart import CROSS, marks_of
from gatescope.analysis.results import headline, leading, score


@pytest.mark.parametrize(("measure", "least"), [("auroc", 0.5), ("f1", 0.0), ("r2", 0.0)])
def test_the_charts_match_the_numbers(folder, page, measure, least):
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


def test_an_interval_clipped_at_the_left_end_is_marked(tmp_path, write_result, texts_to_draw):
    whole = page_of(tmp_path / "whole", lambda record: record, write=write_result)
    assert not [key for keys in keys_of(whole) for key in keys if "below" in key]
    cut = page_of(tmp_path / "cut", lambda record: record | {"auroc_low": 0.4, "r2_low": -0.3}, write=write_result)
    for measure, rows in tables(cut).items():
        for row in rows.values():
            marks = [e for e in within(row, "path") if e["attrs"]["class"] == "plain cut"]
            assert len(marks) == (measure != "f1")
            # The score itself stays where it is.
            assert within(row, "circle")
    assert [keys[-1] for keys in keys_of(cut)[:2]] == ["goes on below the axis"] * 2
    text = page_of(tmp_path / "text", lambda record: record | {"baseline_text_r2": -0.2}, write=write_result)
    for row in tables(text)["r2"].values():
        assert [e["attrs"]["class"] for e in within(row, "path")] == ["mark", "mark cut"]


def test_values_beyond_the_left_end_become_arrows(tmp_path, write_result, texts_to_draw):
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


@pytest.mark.parametrize(("measure", "least"), [("auroc", 0.5), ("r2", 0.0)])
def test_values_on_the_left_end_are_drawn_normally(measure, least):
    keys = (measure, f"{measure}_low", f"{measure}_high", f"baseline_text_{measure}")
    marks = marks_of(dict.fromkeys(keys, least), measure, "plain", 8)
    assert 'cut"' not in marks and '<circle class="plain dot" cx="0.0%"' in marks and CROSS in marks
    marks = marks_of(dict.fromkeys(keys, least - 0.01), measure, "plain", 8)
    assert marks.count('"mark cut"') == 1 and '<path class="plain dot"' in marks and "<circle" not in marks


def test_the_f1_chart_marks_the_majority_beside_each_fit(folder, page):
    (result,) = read_results([folder])
    chosen, seen = headline(result.records), 0
    for name, row in tables(page)["f1"].items():
        lead = leading(chosen[name])
        marks = [e["attrs"] for e in within(row, "line") if e["attrs"]["class"] == "mark"]
        if lead["f1"] is None:
            assert not marks
            continue
        seen += 1
        for mark in marks:
            assert (
                mark["x1"] == mark["x2"] and abs(float(mark["x1"][:-1]) / 100 - lead["baseline_majority_f1"]) <= 0.0005
            )
        assert len(marks) == len(chosen[name]) == 2
    assert seen >= 2
