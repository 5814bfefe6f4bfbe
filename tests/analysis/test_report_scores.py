"""report_scores.py: the tables of all scores and of state sets hold the numbers of the records."""

import json

import pytest
from report_page import Page, body_rows, cells, within

from gatescope.analysis.coloured_text import STEPS
from gatescope.analysis.record_fields import SCORES
from gatescope.analysis.report import write_report
from gatescope.analysis.report_scores import COLUMNS, CONTROLS_MEAN, MORE, _tinted
from gatescope.analysis.results import score


def test_every_record_is_in_the_last_table(folder, page):
    records = json.loads((folder / "probes.json").read_text())
    rows = [cells(row) for row in body_rows(page.all("table", **{"class": "sortable"})[0])]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row[:3] == [record["hypothesis"], record["states"], record["weighting"]]
        keys = ["prevalence", "accuracy", "precision", "recall", "f1", "f1_low", "f1_high"]
        keys += ["baseline_majority_f1", "baseline_text_f1", "auroc", "auroc_low", "auroc_high"]
        keys += ["baseline_text_auroc", "average_precision", "balanced_accuracy", "mcc", "log_loss_bits", "ece"]
        keys += ["r2", "baseline_text_r2", "pearson", "best_unit_f1", "best_unit_auroc", "best_unit_pearson"]
        keys += ["localisation"]
        assert row[3:28] == [score(record.get(key)) for key in keys]
        assert row[28:] == ["3.27", "20,000", "layer0/c 17" if record["top_units"] else "–", record["status"]]


def test_state_sets_are_shown_side_by_side(folder, page):
    (table,) = page.all("table", **{"class": "where"})
    heads = [e["text"] for e in within(within(table, "thead")[0], "th")]
    assert heads == ["hypothesis", "layer0/h", "layer0/c", "all"]
    records = json.loads((folder / "probes.json").read_text())
    plain = {(r["hypothesis"], r["states"]): r for r in records if r["weighting"] != "balanced"}
    rows = [cells(row) for row in body_rows(table)]
    assert len(rows) == 6
    for name, *shown in rows:
        metric = "r2" if plain[name, "all"]["kind"] == "continuous" else "auroc"
        assert shown == [score(plain[name, states][metric]) for states in heads[1:]]


def test_controls_are_in_the_last_table_if_present(tmp_path, write_result, texts_to_draw):
    folder = write_result(tmp_path / "lstm", hypotheses=[("inside_string", '"', 0.9)])
    controls = {"control_score": 0.11, "selectivity": 0.72, "compression": 1.9, "leak": 0.07, "best_unit_q": 0.03}
    controls |= {"untrained_score": 0.66, "above_untrained_low": 0.08, "above_untrained_high": 0.2}
    records = [record | controls for record in json.loads((folder / "probes.json").read_text())]
    (folder / "probes.json").write_text(json.dumps(records))
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    (table,) = page.all("table", **{"class": "sortable"})
    heads = [e["text"] for e in within(within(table, "thead")[0], "th")]
    row = cells(body_rows(table)[0])
    shown = {"control": ".11", "selectivity": ".72", "untrained": ".66", "leak": ".07"}
    shown |= {"above it, low": ".08", "above it, high": ".20"}
    assert {head: cell for head, cell in zip(heads, row, strict=True) if head in shown} == shown
    words = "3 of 3 are predicted better than from states of random weights, by the whole interval."
    assert words in page.all("p", **{"class": "answer"})[0]["text"]
    assert sum(each["text"].startswith("Controls, in the table of all scores.") for each in page.all("p")) == 1
    (folder / "probes.json").write_text(json.dumps([{**each, "above_untrained_low": -0.1} for each in records]))
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    assert words.replace("3", "0", 1) in page.all("p", **{"class": "answer"})[0]["text"]


@pytest.mark.parametrize("chance", [0.5, 0.0])
def test_tints_range_from_chance_to_a_perfect_score(chance):
    values = {chance - 0.2: 0, chance: 0, (1 + chance) / 2: STEPS // 2, 1 - (1 - chance) / STEPS: STEPS - 1, 1.0: STEPS}
    for value, step in values.items():
        assert f'class="s{step}"' in _tinted(value, chance, best=False)


def test_columns_use_only_fields_validated_on_reading():
    """A misspelt field would become a column of dashes."""
    fields = [field for _, field in (*COLUMNS, *MORE)]
    assert len(set(fields)) == len(fields) and set(fields) <= set(SCORES)
    assert CONTROLS_MEAN.keys() <= set(fields)
