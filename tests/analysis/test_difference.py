"""Differences of two results on one text: intervals against scikit-learn's weighted scores, and unmatched results."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy import stats
from sklearn.metrics import r2_score, roc_auc_score
from two_results import N, S, T, probe, write_labels, write_states

from gatescope.analysis.difference import pairs_of, unexceeded_sets
from gatescope.analysis.read_results import read_results
from gatescope.analysis.results import ordered
from gatescope.engine.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results a and b of two models whose vocabularies are ordered differently, with the inputs of both."""
    folder = tmp_path_factory.mktemp("two")
    labels = write_labels(folder / "labels.npz")
    for name, strength, vocabulary in (("a", 0.7, "abcd"), ("b", 1.3, "dbac")):
        probe(write_states(folder / f"{name}.npz", strength, vocabulary), labels, folder / name)
    return folder


def compared(*folders):
    (pair,) = pairs_of(read_results(folders))
    return pair


def test_the_interval_matches_weighted_scores_of_the_predictions(folder):
    pair = compared(folder / "a", folder / "b")
    assert (pair.first, pair.second, pair.why_none) == ("a", "b", None)
    labels, said = np.load(folder / "labels.npz"), {}
    for name in "ab":
        with safe_open(folder / name / "coefficients.safetensors", "numpy") as file:
            rows = json.loads(file.metadata()["gatescope"])["hypotheses"]
            # The balanced fit is not judged, so it has no influence.
            assert "h/plain/influence" in file.keys() and "h/balanced/influence" not in file.keys()  # noqa: SIM118
            tested = np.repeat(file.get_tensor("fold_that_tests") == 0, T)
            for kind, hypothesis in (("boolean/plain", "held"), ("ridge/none", "value")):
                solver, weighting = kind.split("/")
                place = rows[solver].index(hypothesis)
                w, b = (file.get_tensor(f"h/{weighting}/{part}")[place] for part in ("coefficient", "intercept"))
                X = np.load(folder / f"{name}.npz")["h"].astype(np.float64)
                said[hypothesis, name] = (X @ w + b)[tested]
    sequence = np.repeat(np.arange(S), T)[tested]
    found = {each.hypothesis: each for each in pair.differences}
    assert list(found) == ["held", "value"]
    for hypothesis, by in (("held", roc_auc_score), ("value", r2_score)):
        truth, each = labels[hypothesis][tested], found[hypothesis]

        def above(weight, truth=truth, by=by, hypothesis=hypothesis):
            second, first = (by(truth, said[hypothesis, name], sample_weight=weight) for name in "ba")
            return second - first

        moved = [
            above(np.where(sequence == s, 1.001, 1)) - above(np.where(sequence == s, 0.999, 1)) for s in set(sequence)
        ]
        rows = [
            np.bincount(sequence[c], minlength=S) for c in ((truth, ~truth) if truth.dtype == bool else [truth > -99])
        ]
        n = min(each.sum() ** 2 / (each**2).sum() for each in rows)
        se = np.sqrt(np.sum((np.array(moved) / 0.002) ** 2) * n / (n - 1))
        difference = above(np.ones(len(truth)))
        np.testing.assert_allclose(each.second - each.first, difference, atol=2e-6)
        np.testing.assert_allclose(
            [each.low, each.high], stats.t.interval(0.95, n - 1, loc=difference, scale=se), atol=1e-4 * abs(difference)
        )
        np.testing.assert_allclose(each.p, 2 * stats.t.sf(abs(difference) / se, n - 1), rtol=1e-2)
        assert each.low > 0 and each.decided
    p = sorted(each.p for each in found.values())
    assert sorted(each.q for each in found.values()) == pytest.approx([min(2 * p[0], p[1]), p[1]])


def test_swapping_two_results_negates_their_differences(folder):
    forth, back = compared(folder / "a", folder / "b"), compared(folder / "b", folder / "a")
    for one, other in zip(forth.differences, back.differences, strict=True):
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert other.high < 0 and other.decided


def test_a_result_does_not_differ_from_its_copy(folder, tmp_path):
    shutil.copytree(folder / "a", tmp_path / "copy")
    for each in compared(folder / "a", tmp_path / "copy").differences:
        assert (each.low, each.high, each.p, each.decided) == (0, 0, 1, False)


