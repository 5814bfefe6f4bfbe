"""The fits of one dump, on states in which some hypotheses were planted and others are absent."""

import numpy as np
import pytest
import torch
from planted import LENGTH, N_SEQUENCES, PLANTED, H, N, hypothesis, planted_states
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from gatescope.analysis import fold_fit
from gatescope.analysis import study as study_of_fits
from gatescope.analysis.estimators import estimator_of
from gatescope.analysis.facts import reading
from gatescope.analysis.labels import Labels
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.results import verdict
from gatescope.analysis.split import rows_of
from gatescope.analysis.study import Study
from gatescope.analysis.study_fit import fit_study
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.sequence_rows import SequenceRows


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return planted_states(tmp_path_factory.mktemp("planted") / "states.zarr")


def fitted(planted, name="all", weighting="plain", untrained=None, **config):
    dump, labels = planted
    study = Study(dump, ProbeConfig(**{"bootstrap": 200, **config}), 0, untrained)
    return study, *fit_study(study, name, labels, weighting)


def test_states_that_hold_only_the_last_characters_know_nothing(tmp_path):
    """Labels are linear in the last characters, but each context is rare, so a table of contexts cannot learn them."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(16, size=N).astype(np.uint8)
    effect = rng.normal(size=(5, 16))
    last = [np.where(np.arange(N) % LENGTH >= back, np.roll(tokens, back), 16) for back in range(5)]
    states = np.concatenate([np.eye(17)[each] for each in last], axis=1)
    label = sum(np.append(effect[back], 0)[each] for back, each in enumerate(last)) + rng.normal(size=N) > 1
    starts = np.arange(N_SEQUENCES + 1, dtype=np.int64) * LENGTH
    vocabulary = {"vocabulary": list("abcdefghijklmnop")}
    spec = DumpSpec({"layer0/h": 85}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), vocabulary)
    with DumpWriter(tmp_path / "states.zarr", spec) as writer:
        writer.append(0, tokens, {"layer0/h": states})
    labels = Labels((hypothesis("recent"),), label[:, None], np.ones((N, 1), dtype=bool))
    _, (record,), _, _ = fitted((StateDump.open(tmp_path / "states.zarr"), labels), "layer0/h")
    assert record["auroc_low"] > 0.75 and abs(record["baseline_text_auroc"] - record["auroc"]) < 0.01
    assert verdict(record) != "known"


def test_states_that_hold_only_the_position_know_nothing(tmp_path):
    """The label becomes likelier as the text goes on, and the states only count characters."""
    rng = np.random.default_rng(4)
    tokens, read = rng.integers(4, size=N).astype(np.uint8), np.arange(N) % LENGTH
    label = rng.random(N) < np.minimum(read / 20, 0.95)
    starts = np.arange(N_SEQUENCES + 1, dtype=np.int64) * LENGTH
    states = np.tanh(read[:, None] / [2, 5, 10, 20, 40])
    vocabulary = {"vocabulary": list("abcd")}
    spec = DumpSpec({"layer0/h": 5}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), vocabulary)
    with DumpWriter(tmp_path / "states.zarr", spec) as writer:
        writer.append(0, tokens, {"layer0/h": states})
    labels = Labels((hypothesis("late"),), label[:, None], np.ones((N, 1), dtype=bool))
    _, (record,), _, _ = fitted((StateDump.open(tmp_path / "states.zarr"), labels), "layer0/h")
    assert record["auroc_low"] > 0.6 and abs(record["baseline_text_auroc"] - record["auroc"]) < 0.02
    assert verdict(record) != "known"


@pytest.mark.parametrize("ranking", ["weight", "weight_sd", "auroc"])
def test_the_planted_unit_is_found_and_random_labels_are_not(planted, ranking):
    _, (found, chance), _, _ = fitted(planted, ranking=ranking)
    best = found["top_units"][0]
    assert (best["states"], best["unit"]) == PLANTED
    assert best["auroc"] > 0.99 and best["coefficient"] > 0
    assert found["f1_low"] > max(found["baseline_majority_f1"], found["baseline_text_f1"])
    assert found["auroc_over_text_low"] > 0 and verdict(found) == "known"
    assert chance["f1"] < chance["baseline_majority_f1"] and verdict(chance) != "known"
    largest = found["largest_weights"]
    assert largest == sorted(largest, key=lambda unit: -unit["importance"]) and len(largest) == 10
    assert found["f1_low"] <= found["f1"] <= found["f1_high"]
    assert {found["status"], chance["status"]} == {"converged"}


@pytest.mark.parametrize("weighting", ["plain", "balanced"])
@pytest.mark.parametrize("name", ["layer0/c", "all"])
def test_scores_equal_scikit_learn_on_the_same_rows(planted, name, weighting):
    study, (record, _), weights, _ = fitted(planted, name, weighting, C=(0.5,))
    dump, labels = planted
    X = dump.features(study.state_sets[name]).astype(np.float64)
    y = labels.values[:, 0]
    train, test = rows_of(study.train, dump.sequence_starts), rows_of(study.test, dump.sequence_starts)
    balanced = {"class_weight": "balanced"} if weighting == "balanced" else {}
    oracle = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cholesky", **balanced).fit(X[train], y[train])
    np.testing.assert_allclose(weights["coefficient"][0], oracle.coef_[0], rtol=1e-3, atol=1e-4)
    assert record["f1"] == pytest.approx(f1_score(y[test], oracle.predict(X[test])), abs=1e-6)
    assert record["n_train"] == len(train) and record["n_test"] == len(test)
    column = study.columns(name).index(PLANTED)
    assert record["top_units"][0]["auroc"] == pytest.approx(roc_auc_score(y[train], X[train, column]), abs=1e-9)


def test_undefined_rows_never_count(planted):
    dump, labels = planted
    defined = labels.defined.copy()
    defined[:, 0] = np.arange(N) % 2 == 0
    values = labels.values.copy()
    values[~defined[:, 0], 0] ^= True
    study = Study(dump, ProbeConfig(bootstrap=50), seed=0)
    (record, other), _, _ = fit_study(study, "all", Labels(labels.hypotheses, values, defined), "plain")
    assert record["n_test"] == len(study.test_rows) // 2 and other["n_test"] == len(study.test_rows)
    assert record["f1"] > 0.9


def test_balanced_odds_are_restored_using_only_defined_rows(planted):
    """Most negatives are undefined, so the classes are less unequal than over all rows."""
    dump, labels = planted
    defined = labels.defined & (labels.values | (np.arange(N) % 3 == 0)[:, None])
    study = Study(dump, ProbeConfig(bootstrap=50), seed=0)
    (_, chance), _, found = fit_study(study, "layer0/h", Labels(labels.hypotheses, labels.values, defined), "balanced")
    y, rows = labels.values[:, 1], defined[:, 1]
    train, test = study.train_rows[rows[study.train_rows]], rows[study.test_rows]
    odds = found[labels.hypotheses[1].name].values[test]
    odds = odds / (1 - odds) * y[train].sum() / (~y[train]).sum()
    expected = log_loss(y[study.test_rows][test], odds / (1 + odds)) / np.log(2)
    assert chance["log_loss_bits"] == pytest.approx(expected, abs=1e-5)


def test_a_hypothesis_of_one_class_is_scored_without_a_warning(planted, recwarn):
    dump, labels = planted
    for weighting in ("plain", "balanced"):
        for value in (True, False):
            alone = np.full_like(labels.values, value)
            study, of_one = (
                Study(dump, ProbeConfig(bootstrap=20), seed=0),
                Labels(labels.hypotheses, alone, labels.defined),
            )
            (record, _), _, _ = fit_study(study, "layer0/h", of_one, weighting)
            assert record["status"] == "one_class" and verdict(record) == "not scored"
            assert record["log_loss_bits"] == 0
    assert not recwarn.list


def test_a_continuous_hypothesis_is_scored_by_r2(planted):
    dump, _ = planted
    value = 3 * dump.features(["layer0/h"])[:, [2]].astype(np.float32) - 1
    labels = Labels((hypothesis("linear", "continuous"),), value, np.ones((N, 1), dtype=bool))
    (record,), _, _ = fit_study(Study(dump, ProbeConfig(), seed=0), "layer0/h", labels, "none")
    assert record["r2"] > 0.99 and record["pearson"] > 0.99 and record["f1"] is None
    assert record["top_units"][0]["unit"] == 2 and record["top_units"][0]["correlation"] > 0.99
    assert record["best_unit_pearson"] > 0.99 and "best_unit_f1" not in record
    assert record["baseline_text_r2"] < 0.1


def test_a_common_offset_of_values_does_not_change_scores(planted):
    """Seconds since 1970, a number beside which single precision cannot resolve a minute."""
    dump, _ = planted
    value = 3 * dump.features(["layer0/h"])[:, [2]].astype(np.float64) + np.random.default_rng(0).normal(size=(N, 1))
    defined = np.random.default_rng(1).random((N, 1)) < 0.8
    found = {}
    for offset in (0.0, 1.7e9):
        labels = Labels((hypothesis("time", "continuous"),), np.where(defined, value + offset, 0), defined)
        study = Study(dump, ProbeConfig(bootstrap=50, controls=True), seed=0)
        (record,), weights, predictions = fit_study(study, "layer0/h", labels, "none")
        found[offset] = record, weights, predictions["time"].values
        np.testing.assert_array_equal(labels.values, np.where(defined, value + offset, 0))
    (near, of_near, said), (far, of_far, said_far) = found.values()
    for name in ("r2", "r2_low", "pearson", "best_unit_pearson", "baseline_text_r2", "selectivity", "leak"):
        assert far[name] == pytest.approx(near[name], abs=2e-6), name
    np.testing.assert_allclose(of_far["coefficient"], of_near["coefficient"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(of_far["intercept"] - 1.7e9, of_near["intercept"], atol=1e-5)
    np.testing.assert_allclose(said_far - 1.7e9, said, atol=1e-4)


def test_standard_errors_are_robust_to_sequences(planted):
    dump, labels = planted
    study, _, weights, _ = fitted(planted, "layer0/c", standard_errors=True)
    X, Y = dump.array("layer0/c")[study.train_rows], labels.values[study.train_rows]
    probes = LogisticProbes().fit(X, Y)
    expected = probes.standard_errors(X, Y, groups=study.train_rows // LENGTH)
    assert np.isfinite(expected.coef).all()
    np.testing.assert_allclose(weights["coefficient_error"], expected.coef, rtol=1e-4)
    np.testing.assert_allclose(weights["intercept_error"], expected.intercept, rtol=1e-4)
    assert "coefficient_error" not in fitted(planted, "layer0/c")[2]


@pytest.fixture
def exactly(monkeypatch):
    """Make fits so exact that a ranking by predictions does not depend on where they stopped."""

    def estimator(weighting, *rest):
        return estimator_of(weighting, *rest).set_params(**({"tol": 1e-10} if weighting != "none" else {}))

    monkeypatch.setattr(fold_fit, "estimator_of", estimator)


def of_kind(planted, weighting):
    """The planted states with labels of the kind that a weighting fits."""
    dump, labels = planted
    if weighting != "none":
        return dump, labels
    chosen = (hypothesis("planted", "continuous"), hypothesis("chance", "continuous"))
    return dump, Labels(chosen, labels.values.astype(np.float32), labels.defined)


def assert_same_fit(fit, other):
    """Check records, coefficients and predictions of a fit against those of another."""
    (records, weights, predictions), (again, weights_again, predictions_again) = fit, other
    for record, of_other in zip(records, again, strict=True):
        assert record.keys() == of_other.keys()
        for name, scores in record.pop("sparse", {}).items():
            assert scores == pytest.approx(of_other["sparse"][name]), name
        of_other.pop("sparse", None)
        for units in {"top_units", "largest_weights", "selected_units"} & record.keys():
            firsts = [[(unit["states"], unit["unit"]) for unit in each.pop(units)[:3]] for each in (record, of_other)]
            assert firsts[0] == firsts[1]
        numbers = {name for name, value in record.items() if isinstance(value, float)}
        assert {name: record[name] for name in numbers} == pytest.approx({name: of_other[name] for name in numbers})
        assert all(record[name] == of_other[name] for name in record.keys() - numbers)
    assert weights.keys() == weights_again.keys()
    for name, values in weights.items():
        np.testing.assert_allclose(weights_again[name], values, rtol=1e-3, atol=1e-4 * np.abs(values).max())
    for name, prediction in predictions.items():
        np.testing.assert_allclose(predictions_again[name].values, prediction.values, atol=1e-4)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("alignment", ["post", "pre"])
@pytest.mark.parametrize("weighting", ["plain", "balanced", "none"])
def test_states_larger_than_memory_give_the_same_records(planted, weighting, alignment):
    options = {"weighting": weighting, "alignment": alignment, "standard_errors": True}
    study, *fit = fitted(of_kind(planted, weighting), **options)
    small, *other = fitted(of_kind(planted, weighting), **options, memory_limit="150KB")
    assert isinstance(study.states("all", study.train), np.ndarray)
    assert isinstance(small.states("all", small.train), SequenceRows)
    assert_same_fit(fit, other)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("weighting", ["plain", "balanced", "none"])
@pytest.mark.parametrize(
    "options",
    [
        {"standard_errors": True, "C": (0.1, 1.0), "alignment": "pre"},
        {"controls": True, "folds": 3},
        {"sparse": True, "ranking": "weight_sd", "controls": True},
    ],
    ids=["errors", "controls", "sparse"],
)
def test_states_on_a_gpu_give_the_same_records(gpu, planted, weighting, options):
    untrained = planted[0] if "controls" in options else None
    (study, *fit), (on_gpu, *other) = (
        fitted(of_kind(planted, weighting), weighting=weighting, untrained=untrained, device=device, **options)
        for device in ("cpu", "cuda")
    )
    states = on_gpu.states("all", on_gpu.train)
    assert states.is_cuda and states.dtype == torch.float16 and study.place("all") == "memory"
    np.testing.assert_array_equal(states.cpu().numpy(), study.states("all", study.train))
    assert_same_fit(fit, other)


@pytest.mark.usefixtures("gpu")
def test_states_too_large_for_the_gpu_are_probed_where_they_were(planted, monkeypatch):
    monkeypatch.setattr(study_of_fits, "free_bytes", lambda *_: 4 * 2 * N * H)
    dump, _ = planted
    study = Study(dump, ProbeConfig(device="cuda", memory_limit="150KB"), seed=0)
    assert [study.place(name) for name in ("layer0/h", "all")] == ["gpu", "disk"]
    assert study.memory_limit("layer0/h") == 2 * N * H and study.memory_limit("all") == "150KB"
    assert reading(study, "any").endswith("; too large for the GPU, and fitted on the CPU: all")


def test_continuous_scores_have_an_interval_and_a_text_baseline(planted):
    dump, labels = planted
    continuous = Labels(
        (hypothesis("planted", "continuous"),), labels.values[:, :1].astype(np.float32), labels.defined[:, :1]
    )
    _, (record,), _, _ = fitted((dump, continuous), weighting="none")
    assert record["r2_low"] < record["r2"] < record["r2_high"] < 1
    assert record["baseline_text_r2"] < 0.2 < record["r2_low"]


def test_the_first_unit_is_scored_by_itself_on_unseen_sequences(planted, f1_above):
    study, (found, chance), _, _ = fitted(planted)
    dump, labels = planted
    X = dump.features(study.state_sets["all"]).astype(np.float64)
    train, test = study.train_rows, study.test_rows
    for k, record in enumerate((found, chance)):
        column = study.columns("all").index((record["top_units"][0]["states"], record["top_units"][0]["unit"]))
        y = labels.values[:, k]
        sign = 1 if roc_auc_score(y[train], X[train, column]) >= 0.5 else -1
        values = [sign * X[rows, column] for rows in (train, test)]
        f1, seen = f1_above(y[train], values[0])
        first = 1 + f1[1:].argmax()
        best = (seen[first - 1] + seen[first]) / 2
        assert record["best_unit_auroc"] == pytest.approx(roc_auc_score(y[test], values[1]), abs=1e-6)
        assert record["best_unit_f1"] == pytest.approx(f1_score(y[test], values[1] > best), abs=1e-6)
    assert found["localisation"] == pytest.approx((found["best_unit_auroc"] - 0.5) / (found["auroc"] - 0.5), abs=1e-5)
    assert 1 <= found["participation"] < 3 < chance["participation"]
