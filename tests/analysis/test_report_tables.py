"""report_tables.py: the first tables of the page hold the numbers of the records."""

import pytest
from report_page import cells, keys_of, page_of, tables

from gatescope.analysis.read_results import read_results
from gatescope.analysis.results import headline, leading, score, verdict


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


def test_f1_of_both_fits_has_its_own_table(folder, page):
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


def test_the_legend_omits_absent_baselines(tmp_path, write_result, texts_to_draw):
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
        ({"prevalence": 0.5, "folds": 5}, "no fold tests both labels"),
    ],
)
def test_hypotheses_that_cannot_be_scored_give_the_reason(tmp_path, write_result, texts_to_draw, change, why):
    change |= {"auroc": None, "auroc_low": None, "auroc_high": None, "f1": 0.0, "f1_low": 0.0, "f1_high": 0.1}
    page = page_of(
        tmp_path / "lstm", lambda record: record | change if record["kind"] == "boolean" else record, write=write_result
    )
    *shown, judged = cells(tables(page)["auroc"]["inside_string"])
    assert judged == f"not scored ({why})" and shown.pop(5).startswith(("0 of", "20,000", "2,400"))
    assert shown == ["inside_string", *["–"] * 5]
    assert cells(tables(page)["f1"]["inside_string"]) == ["inside_string", *["–"] * 5]


def test_missing_fields_are_shown_as_dashes(tmp_path, write_result, texts_to_draw):
    """Records of an earlier version lack the number of characters at which a hypothesis holds."""
    older = {"n_holds": None, "n_test": None, "best_unit_auroc": None, "top_units": []}
    page = page_of(tmp_path / "lstm", lambda record: record | older, write=write_result)
    shown = cells(tables(page)["auroc"]["inside_string"])
    assert shown[5:7] == ["–", "–"] and shown[2][0] == "."


def test_missing_intervals_are_shown_as_dashes(tmp_path, write_result, texts_to_draw):
    page = page_of(
        tmp_path / "lstm", lambda record: record | {"auroc_low": None, "auroc_high": None}, write=write_result
    )
    value = cells(tables(page)["auroc"]["inside_string"])[2]
    assert value.endswith(" –") and value[0] == "."
