"""The report's table of differences, against `pairs_of`, and the reason where there is none."""

import shutil

import numpy as np
import pytest
from report_page import Page, body_rows, cells, within
from two_results import H, N, probe, write_labels, write_states

from gatescope.analysis.cli import main
from gatescope.analysis.difference import pairs_of, unexceeded_sets
from gatescope.analysis.read_results import read_records, read_results
from gatescope.analysis.report import write_report
from gatescope.analysis.results import headline, score, signed

HEADING = "Differences"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("<two>")
    labels = write_labels(folder / "labels.npz")
    return [
        probe(write_states(folder / f"{name}.npz", s), labels, folder / name) for name, s in (("a", 0.7), ("b&", 1.3))
    ]


def test_a_page_of_two_results_has_their_differences(folders, tmp_path, texts_to_draw, capsys):
    assert main(["report", *map(str, folders), "--out", str(tmp_path)]) == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert HEADING in [each["text"] for each in page.all("h2")]
    assert "b& above a" in [each["text"] for each in page.all("h3")]
    (table,) = [each for each in page.all("div") if each["attrs"].get("aria-label") == "b& above a"]
    heads = [each["text"] for each in within(within(table, "thead")[0], "th")]
    assert heads == ["hypothesis", "a, h", "b&, h", "difference", "95%", "q"]
    (pair,) = pairs_of(read_results(folders))
    expected = [
        [
            *(each.hypothesis, score(each.first), score(each.second), signed(each.second - each.first)),
            *(f"{signed(each.low)} to {signed(each.high)}", score(each.q)),
        ]
        for each in pair.differences
    ]
    assert len(expected) == 2 and [cells(row) for row in body_rows(table)] == expected
    assert [each["text"] for each in within(table, "b")] == [row[3] for row in expected]
    said = capsys.readouterr().out
    assert all(word in said for row in expected for word in row)


def test_the_terminal_shows_every_score_of_three_results(folders, tmp_path, texts_to_draw, capsys):
    labels = folders[0].parent / "labels.npz"
    third = probe(write_states(tmp_path / "c.npz", 1.0), labels, tmp_path / "c")
    assert main(["report", *map(str, [*folders, third]), "--out", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = [[score(each.first), score(each.second)] for each in pairs_of(read_results(folders))[0].differences]
    (held,) = [line for line in lines if line[:1] == ["held"]]
    text = score(headline(read_records(folders[0]))["held"]["plain"]["baseline_text_auroc"])
    assert [word.removesuffix("*") for word in held[1:4]] == [text, *scores[0]] and len(held) == 5
    assert sum("(Benjamini" in line for line in lines) == 1
    # Two results have only their difference.
    assert main(["report", *map(str, folders), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "\nheld " not in said and said.count("Benjamini") == 1


def test_incomparable_results_give_the_reason(folders, tmp_path, texts_to_draw, capsys):
    other = probe(folders[0].with_suffix(".npz"), folders[0].parent / "labels.npz", tmp_path / "other", seed=1)
    assert main(["report", str(folders[1]), str(other), "--out", str(tmp_path)]) == 0
    words = "other is not compared with b&: they were tested on different characters"
    assert words in " ".join(capsys.readouterr().out.split())
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [each["text"] for each in page.all("p") if words in each["text"]]


def test_one_result_has_no_differences(folders, tmp_path, texts_to_draw):
    assert main(["report", str(folders[0]), "--out", str(tmp_path)]) == 0
    assert HEADING not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_state_sets_exceeded_by_no_other_are_bold(folders, tmp_path, texts_to_draw):
    c = np.random.default_rng(1).normal(size=(N, H)).astype(np.float32)
    states = write_states(tmp_path / "s.npz", 1.3, c=c)
    out = probe(states, folders[0].parent / "labels.npz", tmp_path / "out")
    page = Page(write_report([out], out).read_text(encoding="utf-8"))
    (table,) = page.all("table", **{"class": "where"})
    (result,) = read_results([out])
    bold = [[bool(within(cell, "b")) for cell in within(row, "td")] for row in body_rows(table)]
    sets, names = [each["text"] for each in within(within(table, "thead")[0], "th")][1:], ["held", "never", "value"]
    assert [cells(row)[0] for row in body_rows(table)] == ["held", "never", "value"]
    assert bold == [[(name, each) in unexceeded_sets(result) for each in sets] for name in names]
    assert any(map(any, bold)) and not all(bold[0])
    words = "In bold: scores that no other set exceeds"
    assert any(words in each["text"] for each in page.all("p"))
    results = write_report(folders[:1], tmp_path / "one").read_text(encoding="utf-8")
    assert words not in results


def test_damaged_coefficients_prevent_the_report(folders, tmp_path, capsys):
    copy = shutil.copytree(folders[0], tmp_path / "copy")
    (copy / "coefficients.safetensors").write_bytes(b"x")
    states = write_states(tmp_path / "s.npz", 1.3, c=np.ones((N, H), np.float32))
    probe(states, folders[0].parent / "labels.npz", tmp_path / "two_sets")
    (tmp_path / "two_sets" / "coefficients.safetensors").write_bytes(b"x")
    for results in ([folders[1], copy], [tmp_path / "two_sets"]):
        assert main(["report", *map(str, results), "--out", str(tmp_path / "out")]) == 2
        assert "coefficients.safetensors is damaged" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "out").exists()
