"""The report's table of few units."""

import json

from report_page import Page, body_rows, cells, within

from gatescope.analysis.report import write_report
from gatescope.analysis.report_html import MOST_OPEN

HEADING = "How many units does it take?"
FIVE = "layer0/h 0, layer0/h 1, layer0/h 2, layer0/h 3, layer0/h 4\u00a0…"


def asked(write_result, folder, **hypotheses):
    write_result(folder, **hypotheses)
    records = json.loads((folder / "probes.json").read_text())
    for record in records:
        if record["states"] == "all" and record["weighting"] != "balanced":
            own = "correlation" if record["kind"] == "continuous" else "auroc"
            scores = {own: [0.5] * 3, "selected": [0.625, 0.75, None], "random": [0.51, 0.52, 0.53]}
            record |= {"sparse": {"units": [1, 2, 4], **scores, "reversed": [0.4] * 3}, "units_needed": 2}
            if record["hypothesis"] == "inside_string":
                record["selected_units"] = [{"states": "layer0/h", "unit": unit} for unit in range(7)]
    (folder / "probes.json").write_text(json.dumps(records))
    return folder


def tables(page):
    return [each for each in page.all("div") if each["attrs"].get("aria-label") == "Scores of few units"]


def test_selected_units_are_shown_beside_random_ones(write_result, tmp_path, texts_to_draw):
    folder = asked(write_result, tmp_path / "a", hypotheses=[("inside_string", '"', 0.9)])
    records = json.loads((folder / "probes.json").read_text())
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    (table,) = tables(page)
    assert [each["text"] for each in within(within(table, "thead")[0], "th")] == [
        *("hypothesis", "1", "2", "4", "all", "units for 95%", "selected, in this order")
    ]
    rows = {row[0].replace("\u200b", ""): row[1:] for row in map(cells, body_rows(table))}
    (full,) = [r["auroc"] for r in records if r["hypothesis"] == "inside_string" and "sparse" in r]
    assert rows["inside_string"] == [".62 .51", ".75 .52", "– .53", f"{full:.2f}"[1:], "2", FIVE]
    assert len(rows) == 3 and {row[-1] for name, row in rows.items() if name != "inside_string"} == {"–"}


def test_sparse_tables_need_sparse_scores_and_long_ones_collapse(write_result, tmp_path, texts_to_draw):
    first = write_result(tmp_path / "a")
    assert HEADING not in write_report([first], tmp_path / "r").read_text()
    names = [(f"h{i}", "e", 0.5) for i in range(MOST_OPEN)]
    second = asked(write_result, tmp_path / "b", hypotheses=names)
    page = Page(write_report([first, second], tmp_path / "r").read_text())
    assert HEADING in [each["text"] for each in page.all("h2")] and "b" in [each["text"] for each in page.all("h3")]
    assert [len(body_rows(table)) for table in tables(page)] == [MOST_OPEN, 2]
