"""Scores over several folds, against scikit-learn fitted fold by fold, and what is still the first fold's alone."""

import json

import numpy as np
import pytest
from fold_states import N, T, fold_dump, fold_labels
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

from gatescope.analysis import fold_fit
from gatescope.analysis.baselines import NgramTable
from gatescope.analysis.cli import main
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.results import verdict
from gatescope.analysis.study import Study
from gatescope.analysis.study_fit import fit_study
from gatescope.analysis.text_probe import TextProbe

N_FOLDS = 4


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    return fold_dump(tmp_path_factory.mktemp("folds") / "states.zarr")


def study_of(dump, folds=N_FOLDS, untrained=None, **config):
    return Study(dump, ProbeConfig(**{"folds": folds, "bootstrap": 100, **config}), 1, untrained)


def by_pairs(scores, labels):
    """The mean AUROC over folds, weighted by each fold's pairs of a positive and a negative."""
    pairs = [float(y.sum() * (~y).sum()) for y in labels]
    return np.average(scores, weights=pairs)


@pytest.mark.parametrize("weighting", ["plain", "balanced"])
def test_scores_equal_scikit_learn_fold_by_fold(dump, weighting):
    labels = fold_labels(dump)
    study = study_of(dump, C=(0.5,))
    records, _, _ = fit_study(study, "layer0/h", labels, weighting)
    X = dump.array("layer0/h")[:].astype(np.float64)
    for k, record in enumerate(records):
        y, defined = labels.values[:, k], labels.defined[:, k]
        areas, precisions, tested, said, chances, units = [], [], [], [], [], []
        for fold in study.folds:
            train, test = (rows[defined[rows]] for rows in (fold.train_rows, fold.test_rows))
            balanced = {"class_weight": "balanced"} if weighting == "balanced" else {}
            oracle = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cholesky", **balanced).fit(X[train], y[train])
            logits = oracle.decision_function(X[test])
            areas.append(roc_auc_score(y[test], logits))
            precisions.append(average_precision_score(y[test], logits))
            odds = np.exp(logits) * (y[train].mean() / (1 - y[train].mean()) if balanced else 1)
            tested.append(y[test])
            said.append(logits > 0)
            chances.append(odds / (1 + odds))
            alone = np.array([roc_auc_score(y[train], X[train, unit]) for unit in range(X.shape[1])])
            best = np.abs(alone - 0.5).argmax()
            units.append(roc_auc_score(y[test], np.sign(alone[best] - 0.5) * X[test, best]))
        everyone = np.concatenate(tested)
        assert record["auroc"] == pytest.approx(by_pairs(areas, tested), abs=1e-4)
        positives = [each.sum() for each in tested]
        assert record["average_precision"] == pytest.approx(np.average(precisions, weights=positives), abs=1e-4)
        assert record["f1"] == pytest.approx(f1_score(everyone, np.concatenate(said)), abs=1e-3)
        assert record["brier"] == pytest.approx(brier_score_loss(everyone, np.concatenate(chances)), abs=1e-4)
        assert record["best_unit_auroc"] == pytest.approx(by_pairs(units, tested), abs=1e-6)
        share = (record["best_unit_auroc"] - 0.5) / (record["auroc"] - 0.5)
        assert record["localisation"] == (pytest.approx(share, abs=1e-5) if record["auroc"] > 0.5 else None)
        assert record["n_test"] == defined.sum() and record["folds"] == N_FOLDS
        assert record["auroc_low"] < record["auroc"] < record["auroc_high"]


def test_a_continuous_hypothesis_is_scored_by_squares_within_folds(dump):
    labels = fold_labels(dump, continuous=True)
    study = study_of(dump)
    (record, *_), _, _ = fit_study(study, "layer0/h", labels, "none")
    X, y = dump.array("layer0/h")[:].astype(np.float64), labels.values[:, 0].astype(np.float64)
    missed, spread = 0.0, 0.0
    for fold in study.folds:
        train, test = (rows[labels.defined[rows, 0]] for rows in (fold.train_rows, fold.test_rows))
        missed += ((y[test] - Ridge(alpha=1).fit(X[train], y[train]).predict(X[test])) ** 2).sum()
        spread += ((y[test] - y[test].mean()) ** 2).sum()
    assert record["r2"] == pytest.approx(1 - missed / spread, abs=1e-5)
    assert record["r2_low"] < record["r2"] < record["r2_high"]
    assert record["best_unit_pearson"] > 0.3 and record["folds"] == N_FOLDS


