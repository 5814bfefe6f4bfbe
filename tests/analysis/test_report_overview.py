"""The report's overview of three or more results: its numbers and marks are those of the records."""

import json
import shutil

import pytest
from report_page import Page, body_rows, cells, within

from gatescope.analysis.overview import courses_of
from gatescope.analysis.read_results import read_results
from gatescope.analysis.report import write_report
from gatescope.analysis.results import Verdict, headline, leading, score, verdict

STRING = ("inside_string", r'"[^"\n]*"', 0.9)
COMMENT = ("inside_comment", r"/\*.*?\*/", 0.6)


def changed(folder, hypothesis, **values):
    records = json.loads((folder / "probes.json").read_text())
    records = [record | values if record["hypothesis"] == hypothesis else record for record in records]
    (folder / "probes.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_result):
    root = tmp_path_factory.mktemp("steps")
    first = write_result(root / "after_<0>", hypotheses=[STRING, COMMENT], seed=1)
    changed(first, "inside_string", auroc=0.41, auroc_low=0.3, auroc_over_text_low=-0.2)
    changed(first, "line_position", r2=-0.5, r2_low=-0.9, r2_over_text_low=-1.0)
    second = write_result(root / "after_1", hypotheses=[STRING], seed=2)
    third = write_result(root / "after_2", hypotheses=[STRING, COMMENT], seed=3)
    changed(third, "line_position", r2_low=None, r2_high=None)
    return [first, second, third]


@pytest.fixture(scope="module")
def rows(folders, tmp_path_factory):
    """The rows of the overview, by hypothesis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatescope.analysis.report.write_figures", lambda *given: None)
        page = Page(write_report(folders, tmp_path_factory.mktemp("page")).read_text(encoding="utf-8"))
    assert [e["text"] for e in page.all("h2")][:3] == [
        "From result to result",
        "Boolean hypotheses",
        "Continuous hypotheses",
    ]
    (table,) = page.all("table", **{"class": "overview"})
    heads = [e["text"] for e in within(within(table, "thead")[0], "th")]
    assert heads == ["hypothesis", "AUROC, R²", "text", "after_<0>", "after_1", "after_2"]
    return {cells(row)[0].removesuffix(" R²"): row for row in body_rows(table)}


def test_cells_show_scores_in_the_order_of_results(folders, rows):
    results = read_results(folders)
    assert list(rows) == [course.hypothesis for course in courses_of(results)]
    some_known = set()
    for name, row in rows.items():
        texts = {
            score(leading(found)["baseline_text_" + ("auroc" if leading(found)["kind"] == "boolean" else "r2")])
            for result in results
            if (found := headline(result.records).get(name))
        }
        assert within(row, "td")[1]["text"] == (texts.pop() if len(texts) == 1 else "–")
        for result, cell in zip(results, within(row, "td")[2:], strict=True):
            found = headline(result.records).get(name)
            record = leading(found) if found else {}
            assert cell["text"] == score(record.get("auroc" if record.get("kind") == "boolean" else "r2"))
            known = bool(found) and verdict(record) == Verdict.KNOWN
            assert ("known" in cell["attrs"]["class"].split()) == known
            some_known.add(known)
    assert some_known == {True, False}


def test_marks_are_placed_at_the_scores(folders, rows):
    results = read_results(folders)
    for name, row in rows.items():
        records = [leading(found) if (found := headline(result.records).get(name)) else None for result in results]
        there = [place for place, record in enumerate(records) if record]
        measure, least = ("auroc", 0.5) if records[there[0]]["kind"] == "boolean" else ("r2", 0.0)
        (chart,) = [e for e in within(row, "svg") if "height" in e["attrs"]]
        upper, lower = (float(e["attrs"]["y1"]) for e in within(chart, "line") if e["attrs"]["class"] == "grid")

        def y(value, least=least, upper=upper, lower=lower):
            return pytest.approx(lower + (upper - lower) * max(0, (value - least) / (1 - least)), abs=0.06)

        xs = [f"{100 * (2 * place + 1) / 6:.1f}%" for place in there]
        dots = [e["attrs"] for e in within(chart, "circle")]
        assert [(dot["cx"], float(dot["cy"])) for dot in dots] == [
            (x, y(records[place][measure])) for x, place in zip(xs, there, strict=True)
        ]
        bars = [e["attrs"] for e in within(chart, "line") if e["attrs"]["class"] == "plain bar"]
        with_interval = [place for place in there if records[place][f"{measure}_low"] is not None]
        assert [(bar["x1"], bar["x2"]) for bar in bars] == [(xs[there.index(i)],) * 2 for i in with_interval]
        for bar, place in zip(bars, with_interval, strict=True):
            ends = [y(records[place][f"{measure}_{end}"]) for end in ("low", "high")]
            assert [float(bar["y1"]), float(bar["y2"])] == ends
        texts = [e["attrs"] for e in within(chart, "svg")]
        expected = [(x, y(records[i][f"baseline_text_{measure}"])) for x, i in zip(xs, there, strict=True)]
        assert [(text["x"], float(text["y"])) for text in texts] == expected
        # Lines run from dot to dot.
        lines = [e["attrs"] for e in within(chart, "line") if e["attrs"]["class"] == "plain"]
        assert [(line["x1"], line["y1"]) for line in lines] == [(dot["cx"], dot["cy"]) for dot in dots[:-1]]
        assert [(line["x2"], line["y2"]) for line in lines] == [(dot["cx"], dot["cy"]) for dot in dots[1:]]


def test_the_meaning_of_known_is_explained_once(folders, tmp_path, texts_to_draw):
    page = Page(write_report(folders, tmp_path).read_text(encoding="utf-8"))
    words = "on unseen sequences a probe predicts them better than chance"
    assert sum(words in each["text"] for each in page.all("p")) == 1
    answers = [each["text"] for each in page.all("p", **{"class": "answer"})]
    assert [answer.partition(" knows ")[0] for answer in answers] == ["after_<0>", "after_1", "after_2"]


def test_one_penalty_for_all_is_pointed_out(folders, tmp_path, texts_to_draw):
    words = "All probes have the same C, which penalises small states more"
    own = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]

    def written(name, *offered):
        for folder, penalties in zip(own, offered, strict=True):
            config = json.loads((folder / "config.json").read_text())
            config["facts"]["probe"] = {"C": penalties} if penalties else {}
            (folder / "config.json").write_text(json.dumps(config))
        return write_report(own, tmp_path / name).read_text(encoding="utf-8")

    # Results of an earlier gatescope may not state C.
    assert words not in written("unknown", None, None, None)
    assert words in written("one", [1.0], [1.0], [1.0])
    assert words not in written("other", [1.0], [1.0], [100.0])
    assert words not in written("several", [1.0, 100.0], [1.0, 100.0], [1.0, 100.0])


def test_results_tested_on_different_characters_are_pointed_out(folders, tmp_path, texts_to_draw):
    words = "Not all results were tested on the same characters"
    own = [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]
    for folder in own:
        for name in ("inside_string", "inside_comment", "line_position", "parenthesis_depth"):
            changed(folder, name, tested_sha256=f"of {name}")
    assert words not in write_report(own, tmp_path / "one").read_text(encoding="utf-8")
    changed(own[2], "inside_comment", tested_sha256="of another text")
    assert words in write_report(own, tmp_path / "several").read_text(encoding="utf-8")


def test_two_results_have_no_overview(folders, tmp_path, texts_to_draw):
    page = Page(write_report(folders[:2], tmp_path).read_text(encoding="utf-8"))
    heads = [each["text"] for each in page.all("h2")]
    assert "From result to result" not in heads and "Boolean hypotheses" not in heads
