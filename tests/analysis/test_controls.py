"""The controls of a study in which one hypothesis is planted, one is chance and one is the last three characters."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score

from gatescope.analysis.controls import best_unit_p, compression, untrained_model
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.scorer import Scorer
from gatescope.analysis.study import Study
from gatescope.analysis.study_fit import fit_study
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes

S, T, H = 60, 40, 12
N = S * T


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """Units 0 to 3 hold the last character, unit 5 a label of its own, the others noise."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, size=N).astype(np.uint8)
    planted = np.repeat(rng.random(N // 5) < 0.3, 5)
    states = 0.5 * rng.normal(size=(N, H))
    states[np.arange(N), tokens] += 3
    states[:, 5] += 2 * planted
    starts = np.arange(S + 1) * T
    spec = DumpSpec(
        {"layer0/h": H}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), {"vocabulary": list("abcd")}
    )
    path = tmp_path_factory.mktemp("evidence") / "states.zarr"
    with DumpWriter(path, spec) as writer:
        writer.append(0, tokens, {"layer0/h": states})
    chance = np.repeat(rng.random(N // 5) < 0.3, 5)
    values = np.stack([planted, chance, tokens == 2], axis=1)
    named = tuple(Hypothesis(name, "any", "boolean", "past", "", list) for name in ("planted", "chance", "character"))
    return StateDump.open(path), Labels(named, values, np.ones((N, 3), bool))


@pytest.mark.parametrize("memory_limit", ["4GB", "100KB"])
def test_controls_separate_known_hypotheses_from_unknown(dump, memory_limit):
    source, labels = dump
    study = Study(source, ProbeConfig(controls=True, bootstrap=20, memory_limit=memory_limit), seed=0)
    (planted, chance, character), _, _ = fit_study(study, "layer0/h", labels, "plain")
    # Random labels of triples are beyond a linear probe that knows a single character.
    assert planted["selectivity"] > 0.35 and character["selectivity"] > 0.35
    # Each of the three numbers is rounded to six digits.
    assert planted["selectivity"] == pytest.approx(planted["auroc"] - planted["control_score"], abs=1.6e-6)
    assert planted["compression"] > 1.5 and character["compression"] > 1.5 and chance["compression"] < 1.05
    assert planted["best_unit_p"] == character["best_unit_p"] == pytest.approx(1 / 201, abs=1e-6)
    assert chance["best_unit_p"] > 0.05
    # Any ten of twelve units share at least eight with any other ten.
    assert 0.8 <= planted["top_units_overlap"] <= 1
    balanced, _, _ = fit_study(study, "layer0/h", labels, "balanced")
    assert "selectivity" not in balanced[0]


def test_continuous_hypotheses_have_a_control_task(dump):
    source, labels = dump
    continuous = Labels(
        (Hypothesis("planted", "any", "continuous", "past", "", list),),
        labels.values[:, :1].astype(np.float32),
        labels.defined[:, :1],
    )
    study = Study(source, ProbeConfig(controls=True, bootstrap=20), seed=0)
    ((record,), _, _) = fit_study(study, "layer0/h", continuous, "none")
    assert record["selectivity"] == pytest.approx(record["r2"] - record["control_score"], abs=1e-5)
    assert record["selectivity"] > 0.3 and record["compression"] is None


@pytest.mark.parametrize("memory_limit", ["4GB", "100KB"])
@pytest.mark.parametrize("continuous", [False, True])
def test_splitting_by_character_inflates_scores_of_sequence_level_labels(dump, continuous, memory_limit):
    """Each sequence either has the label or not; states cannot know it, but they tell sequences apart."""
    source, labels = dump
    values, named = labels.values.copy(), np.repeat(np.random.default_rng(4).random(S) < 0.5, T)
    values[:, 1] = named
    defined = np.stack([np.arange(N) % 5 > 0, np.ones(N, bool), np.arange(N) % 3 > 0], axis=1)
    labels = replace(labels, values=values + 0.5 if continuous else values, defined=defined)
    config = ProbeConfig(controls=True, bootstrap=20, C=(0.3,), memory_limit=memory_limit, test_share=0.3)
    study = Study(source, config, seed=2)
    records, _, _ = fit_study(study, "layer0/h", labels, "none" if continuous else "plain")
    X = source.array("layer0/h")[:].astype(np.float64)
    tested, of_test = np.random.default_rng(2).random(N) < 0.3, np.isin(np.arange(N), study.test_rows)
    measure = r2_score if continuous else roc_auc_score
    for k, record in enumerate(records):
        y, rows, said = labels.values[:, k], labels.defined[:, k], []
        both = rows & tested & of_test
        for unseen in (tested, of_test):
            model = Ridge(alpha=1 / 0.3) if continuous else LogisticRegression(C=0.3, tol=1e-8)
            model.fit(X[rows & ~unseen], y[rows & ~unseen])
            said.append((model.predict if continuous else model.decision_function)(X[both]))
        of_split, of_sequences = (measure(y[both], each) for each in said)
        assert record["character_split_score"] == pytest.approx(of_split, abs=1e-3)
        assert record["leak"] == pytest.approx(of_split - of_sequences, abs=2e-3)
        scorer = Scorer(np.flatnonzero(both) // T, 20, 2)
        _, low, high = scorer.above(y[both, None], *(each[:, None] for each in said), rows[both, None])
        assert [record["leak_low"], record["leak_high"]] == pytest.approx([low[0], high[0]], abs=5e-3)


def test_the_statistic_is_the_auroc_of_the_best_unit(dump, monkeypatch):
    source, labels = dump
    study = Study(source, ProbeConfig(bootstrap=20), seed=0)
    X = study.states("layer0/h", study.train)
    seen = {}

    def observe(statistics, Y, weight, *rest):
        of_parts = [statistic(Y, weight) for statistic in statistics]
        seen["statistic"], seen["parts"] = np.max(of_parts, axis=0), len(of_parts)
        return seen["statistic"]

    monkeypatch.setattr("gatescope.analysis.controls.UNITS_AT_ONCE", 3)
    monkeypatch.setattr("gatescope.analysis.controls.shift_test", observe)
    best_unit_p(study, labels, X)
    Y = labels.values[study.train_rows]
    for k in range(3):
        n1 = Y[:, k].sum()
        ranks = rankdata(X.astype(np.float64), axis=0)[Y[:, k]].sum(axis=0)
        auroc = (ranks - n1 * (n1 + 1) / 2) / (n1 * (len(Y) - n1))
        assert seen["parts"] == -(-X.shape[1] // 3)
        assert seen["statistic"][k] == pytest.approx(np.abs(auroc - 0.5).max(), abs=1e-5)


def test_labels_for_the_online_code_are_shuffled(dump, monkeypatch):
    source, labels = dump
    study = Study(source, ProbeConfig(bootstrap=20), seed=0)
    sent = {}

    def observe(predict_next, Y, weight, cuts):
        sent["Y"] = Y
        return {"compression_entropy": np.zeros(Y.shape[1])}

    monkeypatch.setattr("gatescope.analysis.controls.online_description_length", observe)
    compression(study, LogisticProbes(), "layer0/h", labels)
    in_file = labels.values[study.train_rows]
    assert sent["Y"].sum(axis=0).tolist() == in_file.sum(axis=0).tolist() and (sent["Y"] != in_file).any()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Two dumps of the same sequences, in which only unit 5 moves with the last character; one has tiny states."""
    rng = np.random.default_rng(7)
    tokens, starts, paths = rng.integers(4, size=N).astype(np.uint8), np.arange(S + 1) * T, []
    states = 0.5 * rng.normal(size=(N, H))
    states[:, 5] += tokens == 2
    for scale in (1.0, 2.0**-12):
        paths.append(tmp_path_factory.mktemp("untrained") / "states.zarr")
        spec = DumpSpec(
            {"layer0/h": H}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float32), {"vocabulary": list("abcd")}
        )
        with DumpWriter(paths[-1], spec) as writer:
            writer.append(0, tokens, {"layer0/h": states * scale})
    return [StateDump.open(path) for path in paths], tokens, states


def above_untrained(study, model, labels, own):
    """The score of random-weight states, and the interval of how far a probe's predictions score above it."""
    fitted = untrained_model(study, study.folds[0], model, "layer0/h", labels)
    X = study.states("layer0/h", study.test, study.untrained)
    said = fitted.predict(X) if isinstance(model, RidgeProbes) else fitted.decision_function(X)
    return study.scorer.above(labels.values[study.test_rows], own, said, labels.defined[study.test_rows])


@pytest.mark.parametrize("continuous", [False, True])
def test_untrained_scores_do_not_depend_on_the_scale_of_states(dump, untrained, continuous):
    source, labels = dump
    dumps, tokens, states = untrained
    values = np.stack([tokens == 2, np.roll(tokens, 3) == 1, tokens > 0], axis=1)
    labels = replace(labels, values=values + 0.5 if continuous else values)
    model, sklearn = (RidgeProbes(C=0.02), Ridge) if continuous else (LogisticProbes(C=0.02), LogisticRegression)
    found = []
    for each in dumps:
        study = Study(source, ProbeConfig(bootstrap=20), 0, each)
        own = np.random.default_rng(1).normal(size=(len(study.test_rows), 3))
        found.append(above_untrained(study, model, labels, own))
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
    train, test = study.train_rows, study.test_rows
    C = 0.02 / states[train].var(axis=0).mean()
    for k in range(3):
        y = labels.values[:, k]
        fitted = sklearn(**({"alpha": 1 / C} if continuous else {"C": C})).fit(states[train], y[train])
        predicted = fitted.predict(states[test]) if continuous else fitted.decision_function(states[test])
        score = r2_score if continuous else roc_auc_score
        assert found[0][0][k] == pytest.approx(score(y[test], predicted), abs=1e-3)
        difference = score(y[test], own[:, k]) - found[0][0][k]
        assert found[0][1][k] < difference < found[0][2][k]


def test_a_constant_untrained_network_scores_at_chance(dump, tmp_path):
    source, labels = dump
    spec = DumpSpec(
        {"layer0/h": H}, *(np.arange(S + 1) * T,) * 2, (), np.dtype(np.uint8), source.dtype, {"vocabulary": ["a"]}
    )
    with DumpWriter(tmp_path / "still.zarr", spec) as writer:
        writer.append(0, np.zeros(N, np.uint8), {"layer0/h": np.zeros((N, H))})
    study = Study(source, ProbeConfig(bootstrap=20), 0, StateDump.open(tmp_path / "still.zarr"))
    logits = labels.values[study.test_rows] + 0.1 * np.random.default_rng(2).normal(size=(len(study.test_rows), 3))
    score, low, _ = above_untrained(study, LogisticProbes(), labels, logits)
    np.testing.assert_array_equal(score, 0.5)
    assert (low > 0.4).all()
