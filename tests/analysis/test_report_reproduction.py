"""The report's comparison with the paper: every score of `compared`, in its line and column."""

import json

from report_page import Page, body_rows, cells, within

from gatescope.analysis.report import write_report
from gatescope.analysis.reproduction import EXPERIMENTS, compared
from gatescope.analysis.reproduction_table import HEADS

HEADING = "Compared with the paper"


def record(name, weighting, **scores):
    fixed = {"hypothesis": name, "kind": "boolean", "states": "all", "weighting": weighting, "status": "converged"}
    return fixed | {"accuracy": 0.9, "precision": None, "recall": 0.7, "f1": 0.5, "prevalence": 0.125} | scores


def write_comparison(folder, records):
    rows = [row for cell in ("lstm", "gru") for row in compared(EXPERIMENTS["shakespeare"], cell, records, 1.5)]
    (folder / "reproduction.json").write_text(json.dumps(rows))
    return rows


def test_each_hypothesis_has_three_lines(write_result, tmp_path, texts_to_draw):
    folders, records = (
        [write_result(tmp_path / cell) for cell in ("lstm", "gru")],
        [
            record("verbs", "plain"),
            record("verbs", "balanced", f1=0.25),
        ],
    )
    write_comparison(tmp_path, records)
    page = Page(write_report(folders, tmp_path / "out").read_text(encoding="utf-8"))
    assert HEADING in [each["text"] for each in page.all("h2")]
    titles = [each["text"] for each in page.all("h3") if "Figure" in each["text"]]
    assert titles == [
        "LSTM, Figure 5: 1.500 nats per character; the paper on its corpus: 1.350",
        "GRU, Figure 6: 1.500 nats per character; the paper on its corpus: 1.422",
    ]
    table, _ = [each for each in page.all("div") if each["attrs"].get("aria-label") == "The paper’s scores and ours"]
    heads = [each["text"] for each in within(within(table, "thead")[0], "th")]
    assert heads == ["hypothesis", "scores", *HEADS]
    assert [cells(row) for row in body_rows(table)][:6] == [
        ["capitalised", "the paper", "1.00/.99", ".97/.90", ".99/1.00", ".98/.95", ""],
        ["its labels", "not evaluated", "", "", "", ""],
        ["correct labels", "not evaluated", "", "", "", ""],
        ["verbs", "the paper", ".80/.74", ".68/.26", ".29/.66", ".40/.38", ""],
        ["its labels", "not reproducible", "", "", "", ""],
        ["correct labels", ".90/.90", "–/–", ".70/.70", ".50/.25", "12.5%"],
    ]


def test_a_report_without_a_comparison_does_not_mention_the_paper(write_result, tmp_path, texts_to_draw):
    folder = write_result(tmp_path / "demo")
    write_comparison(tmp_path, [])
    assert HEADING not in write_report([folder], folder).read_text(encoding="utf-8")


def test_the_report_of_one_cell_shows_only_its_table(write_result, tmp_path, texts_to_draw):
    folder = write_result(tmp_path / "gru")
    write_comparison(tmp_path, [])
    page = Page(write_report([folder], tmp_path / "out").read_text(encoding="utf-8"))
    assert [each["text"][:3] for each in page.all("h3") if "Figure" in each["text"]] == ["GRU"]


def test_names_of_a_comparison_are_escaped(write_result, tmp_path, texts_to_draw):
    folder = write_result(tmp_path / "lstm")
    rows = write_comparison(tmp_path, [])
    (tmp_path / "reproduction.json").write_text(json.dumps([rows[0] | {"name": "<i>", "figure": "<u>"}]))
    page = write_report([folder], tmp_path / "out").read_text(encoding="utf-8")
    assert "<i>" not in page and "<u>" not in page and "&lt;i&gt;" in page