def test_the_best_text_baseline_is_chosen_over_all_folds(dump):
    labels = fold_labels(dump)
    study = study_of(dump)
    (record, *_), _, _ = fit_study(study, "layer0/h", labels, "plain")
    starts, text = dump.sequence_starts, (dump.tokens, dump.document_starts)
    of_predictors = []
    for make in (NgramTable, lambda: TextProbe(starts, "plain"), lambda: TextProbe(starts, "plain", k=0)):
        areas, tested = [], []
        for fold in study.folds:
            rows, test = fold.train_rows, fold.test_rows
            said = make().fit(*text, rows, labels.values[rows], labels.defined[rows]).predict_proba(*text, test)
            defined = labels.defined[test, 0]
            tested.append(labels.values[test, 0][defined])
            areas.append(roc_auc_score(tested[-1], said[defined, 0]))
        of_predictors.append(by_pairs(areas, tested))
    assert record["baseline_text_auroc"] == pytest.approx(max(of_predictors), abs=1e-6)
    low, high = record["auroc_over_text_low"], record["auroc_over_text_high"]
    assert low < record["auroc"] - record["baseline_text_auroc"] < high
    assert verdict(record) == "known"


def test_every_sequence_is_tested_by_the_fold_not_trained_on_it(dump):
    study = study_of(dump)
    for number, fold in enumerate(study.folds):
        np.testing.assert_array_equal(np.flatnonzero(study.fold_that_tests == number), fold.test)
        np.testing.assert_array_equal(np.flatnonzero(study.fold_that_tests != number), fold.train)


def test_the_first_fold_equals_the_test_part_without_folds(dump):
    labels = fold_labels(dump)
    one, several = (
        study_of(dump, folds=1, test_share=0.25, sparse=True),
        study_of(dump, standard_errors=True, sparse=True),
    )
    np.testing.assert_array_equal(one.test, several.test)
    alone, weights, found = fit_study(one, "layer0/h", labels, "plain")
    records, same, also = fit_study(several, "layer0/h", labels, "plain")
    # One influence for every sequence that is tested.
    assert same["influence"].shape[1] == 4 * weights.pop("influence").shape[1]
    for name, values in weights.items():
        np.testing.assert_array_equal(same[name], values)
    assert same["coefficient_error"].shape == same["coefficient"].shape
    for name, prediction in found.items():
        np.testing.assert_array_equal(also[name].values, prediction.values)
        np.testing.assert_array_equal(also[name].rows, prediction.rows)
    for record, other in zip(records, alone, strict=True):
        for name in ("top_units", "largest_weights", "selected_units", "participation", "n_train"):
            assert record[name] == other[name]
        assert "folds" not in other and "best_unit_share" not in other


def test_a_label_confined_to_one_fold_is_not_scored(dump):
    study, labels = study_of(dump), fold_labels(dump)
    labels.values[:, 2] = False
    labels.values[study.folds[2].test_rows[::7], 2] = True
    for weighting in ("plain", "balanced"):
        records, _, _ = fit_study(study, "layer0/h", labels, weighting)
        assert [record["status"] for record in records] == ["converged", "converged", "one_class"]
        assert records[2]["auroc"] == 0.5 and verdict(records[2]) == "not scored"
        assert records[2]["best_unit_auroc"] is None and records[2]["best_unit_f1"] is None


