"""The paper's numbers and conditions, and which of our records are compared with them."""

import json

import numpy as np
import pytest

from gatescope.analysis import probe_commands
from gatescope.analysis.cli import main
from gatescope.analysis.hypotheses import select
from gatescope.analysis.reproduction import EXPERIMENTS, METRICS, Experiment, Row, compared, conditions
from gatescope.engine.trained_model import load_model

# As printed in the paper: accuracy, precision, recall, F1, each plain/balanced.
FIGURES = {
    ("linux", "lstm"): """
        parentheses .98/.97 .95/.95 .96/.98 .96/.96
        quotation   .99/.99 .84/.82 .91/.93 .87/.87
        comments    .99/.98 .97/.90 .95/.93 .96/.91
        indent > 1  .94/.98 .98/.99 .98/.97 .98/.98
        indent > 2  .97/.98 .97/.93 .94/.97 .95/.95
        indent > 3  .98/.98 .93/.84 .90/.93 .91/.88""",
    ("linux", "gru"): """
        parentheses .96/.94 .93/.88 .96/.91 .94/.90
        quotation   .99/.99 .73/.84 .81/.99 .77/.91
        comments    .95/.93 .92/.94 .84/.75 .88/.83
        indent > 1  .95/.92 .97/.93 .97/.97 .97/.95
        indent > 2  .96/.93 .93/.95 .96/.88 .95/.91
        indent > 3  .96/.94 .67/.83 .61/.84 .63/.84""",
    ("shakespeare", "lstm"): """
        capitalised 1.00/.99 .97/.90 .99/1.0 .98/.95
        verbs       .80/.74 .68/.26 .29/.66 .40/.38
        nouns       .81/.80 .72/.68 .63/.75 .67/.72""",
    ("shakespeare", "gru"): """
        capitalised 1.00/.99 .99/.99 1.0/1.0 .99/1.00
        verbs       .78/.76 .68/.59 .59/.73 .63/.65
        nouns       .91/.77 .49/.24 .18/.81 .26/.37""",
}


def printed(name, cell):
    """The rows of a figure: names, and scores [4, 2]."""
    for line in FIGURES[name, cell].strip().splitlines():
        *words, a, p, r, f = line.split()
        yield " ".join(words), np.array([list(map(float, pair.split("/"))) for pair in (a, p, r, f)])


def record(name, weighting, states="all", **scores):
    fixed = {"hypothesis": name, "kind": "boolean", "states": states, "weighting": weighting, "status": "converged"}
    return fixed | scores


@pytest.mark.parametrize(("name", "cell"), FIGURES)
def test_the_papers_scores_equal_the_printed_figures(name, cell):
    rows = compared(EXPERIMENTS[name], cell, [], 1.5)
    assert [row["name"] for row in rows] == [each for each, _ in printed(name, cell)]
    for row, (_, scores) in zip(rows, printed(name, cell), strict=True):
        found = [[row["paper"][metric][weighting] for weighting in ("plain", "balanced")] for metric in METRICS]
        np.testing.assert_array_equal(found, scores)
        assert row["legacy"] is None and row["corrected"] is None
        assert row["validation_nats"] == {"paper": EXPERIMENTS[name].nats[cell], "ours": 1.5}


@pytest.mark.parametrize(
    ("name", "perplexities"), [("shakespeare", (2.55, 2.68)), ("linux", (2.23, 2.29))], ids=["shakespeare", "linux"]
)
def test_the_papers_perplexity_is_two_to_the_power_of_the_nats(name, perplexities):
    nats = EXPERIMENTS[name].nats
    np.testing.assert_allclose([2 ** nats["lstm"], 2 ** nats["gru"]], perplexities, rtol=1e-12)


def implied_share(scores, weighting):
    """The share of characters at which a hypothesis holds, implied by accuracy, precision and recall."""
    accuracy, precision, recall = (scores[metric][weighting] for metric in METRICS[:3])
    return (1 - accuracy) / (1 - recall + recall * (1 / precision - 1))


def test_the_papers_scores_imply_the_expected_prevalence():
    shares = {
        (row["figure"], row["name"]): [round(implied_share(row["paper"], each), 2) for each in ("plain", "balanced")]
        for experiment, cell in FIGURES
        for row in compared(EXPERIMENTS[experiment], cell, [], 1.5)
    }
    assert [shares["Figure 5", name] for name in ("verbs", "nouns")] == [[0.24, 0.12], [0.31, 0.33]]
    assert [shares["Figure 6", name] for name in ("verbs", "nouns")] == [[0.32, 0.31], [0.09, 0.08]]
    # This holds however the scores were rounded.
    assert (1 - 0.945) / (1 - 0.975 + 0.975 * (1 / 0.975 - 1)) > 1 and shares["Figure 3", "indent > 1"][0] == 1.5


