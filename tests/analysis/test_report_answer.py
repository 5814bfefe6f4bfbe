"""report_answer.py: the opening of the page."""

import json

import pytest
from report_page import Page

from gatescope.analysis.read_results import read_results
from gatescope.analysis.report import write_report
from gatescope.analysis.results import headline, leading, score, verdict


def test_the_page_opens_with_the_question_and_the_answer(folder, page):
    (result,) = read_results([folder])
    records = [leading(weightings) for weightings in headline(result.records).values()]
    known = [record for record in records if verdict(record) == "known"]
    best = max((record for record in known if record["kind"] == "boolean"), key=lambda record: record["auroc"])
    column = max((record for record in known if record["kind"] == "continuous"), key=lambda record: record["r2"])
    assert page.all("h1")[0]["text"] == "What do the hidden states know, and which units know it?"
    (answer,) = page.all("p", **{"class": "answer"})
    assert answer["text"].startswith(f"The states know {len(known)} of {len(records) - 1} hypotheses:")
    assert f"Best known is {best['hypothesis']} (AUROC {score(best['auroc'])}, text baseline" in answer["text"]
    assert f"predicts it best is layer0/c 17 (AUROC {score(best['best_unit_auroc'])})" in answer["text"]
    assert f"Best known continuous one is {column['hypothesis']} (R² {score(column['r2'])}" in answer["text"]
    assert answer["text"].endswith("Not scored: 1.")
    assert page.all("p")[1]["text"] == (
        "LSTM 1 × 128; 132,450 parameters; trained on stdlib; 12,345,678 characters; "
        "validation loss 1.391 nats per character; 100,000 states recorded; 200 sequences."
    )


@pytest.mark.parametrize(("copies", "says"), [(37, False), (78, True)])
def test_the_answer_gives_the_expected_number_of_chance_findings(tmp_path, write_result, texts_to_draw, copies, says):
    folder = write_result(tmp_path / "lstm", copies=copies, hypotheses=[("inside_string", '"', 0.9)])
    (folder / "excerpts.json").unlink()
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    (answer,) = page.all("p", **{"class": "answer"})
    words = "if the states knew none of these 80, about 2 would pass by chance."
    assert (words in answer["text"]) == says and ("by chance" in answer["text"]) == says


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"auroc_over_text_low": -0.2, "auroc_over_text_high": -0.1},
            "The states know none of 1 hypothesis for certain: none is predicted better than chance and "
            "better than from the text alone, each by its whole 95% interval. "
            "Below a baseline: 1.",
        ),
        (
            dict.fromkeys(("auroc_over_text_low", "auroc_over_text_high", "baseline_text_auroc")),
            "The states know none of 1 hypothesis for certain: none is predicted better than chance and better than "
            "from the text alone, each by its whole 95% interval. Undecided: 1. The text is unknown, so there is no "
            "text baseline",
        ),
        (
            dict.fromkeys(("auroc_low", "auroc_high", "auroc_over_text_low", "auroc_over_text_high")),
            "The states know none of 1 hypothesis for certain: none is predicted better than chance and better than "
            "from the text alone, each by its whole 95% interval. Undecided: 1. No score has an interval, because too "
            "few sequences are tested, so nothing is",
        ),
        ({"auroc": None, "status": "one_class"}, "The states know nothing that could be scored. Not scored: 1."),
    ],
)
def test_a_negative_answer_is_given(tmp_path, write_result, change, words):
    folder = write_result(tmp_path / "lstm", hypotheses=[("inside_string", '"', 0.9)])
    records = [r | change for r in json.loads((folder / "probes.json").read_text()) if r["kind"] == "boolean"]
    (folder / "probes.json").write_text(json.dumps(records))
    (folder / "excerpts.json").unlink()
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    answer = page.all("p", **{"class": "answer"})[0]["text"]
    assert answer.startswith(words) and ("No score has an interval" in answer) == ("No score has an interval" in words)
    assert [path.name for path in sorted((folder / "figures").iterdir())] == [
        f"{stem}.{suffix}" for stem in ("auroc", "f1") for suffix in ("png", "svg")
    ]


def answered(tmp_path, write_result, *changes):
    folder = write_result(tmp_path / str(len(list(tmp_path.iterdir()))), hypotheses=[("inside_string", '"', 0.9)])
    first = next(r for r in json.loads((folder / "probes.json").read_text()) if r["kind"] == "boolean")
    records = [first | {"hypothesis": f"h{k}"} | change for k, change in enumerate(changes)]
    (folder / "probes.json").write_text(json.dumps(records))
    (folder / "excerpts.json").unlink()
    page = Page(write_report([folder], folder).read_text(encoding="utf-8"))
    return page.all("p", **{"class": "answer"})[0]["text"]


def test_the_answer_explains_undecided_hypotheses(tmp_path, write_result):
    even = {"auroc_low": 0.9, "auroc_over_text_low": -0.01, "auroc_over_text_high": 0.01, "baseline_text_auroc": 0.95}
    changes = [even, even | {"baseline_text_auroc": 0.99}, even | {"auroc_low": 0.4}]
    says = (
        "Undecided: 3, 2 of them above chance, but not surely above what the text alone predicts "
        "(the text alone scores .99 or more for 1, which leaves no room above it)."
    )
    assert says in answered(tmp_path, write_result, *changes)
    assert "Undecided: 1." in answered(tmp_path, write_result, changes[2])


def test_the_answer_says_how_many_hypotheses_are_due_to_training(tmp_path, write_result):
    learnt = {"untrained_score": 0.5, "above_untrained_low": 0.1, "above_untrained_high": 0.2}
    worse = {"auroc_over_text_low": -0.1, "above_untrained_low": -0.2, "above_untrained_high": -0.1}
    says = "1 of 2 are predicted better than from states of random weights, by the whole interval"
    assert f"{says}; worse: h1." in answered(tmp_path, write_result, learnt, worse)
    assert f"{says}." in answered(tmp_path, write_result, learnt, worse | {"above_untrained_high": 0.1})
