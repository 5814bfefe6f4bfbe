"""The report's table of ablations."""

import json

import pytest
from held_record import erased_record, record
from report_page import Page, body_rows, cells

from gatescope.analysis.read_results import read_results
from gatescope.analysis.report import write_report
from gatescope.analysis.report_html import MOST_OPEN
from gatescope.engine.errors import InputError

HEADING = "Does the network use these units?"


def held(write_result, folder, records):
    write_result(folder)
    (folder / "ablation.json").write_text(records if isinstance(records, str) else json.dumps(records))
    return folder


def region(page):
    return [each for each in page.all("div") if each["attrs"].get("aria-label") == "Loss while units are held"]


def test_every_set_of_units_has_a_row(write_result, tmp_path, texts_to_draw):
    records = [
        record(),
        record(hypothesis="b<script>", method="zero", units=[{"layer": 0, "unit": unit} for unit in (3, 4)]),
    ]
    folder = held(write_result, tmp_path / "a", records)
    text = write_report([folder], folder).read_text()
    page = Page(text)
    assert HEADING in [each["text"] for each in page.all("h2")] and "b<script>" not in text
    (table,) = region(page)
    found = [cells(row) for row in body_rows(table)]
    assert found[0][1:] == [
        *(
            "auroc, weight_sd",
            "layer1 17",
            "+.123",
            "-.010 to +1.250",
            "+.000",
            "+.020",
            "+.031",
            ".02",
            ".06",
            "1.00",
            ".99",
            *("–", "–", "–"),
        )
    ]
    assert found[1][0].replace("\u200b", "") == "b<script> 1,234" and found[1][2] == "first 2"
    assert [each["text"] for each in page.all("li")] == ["b<script>, auroc, weight_sd, first 2: layer0 3, layer0 4"]
    (note,) = [each["text"] for each in page.all("p") if "in nats per character: at characters" in each["text"]]
    assert "held at their mean over the characters read or 0, after" in note
    assert note.startswith("The model reads 20 unseen sequences again (5,980 characters) while")
    assert "the mean of 40 sets of as many random units in" in note
    assert not any("LEACE" in each["text"] for each in page.all("p"))


def test_a_direction_has_a_row_and_an_explanation(write_result, tmp_path, texts_to_draw):
    folder = held(write_result, tmp_path / "a", [record(), erased_record()])
    page = Page(write_report([folder], folder).read_text())
    first, second = (cells(row) for row in body_rows(region(page)[0]))
    assert second[1:4] == ["erased", "direction", "+.123"] and second[-3:] == [".90", ".51", ".55"]
    assert len(first) == len(second)
    (note,) = [each["text"] for each in page.all("p") if "in nats per character: at characters" in each["text"]]
    assert "held at their mean over the characters read, after" in note
    assert any("LEACE" in each["text"] for each in page.all("p"))
    assert not [each for each in page.all("summary") if each["text"] == "Units of the sets"]


def test_rows_beyond_the_limit_are_collapsed(write_result, tmp_path, texts_to_draw):
    folder = held(write_result, tmp_path / "a", [record()] * (MOST_OPEN + 2))
    page = Page(write_report([folder], folder).read_text())
    assert [len(body_rows(table)) for table in region(page)] == [MOST_OPEN, 2]
    assert "2 more lines" in [each["text"] for each in page.all("summary")]


def test_only_results_with_an_ablation_have_a_named_section(write_result, tmp_path, texts_to_draw):
    first, second = write_result(tmp_path / "a"), held(write_result, tmp_path / "b", [record()])
    assert HEADING not in write_report([first], tmp_path / "r").read_text()
    page = Page(write_report([first, second], tmp_path / "r").read_text())
    assert len(region(page)) == 1 and "b" in [each["text"] for each in page.all("h3")]


WRONG = {
    "not JSON": ("[", "is not JSON"),
    "no list": ({}, "holds a dict, expected a list"),
    "no object": ([1], "record 0 is a int, expected an object"),
    "no name": ([record(hypothesis=None)], "hypothesis is None"),
    "no number": ([record(), record(p_holds="x")], "record 1: p_holds is 'x'"),
    "no units": ([record(units=[])], "units must be"),
    "units of a direction": ([erased_record(units=[{"layer": 0, "unit": 1}])], "empty for erase"),
    "no AUROC": ([erased_record(auroc_left="x")], "auroc_left is 'x'"),
    "units that are none": ([record(units=[{"layer": 0}])], "units must be"),
    "a unit of words": ([record(units=["layer0/h 1"])], "units must be"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_a_damaged_file_is_named(write_result, tmp_path, content, message):
    folder = held(write_result, tmp_path / "a", content)
    with pytest.raises(InputError, match=r"ablation\.json") as error:
        read_results([folder])
    assert message in str(error.value)
    assert "JSON" not in message or str(error.value).endswith("run `gatescope ablate` again")