def test_uninformative_states_score_around_one_half(dump):
    """Pooled over folds it would be below one half: a fold with more test positives has fewer to train its probe."""
    study, labels = study_of(dump, C=(1e-6,)), fold_labels(dump)
    labels.values[:, 2] = np.repeat(np.random.default_rng(5).random(N // T) < 0.3, T)
    (*_, record), _, _ = fit_study(study, "layer0/h", labels, "plain")
    logits = []
    X = dump.array("layer0/h")[:].astype(np.float64)
    for fold in study.folds:
        y = labels.values[fold.train_rows, 2]
        logits.append(LogisticRegression(C=1e-6).fit(X[fold.train_rows], y).decision_function(X[fold.test_rows]))
    together = roc_auc_score(labels.values[study.tested_rows, 2], np.concatenate(logits))
    assert together < 0.4 and abs(record["auroc"] - 0.5) < 0.06


def test_controls_run_in_every_fold_except_training_row_controls(dump, tmp_path, monkeypatch):
    labels = fold_labels(dump)
    untrained = fold_dump(tmp_path / "untrained.zarr", seed=9)
    study, asked = study_of(dump, controls=True, untrained=untrained), []
    for name in ("compression", "best_unit_p"):
        whole = getattr(fold_fit, name)
        monkeypatch.setattr(fold_fit, name, lambda *given, whole=whole: asked.append(whole) or whole(*given))
    records, _, _ = fit_study(study, "layer0/h", labels, "plain")
    assert len(asked) == 2
    alone = study_of(dump, folds=1, test_share=0.25, controls=True, untrained=untrained)
    first, _, _ = fit_study(alone, "layer0/h", labels, "plain")
    X = untrained.array("layer0/h")[:].astype(np.float64)
    for k, (record, other) in enumerate(zip(records, first, strict=True)):
        areas, tested = [], []
        for fold in study.folds:
            train, test = (rows[labels.defined[rows, k]] for rows in (fold.train_rows, fold.test_rows))
            C = 1 / X[fold.train_rows].var(axis=0).mean()
            fitted = LogisticRegression(C=C, tol=1e-8).fit(X[train], labels.values[train, k])
            tested.append(labels.values[test, k])
            areas.append(roc_auc_score(tested[-1], fitted.decision_function(X[test])))
        assert record["untrained_score"] == pytest.approx(by_pairs(areas, tested), abs=1e-3)
        assert record["above_untrained_low"] < record["auroc"] - record["untrained_score"]
        assert record["selectivity"] == pytest.approx(record["auroc"] - record["control_score"], abs=2e-6)
        # These use the training rows, which are the first fold's.
        for name in ("compression", "best_unit_p"):
            assert record[name] == other[name]
    assert records[0]["control_score"] != first[0]["control_score"]


@pytest.mark.parametrize("continuous", [False, True])
def test_sparse_probes_are_scored_in_every_fold(dump, continuous):
    labels = fold_labels(dump, continuous)
    weighting, measure = ("none", "r2") if continuous else ("plain", "auroc")
    (record, *_), _, _ = fit_study(study_of(dump, sparse=True), "layer0/h", labels, weighting)
    assert record["sparse"]["units"] == [1, 2, 4] and record["units_needed"] in (1, 2, 4)
    # Two units predict it.
    assert 0.9 * record[measure] < record["sparse"]["selected"][2] <= record[measure] + 0.01
    if not continuous:
        assert record["sparse"]["auroc"][0] == pytest.approx(record["best_unit_auroc"], abs=0.01)


def test_records_count_the_folds_that_agree_on_the_first_unit(dump):
    study, labels = study_of(dump), fold_labels(dump)
    records, _, _ = fit_study(study, "layer0/h", labels, "plain")
    X = dump.array("layer0/h")[:]
    for k, record in enumerate(records):
        best = []
        for fold in study.folds:
            rows = fold.train_rows[labels.defined[fold.train_rows, k]]
            alone = [roc_auc_score(labels.values[rows, k], X[rows, unit]) for unit in range(X.shape[1])]
            best.append(np.abs(np.array(alone) - 0.5).argmax())
        assert record["top_units"][0]["unit"] == best[0]
        assert record["best_unit_share"] == np.mean([each == best[0] for each in best])
    assert records[2]["best_unit_share"] < 1


def test_states_larger_than_memory_give_the_same_records(dump):
    labels = fold_labels(dump)
    for weighting in ("plain", "balanced"):
        whole, *_ = fit_study(study_of(dump, bootstrap=20), "layer0/h", labels, weighting)
        pieces, *_ = fit_study(study_of(dump, bootstrap=20, memory_limit="20KB"), "layer0/h", labels, weighting)
        for record, other in zip(whole, pieces, strict=True):
            numbers = {name for name, value in record.items() if isinstance(value, float)}
            assert {name: record[name] for name in numbers} == pytest.approx(
                {name: other[name] for name in numbers}, abs=1e-4
            )


def test_the_command_with_folds_tests_all_sequences_and_reports_it(tmp_path, capsys):
    fold_dump(tmp_path / "states.zarr")
    words = ["probe", str(tmp_path / "states.zarr"), "--hypotheses", "any", "--bootstrap", "20"]
    assert main([*words, "--folds", "4", "--out", str(tmp_path / "r")]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    assert {record["folds"] for record in records} == {4} and max(record["n_test"] for record in records) == N
    assert main(["report", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Each of 4 folds is tested once" in page and "unit’s folds" in page
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "r")]) == 2
    assert "probe.folds" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "one")]) == 0 and main(["report", str(tmp_path / "one")]) == 0
    page = (tmp_path / "one" / "report.html").read_text()
    assert "folds" not in page and "unit’s folds" not in page
    for flags, message in [
        (["--folds", "0"], "--folds 0: expected a number of parts"),
        (["--folds", "4", "--test-share", "0.3"], "leave out --test-share 0.3"),
        (["--folds", "1000"], "--folds 1000: expected at most 48"),
    ]:
        capsys.readouterr()
        assert main([*words, *flags, "--out", str(tmp_path / "x")]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert not (tmp_path / "x").exists()
