"""The report's gates: the table, and where the dots stand."""

import json
import re

import pytest
from report_page import Page, body_rows, cells, within

from gatescope.analysis.report import write_report
from gatescope.analysis.report_gates import SIDE

HEADING = "How far are the gates open?"
GATES = [
    {"layer": 0, "gate": "f", "open": [0.95, 0.5, 0.9, 0], "shut": [0.05, 0.25, 0, 1]},
    {"layer": 1, "gate": "o<b>", "open": [0], "shut": [0]},
]


@pytest.fixture
def page(write_result, tmp_path, texts_to_draw):
    folder = write_result(tmp_path / "a")
    (folder / "gates.json").write_text(json.dumps(GATES))
    text = write_report([folder], folder).read_text(encoding="utf-8")
    return Page(text), text


def test_the_table_has_shares_and_units(page):
    (table,) = [
        each for each in page[0].all("div") if each["attrs"].get("aria-label") == "How often gates are open and shut"
    ]
    assert [cells(row) for row in body_rows(table)] == [
        ["layer0\u00a0f", ".59", ".32", ".09", "1 of 4", "1 of 4"],
        ["layer1\u00a0o<b>", ".00", ".00", "1.00", "0 of 1", "0 of 1"],
    ]
    assert "o<b>" not in page[1]
    (note,) = [each["text"] for each in page[0].all("p") if each["text"].startswith("A gate is open above .9")]
    assert "shut below .1." in note and "for more than .9 of the characters" in note


def test_each_unit_is_a_dot(page):
    dots = re.findall(r'class="units" d="([^"]*)"', page[1])
    places = [[tuple(map(float, each)) for each in re.findall(r"M([\d.]+) ([\d.]+)h0", path)] for path in dots]
    assert places[1] == [(0, SIDE)]
    pairs = zip(GATES[0]["open"], GATES[0]["shut"], strict=True)
    expected = [(SIDE * shut, SIDE * (1 - is_open)) for is_open, shut in pairs]
    assert [tuple(map(pytest.approx, each)) for each in places[0]] == expected
    # Each layer has a row of its own.
    rows = page[0].all("div", **{"class": "gates"})
    assert [len(within(row, "figure")) for row in rows] == [1, 1]


def test_units_that_are_always_open_or_shut_are_named(write_result, tmp_path, texts_to_draw):
    folder = write_result(tmp_path / "a")
    many = {"layer": 1, "gate": "i", "open": [0.0] + [1.0] * 60, "shut": [0.9] + [0.0] * 60}
    (folder / "gates.json").write_text(json.dumps([*GATES, many]))
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    (listed,) = [each for each in page.all("details") if each["text"].startswith("Units always open or shut")]
    # Nine tenths of the time is not always.
    assert [each["text"] for each in within(listed, "li")] == [
        "layer0\u00a0f open: 0",
        "layer0\u00a0f shut: 3",
        "layer1\u00a0i open: " + ", ".join(map(str, range(1, 51))) + "\u00a0…",
    ]


def test_only_results_with_gates_have_a_named_section(write_result, tmp_path, texts_to_draw):
    first, second = write_result(tmp_path / "a"), write_result(tmp_path / "b")
    assert HEADING not in write_report([first], tmp_path / "r").read_text()
    (second / "gates.json").write_text(json.dumps(GATES))
    page = Page(write_report([first, second], tmp_path / "r").read_text())
    assert HEADING in [each["text"] for each in page.all("h2")] and "b" in [each["text"] for each in page.all("h3")]
