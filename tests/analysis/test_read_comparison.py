"""read_comparison.py: the rows of folders that are cells of a `gatescope reproduce`; damaged files are refused."""

import json

import pytest

from gatescope.analysis.read_comparison import read_comparison
from gatescope.analysis.reproduction import EXPERIMENTS, METRICS, compared
from gatescope.engine.errors import InputError


def test_each_cell_gets_its_rows_and_other_folders_get_none(tmp_path):
    tables = [compared(EXPERIMENTS["linux"], cell, [], 1.5) for cell in ("lstm", "gru")]
    assert read_comparison([tmp_path / "gru"]) == []
    (tmp_path / "reproduction.json").write_text(json.dumps([row for rows in tables for row in rows]))
    found = read_comparison([tmp_path / "gru", tmp_path / "other", str(tmp_path / "lstm")])
    assert [[(row["cell"], row["name"]) for row in rows] for rows in found] == [
        [(cell, row.name) for row in EXPERIMENTS["linux"].rows] for cell in ("gru", "lstm")
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name is None, expected text"),
        ({"paper": {"f1": 1.0}}, "expected hypotheses"),
        ({"validation_nats": {"paper": 1.0, "ours": "<b>"}}, "expected hypotheses"),
        ({"corrected": {metric: {"plain": "x"} for metric in METRICS}}, "expected hypotheses"),
        ({"corrected": {"f1": {"plain": 0.5, "balanced": 0.5}}}, "expected hypotheses"),
        ({"hypotheses": {}}, "expected hypotheses"),
    ],
)
def test_a_damaged_comparison_is_refused_by_name(tmp_path, change, said):
    rows = compared(EXPERIMENTS["shakespeare"], "lstm", [], 1.5)
    (tmp_path / "reproduction.json").write_text(json.dumps([rows[0], rows[1] | change]))
    with pytest.raises(InputError, match=f"reproduction.json, record 1: {said}"):
        read_comparison([tmp_path / "lstm"])