def test_models_are_trained_as_the_paper_says():
    train, sample, probe = conditions(EXPERIMENTS["linux"], "gru", 7, 50)
    assert (train.cell, train.layers, train.hidden, train.dropout, train.reset_after) == ("gru", 3, 512, 0.3, False)
    assert (train.batch, train.length, train.steps, train.learning_rate, train.warm_up) == (128, 200, 7, 0.01, 200)
    assert (sample.sequences, sample.length, sample.temperature, sample.capture) == (50, 500, 0.8, ("h", "c"))
    assert (probe.alignment, probe.test_share, probe.ranking) == ("pre", 0.05, "weight")
    train, _, _ = conditions(EXPERIMENTS["shakespeare"], "lstm", 7, 50)
    assert (train.cell, train.layers, train.hidden, train.dropout, train.warm_up) == ("lstm", 2, 128, 0.0, 0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_hypothesis_is_in_the_library(name):
    language = {"shakespeare": "english", "linux": "c"}[name]
    *_, probe = conditions(EXPERIMENTS[name], "lstm", 1, 40)
    found = {each.name: each for each in select(probe.hypotheses, language)}
    for row in EXPERIMENTS[name].rows:
        assert found[row.corrected].values == "boolean" and not row.corrected.startswith("legacy")
        assert row.legacy is None or row.legacy.startswith("legacy_")


def test_records_of_all_states_are_compared_with_the_paper():
    records = [
        record("legacy_capitals", "plain", "layer0/h", f1=0.1),
        record("legacy_capitals", "plain", accuracy=0.9, precision=0.8, recall=None, f1=0.7, prevalence=0.25),
        record("legacy_capitals", "balanced", accuracy=0.5, precision=0.4, recall=0.3, f1=0.2, prevalence=0.25),
        record("verbs", "plain", f1=0.6),
    ]
    capitals, verbs, nouns = compared(EXPERIMENTS["shakespeare"], "gru", records, 1.5)
    assert capitals["legacy"] == {
        "accuracy": {"plain": 0.9, "balanced": 0.5},
        "precision": {"plain": 0.8, "balanced": 0.4},
        "recall": {"plain": None, "balanced": 0.3},
        "f1": {"plain": 0.7, "balanced": 0.2},
        "prevalence": {"plain": 0.25, "balanced": 0.25},
    }
    assert (capitals["cell"], capitals["figure"], capitals["corrected"]) == ("gru", "Figure 6", None)
    assert verbs["corrected"]["f1"] == {"plain": 0.6} and verbs["legacy"] is None
    assert nouns["corrected"] is None and nouns["hypotheses"] == {"legacy": None, "corrected": "nouns"}


@pytest.fixture
def small(monkeypatch):
    """An experiment that takes seconds."""
    scores = tuple(round(0.1 * n, 1) for n in range(1, 9))
    rows = (
        Row("capitalised", "legacy_capitals", "capitals_word", {"lstm": scores, "gru": scores}),
        Row("words", None, "inside_word", {"lstm": scores, "gru": scores}),
    )
    figures, nats = {"lstm": "Figure 5", "gru": "Figure 6"}, {"lstm": 1.25, "gru": 1.5}
    experiment = Experiment(1, 8, 0.0, 2, 0, figures, nats, rows)
    monkeypatch.setattr(probe_commands, "EXPERIMENTS", {"shakespeare": experiment})


def test_both_models_are_trained_and_compared(small, tmp_path, capsys, texts_to_draw):
    text = "First Citizen:\nWe are accounted POOR citizens.\n\nKING HENRY\n"
    (tmp_path / "text").write_text(text * 600)
    words = ["reproduce", "shakespeare", "--corpus", tmp_path / "text", "--out", tmp_path / "out", "--sequences", 20]
    assert main(list(map(str, words))) == 0
    out, err = capsys.readouterr()
    assert err.count("need 8: give more --sequences\n") == 2
    rows = json.loads((tmp_path / "out" / "reproduction.json").read_text())
    assert [(row["cell"], row["name"]) for row in rows] == [
        (cell, name) for cell in ("lstm", "gru") for name in ("capitalised", "words")
    ]
    for row in rows:
        records = json.loads((tmp_path / "out" / row["cell"] / "probes.json").read_text())
        states = "all" if row["cell"] == "lstm" else "layer0/h"
        for key in ("legacy", "corrected"):
            for metric in METRICS if row["hypotheses"][key] else ():
                assert row[key][metric] == {
                    each["weighting"]: each[metric]
                    for each in records
                    if each["hypothesis"] == row["hypotheses"][key] and each["states"] == states
                }
    models = [load_model(tmp_path / "out" / cell / "model") for cell in ("lstm", "gru")]
    losses = [model.training["validation_nats"] for model in models]
    for cell, figure, ours, paper in zip(("LSTM", "GRU"), (5, 6), losses, ("1.250", "1.500"), strict=True):
        assert f"{cell}, Figure {figure}: {ours:.3f} nats per character; the paper on its corpus: {paper}" in out
    assert [row["validation_nats"]["ours"] for row in rows[::2]] == losses
    assert "not reproducible" in out and "its labels: our scores, with labels as its parsers made them" in out
    assert (
        "LSTM, Figure 5: " in (tmp_path / "out" / "report.html").read_text()
        and (tmp_path / "out" / "gru" / "model").is_dir()
    )
    # When repeated, it reports the same, except for how it was read.
    before = (tmp_path / "out" / "lstm" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(list(map(str, words))) == 0
    assert (tmp_path / "out" / "lstm" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert capsys.readouterr().out.splitlines() == [line for line in out.splitlines() if "of them tested" not in line]
    assert main(["info", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "output of `gatescope reproduce`" in said and said.count("output of `gatescope run`") == 2
    # Other settings are refused by name.
    assert main([*map(str, words), "--steps", "3"]) == 2
    assert "train.steps = 2, not 3" in capsys.readouterr().err


@pytest.mark.parametrize("overwrite", [False, True])
def test_rerunning_one_cell_removes_the_old_comparison(small, tmp_path, overwrite, capsys):
    (tmp_path / "text").write_text("KING HENRY\nWe are POOR.\n" * 1500)
    out = tmp_path / "out"
    out.mkdir()
    (out / "reproduction.json").write_text("[]")
    (out / "gru").write_text("in the way")
    words = ["reproduce", "shakespeare", "--corpus", tmp_path / "text", "--out", out, "--sequences", 20]
    assert main([*map(str, words), *["--overwrite"] * overwrite]) == 2
    assert (out / "lstm" / "probes.json").exists() and (out / "reproduction.json").exists() != overwrite
