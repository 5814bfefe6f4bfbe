"""The choice of the penalty, against scikit-learn fitted part by part, and what must not affect it."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fold_states import fold_dump, fold_labels
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from gatescope.analysis.cli import main
from gatescope.analysis.control_task import control_task
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.labels import Labels
from gatescope.analysis.penalty import best_penalty
from gatescope.analysis.probe import _warn_of_ends
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.sparse import sparse_scores
from gatescope.analysis.study import Study
from gatescope.engine.errors import InputError
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes

Cs = (10.0, 1e-4, 1e-3, 0.1, 1e-2)
MODELS = {
    "plain": LogisticProbes(),
    "balanced": LogisticProbes(class_weight="balanced"),
    "none": RidgeProbes(),
}


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    return fold_dump(tmp_path_factory.mktemp("penalty") / "states.zarr")


def study_of(dump, **config):
    return Study(dump, ProbeConfig(bootstrap=20, **config), 1)


def chosen_of(study, weighting, labels):
    return best_penalty(study, study.folds[0], MODELS[weighting], "layer0/h", labels, Cs)


def labels_of(dump, weighting):
    """Values that follow one unit, with noise of several sizes; without noise, no penalty would be best."""
    labels, rng = fold_labels(dump), np.random.default_rng(3)
    if weighting != "none":
        return labels
    states = dump.array("layer0/h")[:].astype(np.float64)
    named = tuple(Hypothesis(f"value{k}", "any", "continuous", "past", "", list) for k in range(3))
    noise = rng.normal(size=(len(states), 3))
    return Labels(named, states[:, :1] * [1, 0.2, 0] + noise * [0.01, 1, 1], labels.defined)


@pytest.mark.parametrize("weighting", MODELS)
def test_each_hypothesis_gets_the_penalty_with_least_held_out_loss(dump, weighting):
    study, labels = study_of(dump), labels_of(dump, weighting)
    X, (fold,) = dump.array("layer0/h")[:].astype(np.float64), study.folds
    sequence_of = dump.sequence_ids
    # The oracle divides the training sequences itself, into five parts of nearly equal size, by the same shuffle.
    groups = np.unique(study.group_of[fold.train], return_inverse=True)[1]
    n_groups = groups.max() + 1
    order, edges = np.random.default_rng(1).permutation(n_groups), np.round(np.arange(6) * n_groups / 5).astype(int)
    chosen = chosen_of(study, weighting, labels)
    for k in range(3):
        y, rows = labels.values[:, k], fold.train_rows[labels.defined[fold.train_rows, k]]
        share = {label: (y[rows] == label).mean() for label in (True, False)}
        losses = dict.fromkeys(Cs, 0.0)
        for first, last in pairwise(edges.tolist()):
            unseen = np.isin(sequence_of[rows], fold.train[np.isin(groups, order[first:last])])
            train, test = rows[~unseen], rows[unseen]
            for C in Cs:
                if weighting == "none":
                    said = Ridge(alpha=1 / C).fit(X[train], y[train]).predict(X[test])
                    losses[C] += ((said - y[test]) ** 2).sum()
                    continue
                balanced = {"class_weight": "balanced"} if weighting == "balanced" else {}
                model = LogisticRegression(C=C, tol=1e-10, solver="newton-cholesky", **balanced)
                said = model.fit(X[train], y[train]).predict_proba(X[test])
                weight = np.where(y[test], 1 / share[True], 1 / share[False]) if balanced else None
                mean = log_loss(y[test], said, sample_weight=weight, labels=[False, True])
                losses[C] += mean * (weight.sum() if balanced else len(test))
        assert chosen[k] == min(losses, key=losses.get)
    assert len(set(chosen)) > 1


@pytest.mark.parametrize("weighting", ["plain", "none"])
def test_the_penalty_does_not_depend_on_test_sequences_or_memory(dump, weighting):
    study, labels = study_of(dump), labels_of(dump, weighting)
    chosen = chosen_of(study, weighting, labels)
    np.testing.assert_array_equal(chosen_of(study_of(dump, memory_limit="20KB"), weighting, labels), chosen)
    labels.values[study.test_rows] = labels.values[study.test_rows][::-1]
    np.testing.assert_array_equal(chosen_of(study, weighting, labels), chosen)


def test_one_class_gets_the_smallest_c_and_leaves_other_choices_alone(dump):
    study, labels = study_of(dump), fold_labels(dump)
    labels.values[:, 1] = False
    labels.values[:, 2] = False
    labels.values[study.train_rows[3], 2] = labels.defined[study.train_rows[3], 2] = True
    chosen = chosen_of(study, "plain", labels)
    assert chosen[1] == min(Cs) and chosen[2] in Cs and chosen[0] == chosen_of(study, "plain", fold_labels(dump))[0]


def test_a_class_confined_to_one_part_does_not_decide_the_penalty(dump):
    """All positives lie in that part, and the probe of the other parts would give them an infinite loss, whatever C."""
    study, labels = study_of(dump), fold_labels(dump)
    groups = np.unique(study.group_of[study.train], return_inverse=True)[1]
    n_groups = groups.max() + 1
    in_part = np.isin(groups, np.random.default_rng(1).permutation(n_groups)[: round(n_groups / 5)])
    alone = np.isin(dump.sequence_ids, study.train[in_part])
    unit = dump.array("layer0/h")[:][:, 7]
    labels.values[:, 0] = alone & (unit > 2)
    assert labels.values[study.train_rows, 0].sum() > 5
    labels.defined[:, 0] = alone | (unit < 1)
    # The other four parts are all negative and far from the positives: the more certain of that, the better.
    assert chosen_of(study, "plain", labels)[0] == max(Cs)


@pytest.mark.parametrize("continuous", [False, True])
def test_controls_and_sparse_scores_use_each_hypothesis_penalty(dump, continuous):
    study, labels = study_of(dump), fold_labels(dump, continuous)
    (fold,), own = study.folds, np.array([1e-4, 1.0, 1e-2])
    X_train, X_test = (study.states("layer0/h", part) for part in (fold.train, fold.test))
    make = RidgeProbes if continuous else LogisticProbes
    train, test = (
        (X, labels.values[rows], labels.defined[rows])
        for X, rows in ((X_train, fold.train_rows), (X_test, fold.test_rows))
    )
    orders = {"weight_sd": np.tile(np.arange(8), (3, 1))}
    several = control_task(study, fold, make(C=own), labels, X_train, X_test)[1]
    sizes = sparse_scores(make(C=own), orders, train, test, 0).scores
    for k, C in enumerate(own.tolist()):
        one = control_task(study, fold, make(C=C), labels, X_train, X_test)[1]
        np.testing.assert_allclose(several[:, k::3], one[:, k::3], rtol=1e-3, atol=1e-5)
        for name, scores in sparse_scores(make(C=C), orders, train, test, 0).scores.items():
            np.testing.assert_allclose(sizes[name][k], scores[k], atol=2e-4, err_msg=name)


def test_a_single_training_sequence_cannot_choose_the_penalty(dump):
    study = study_of(dump)
    study.folds[0] = replace(study.folds[0], train=study.train[:1])
    with pytest.raises(
        InputError, match="several values of --C need at least 2 training sequences, but there is only one"
    ):
        chosen_of(study, "plain", fold_labels(dump))


def test_records_name_the_penalty_of_their_probes(tmp_path, capsys):
    fold_dump(tmp_path / "states.zarr")
    words = ["probe", str(tmp_path / "states.zarr"), "--hypotheses", "any", "--pattern", "a=[ab]", "--bootstrap", "20"]
    values = ("0.0001", "0.01", "1")
    assert main([*words, "--C", *values, "--sparse", "--controls", "--out", str(tmp_path / "r")]) == 0
    records = json.loads((tmp_path / "r" / "probes.json").read_text())
    several = load_file(tmp_path / "r" / "coefficients.safetensors")
    chosen, said = [record["C"] for record in records], capsys.readouterr()
    for end, beyond in ((0.0001, "smaller"), (1.0, "larger")):
        line = f"--C: {end:g} is the best for {chosen.count(end)} of {len(chosen)} fits: give {beyond} values, too"
        assert (line in said.out + said.err) == (end in chosen)
    assert 0.01 in chosen and {0.0001, 1.0} & set(chosen)
    found = {}
    for C in values:
        assert main([*words, "--C", C, "--out", str(tmp_path / C)]) == 0
        found[float(C)] = load_file(tmp_path / C / "coefficients.safetensors")
        alone = json.loads((tmp_path / C / "probes.json").read_text())
        assert json.loads((tmp_path / C / "config.json").read_text())["settings"]["probe"]["C"] == float(C)
        assert "C" not in alone[0] and "--C" not in capsys.readouterr().err
    assert len({record["C"] for record in records}) > 1
    for states, weighting in {(record["states"], record["weighting"]) for record in records}:
        of_set = [each for each in records if (each["states"], each["weighting"]) == (states, weighting)]
        for k, record in enumerate(of_set):
            name = f"{states}/{weighting}/coefficient"
            np.testing.assert_allclose(several[name][k], found[record["C"]][name][k], rtol=1e-3, atol=1e-5)
    assert main(["report", str(tmp_path / "r")]) == 0
    assert '<th scope="col" class="r">C</th>' in (tmp_path / "r" / "report.html").read_text()
    capsys.readouterr()
    assert main([*words, "--C", "1", "0", "--out", str(tmp_path / "x")]) == 2
    assert "--C 1.0 0.0: expected positive numbers" in capsys.readouterr().err


def test_a_best_penalty_at_either_end_suggests_wider_values():
    said = []
    _warn_of_ends([0.1, 1.0, 10.0, 10.0], (10.0, 0.1, 1.0), said.append)
    assert said == [
        "--C: 0.1 is the best for 1 of 4 fits: give smaller values, too",
        "--C: 10 is the best for 2 of 4 fits: give larger values, too",
    ]
    _warn_of_ends([1.0, 1.0], (10.0, 0.1, 1.0), said.append)
    assert len(said) == 2