def test_every_further_result_is_compared_with_the_first(folder, tmp_path):
    shutil.copytree(folder / "b", tmp_path / "c")
    pairs = pairs_of(read_results([folder / "a", folder / "b", tmp_path / "c"]))
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c")]
    assert pairs[0].differences == pairs[1].differences
    assert pairs_of(read_results([folder / "a"])) == []


def test_hypotheses_are_sorted_by_their_best_result(tmp_path):
    """The first result may know nothing, as a network before training."""
    other = np.repeat(np.random.default_rng(3).random(N // 5) < 0.3, 5)
    labels = write_labels(tmp_path / "labels.npz", other=other)
    first = write_states(tmp_path / "a.npz", 0.7)
    h = np.load(first)["h"]
    h[:, 2] += 5 * other
    folders = [
        probe(states, labels, tmp_path / states.stem) for states in (first, write_states(tmp_path / "b.npz", 0.7, h=h))
    ]
    results = read_results(folders)
    assert ordered(results[:1], "boolean")[:2] == ["held", "other"]
    (pair,) = pairs_of(results)
    assert [each.hypothesis for each in pair.differences] == ["other", "held", "value"]


@pytest.mark.parametrize("change", ["character", "sequences", "split", "label", "defined"])
def test_results_tested_on_different_characters_are_not_compared(folder, tmp_path, change):
    states, labels, seed = folder / "b.npz", folder / "labels.npz", 0
    with safe_open(folder / "a" / "coefficients.safetensors", "numpy") as file:
        tested = int(np.flatnonzero(file.get_tensor("fold_that_tests") == 0)[0]) * T
    if change == "character":
        tokens = np.load(folder / "a.npz")["tokens"]
        tokens[tested] = (tokens[tested] + 1) % 4
        states = write_states(tmp_path / "s.npz", 1.3, tokens=tokens)
    elif change == "sequences":
        starts = np.arange(0, S * T + 1, T)
        starts[1:-1] += 1
        states = write_states(tmp_path / "s.npz", 1.3, sequence_starts=starts)
    elif change == "split":
        seed = 1
    else:
        held = np.load(labels)["held"].astype(float)
        no = tested + int(np.flatnonzero(held[tested:] == 0)[0])
        held[no] = 1 if change == "label" else np.nan
        labels = write_labels(tmp_path / "l.npz", held=held)
    pair = compared(folder / "a", probe(states, labels, tmp_path / "changed", seed))
    if change in ("label", "defined"):
        # The other hypothesis is unchanged.
        assert [each.hypothesis for each in pair.differences] == ["value"]
    else:
        assert pair.differences == () and "different characters" in pair.why_none and "extract" in pair.why_none


def test_training_characters_may_differ(folder, tmp_path):
    with safe_open(folder / "a" / "coefficients.safetensors", "numpy") as file:
        trained = int(np.flatnonzero(file.get_tensor("fold_that_tests") == -1)[0]) * T
    tokens = np.load(folder / "a.npz")["tokens"]
    tokens[trained] = (tokens[trained] + 1) % 4
    value = np.load(folder / "labels.npz")["value"]
    value[trained] += 100
    labels = write_labels(tmp_path / "l.npz", value=value)
    other = probe(write_states(tmp_path / "s.npz", 1.3, tokens=tokens), labels, tmp_path / "other")
    assert [each.hypothesis for each in compared(folder / "a", other).differences] == ["held", "value"]


def test_all_sequences_are_compared_with_folds(folder, tmp_path):
    for name in "ab":
        probe(folder / f"{name}.npz", folder / "labels.npz", tmp_path / name, folds=4)
    whole, folds = compared(folder / "a", folder / "b"), compared(tmp_path / "a", tmp_path / "b")
    for one, all_of_them in zip(whole.differences, folds.differences, strict=True):
        assert all_of_them.low > 0
        # With four times as many sequences or more, the interval is roughly half as wide.
        assert 0.25 < (all_of_them.high - all_of_them.low) / (one.high - one.low) < 0.75
    assert "--folds" in compared(folder / "a", tmp_path / "b").why_none


def test_a_state_set_is_exceeded_by_a_better_one(folder, tmp_path):
    """h predicts both hypotheses, c neither, d only the second; h and c together predict what h does."""
    arrays = {name: np.load(folder / f"{name}.npz")["h"] for name in "ab"}
    noise = np.random.default_rng(1).normal(size=arrays["a"].shape).astype(np.float32)
    value_alone = np.where(np.arange(noise.shape[1]) == 1, arrays["b"], noise)
    states = write_states(tmp_path / "s.npz", 1.3, c=noise, d=value_alone)
    out = probe(states, folder / "labels.npz", tmp_path / "r")
    (result,) = read_results([out])
    found = unexceeded_sets(result)
    assert {states for name, states in found if name == "held"} in ({"h"}, {"h", "all"})
    assert {"d", "h"} <= {states for name, states in found if name == "value"}
    assert "c" not in {states for _, states in found} and {name for name, _ in found} == {"held", "value"}
    without = altered(out, tmp_path / "few", lambda each: each.update(auroc_low=None, auroc_high=None))
    assert unexceeded_sets(read_results([without])[0]) == {each for each in found if each[0] == "value"}
    (out / "coefficients.safetensors").unlink()
    assert unexceeded_sets(result) == unexceeded_sets(read_results([folder / "a"])[0]) == set()


def altered(folder, copy, alter):
    shutil.copytree(folder, copy)
    records = json.loads((copy / "probes.json").read_text())
    for each in records:
        alter(each)
    (copy / "probes.json").write_text(json.dumps(records))
    return copy


def test_a_score_without_an_interval_has_no_interval_of_difference(folder, tmp_path):
    copy = altered(folder / "b", tmp_path / "c", lambda each: each.update(auroc_low=None, auroc_high=None))
    held, value = compared(folder / "a", copy).differences
    assert np.isnan([held.low, held.high, held.p, held.q]).all() and not held.decided
    assert held.second > held.first and value.decided and value.q == value.p


def test_uncompared_results_give_the_reason(folder, tmp_path):
    earlier = altered(folder / "b", tmp_path / "earlier", lambda each: each.pop("tested_sha256"))
    assert "earlier gatescope" in compared(folder / "a", earlier).why_none
    others = altered(folder / "b", tmp_path / "others", lambda each: each.update(hypothesis=each["hypothesis"] + "_"))
    assert compared(folder / "a", others).why_none == "they have no scored hypothesis in common"
    alone = shutil.copytree(folder / "b", tmp_path / "alone")
    (alone / "coefficients.safetensors").unlink()
    assert compared(folder / "a", alone).why_none == f"{alone / 'coefficients.safetensors'} is missing"
    balanced = shutil.copytree(folder / "b", tmp_path / "balanced")
    records = [each for each in json.loads((balanced / "probes.json").read_text()) if each["weighting"] != "plain"]
    (balanced / "probes.json").write_text(json.dumps(records))
    assert [each.hypothesis for each in compared(folder / "a", balanced).differences] == ["value"]
    unscored = altered(folder / "b", tmp_path / "unscored", lambda each: each.update(auroc=None, r2=None))
    assert compared(folder / "a", unscored).why_none == "they have no scored hypothesis in common"


@pytest.mark.parametrize(
    "damage, message",
    [
        ("cut", "coefficients.safetensors is damaged"),
        ("absent", "coefficients.safetensors is damaged"),
        ("folder", "coefficients.safetensors is damaged"),
        (np.zeros((0, 12), np.float32), "coefficients.safetensors is damaged"),
        (np.zeros(12, np.float32), "coefficients.safetensors is damaged"),
        (np.zeros((3, 11), np.float32), "has influences of 12 sequences, but .* of 11"),
    ],
)
def test_damaged_influences_are_refused(folder, tmp_path, damage, message):
    copy = shutil.copytree(folder / "b", tmp_path / "c")
    path = copy / "coefficients.safetensors"
    if isinstance(damage, str) and damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif isinstance(damage, str) and damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
        arrays = {name: each for name, each in load_file(path).items() if not name.endswith("influence")}
        if not isinstance(damage, str):
            arrays |= {"h/plain/influence": damage, "h/none/influence": damage}
        save_file(arrays, path, metadata)
    with pytest.raises(InputError, match=f"{message}.*probe again with --overwrite"):
        compared(folder / "a", copy)
