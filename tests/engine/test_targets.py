"""Weights and labels, against scikit-learn's counting."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from gatescope.engine.errors import InputError
from gatescope.engine.targets import BinaryTargets, as_binary, as_continuous, as_targets
from gatescope.engine.weights import Weights


def make(n_rows=20_000, n_targets=3):
    generator = np.random.default_rng(0)
    Y = generator.random((n_rows, n_targets)) < [0.5, 0.1, 0.01]
    weight = generator.uniform(0, 3, Y.shape).astype(np.float32) * (generator.random(Y.shape) < 0.5)
    return Y, weight


@pytest.mark.parametrize("kind", [None, "shared", "each"])
@pytest.mark.parametrize("class_weight", [None, "balanced", {False: 0.5, True: 4.0}])
def test_signed_weights_and_totals_match_the_definition(kind, class_weight):
    Y, weight = make()
    given = {None: None, "shared": weight[:, 0], "each": weight}[kind]
    targets = BinaryTargets(Y, Weights(given, *Y.shape, np), class_weight)
    for k in range(3):
        s = np.ones(len(Y)) if given is None else weight[:, 0 if kind == "shared" else k].astype(np.float64)
        factors = np.ones(2)
        if isinstance(class_weight, dict):
            factors = np.array([0.5, 4.0])
        elif class_weight:
            kept = s > 0
            factors = compute_class_weight(
                "balanced", classes=np.array([0, 1]), y=Y[kept, k] * 1, sample_weight=s[kept]
            )
        expected = s * np.where(Y[:, k], factors[1], -factors[0])
        np.testing.assert_allclose(targets.signed(k, np.dtype(np.float64)), expected, rtol=1e-7)
        np.testing.assert_allclose(targets.class_totals[:, k], [-expected[~Y[:, k]].sum(), expected[Y[:, k]].sum()])


@pytest.mark.parametrize("size", [1e-300, 1e-46, 1.0, 1e40])
def test_weights_of_any_size_fit_into_single_precision(size):
    Y, weight = make()
    weight = weight.astype(np.float64) * size
    targets = BinaryTargets(Y, Weights(weight, *Y.shape, np), "balanced")
    for k in range(3):
        signed = targets.signed(k, np.dtype(np.float32), targets.unit[k])
        exact = targets.signed(k, np.dtype(np.float64))
        np.testing.assert_allclose(signed * np.float64(targets.unit[k]), exact, rtol=1e-6)
        some = targets.signed_rows(100, 200, np.array([k, 0]))
        np.testing.assert_allclose(some[:, 0] * targets.unit[k], exact[100:200], rtol=1e-12)


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_a_class_without_weight_has_total_zero(device, label, n_targets):
    # A large weight and many small ones: added in another order, their sum rounds to another number.
    weight = np.ones((20_000, n_targets))
    weight[::5000] = 1e16
    alike = np.full(weight.shape, label)
    other = np.where(np.arange(20_000) % 3 == 0, label, not label)[:, None].repeat(n_targets, axis=1)
    for move, xp in ((lambda array: array, np), (device, device.xp)):
        for Y, given in ((alike, weight[:, 0]), (alike, weight), (other, weight * (other == label))):
            totals = BinaryTargets(move(Y), Weights(move(given), *Y.shape, xp), "balanced").class_totals
            assert (totals[int(not label)] == 0).all() and (totals[int(label)] > 0).all()


def test_only_a_call_entirely_without_weight_is_refused():
    Y, _ = make(100)
    targets = BinaryTargets(Y, Weights(np.zeros(Y.shape), *Y.shape, np), "balanced")
    assert (targets.class_totals == 0).all() and (targets.unit == 1).all()
    with pytest.raises(InputError, match="zero everywhere"):
        Weights(np.zeros(100), *Y.shape, np)


def test_labels_must_be_binary():
    assert as_targets([1, 0], 2).shape == (2,)
    np.testing.assert_array_equal(as_binary(np.array([[1.0], [0.0]])), [[True], [False]])
    with pytest.raises(InputError, match="Y is 2 at row 1, hypothesis 0"):
        as_binary(np.array([[1], [2]]))
    with pytest.raises(InputError, match="expected booleans"):
        as_binary(np.array([["a"], ["b"]]))
    np.testing.assert_array_equal(as_binary(np.array([[True, 0.0], [1, False]], object)), [[1, 0], [1, 0]])
    with pytest.raises(InputError, match=r"Y contains NaN or inf at \(1, 0\)"):
        as_binary(np.array([[True], [None]]))
    assert as_continuous(np.array([1, 2], dtype=object)).dtype == np.float64
    with pytest.raises(InputError, match="Unknown label type"):
        as_continuous(np.array(["x", 2], dtype=object))
    with pytest.raises(InputError, match="the target y is None"):
        as_targets(None, 3)
    with pytest.raises(InputError, match="Complex data not supported"):
        as_targets(np.array([1 + 2j, 0]), 2)


@pytest.mark.parametrize("weighted", [None, "shared", "each"])
def test_device_targets_find_classes_and_bad_weights_in_any_chunk(device, monkeypatch, weighted):
    Y, weight = make(n_rows=500)
    weight = {None: None, "shared": weight[:, 0], "each": weight}[weighted]
    monkeypatch.setattr("gatescope.engine.targets.CHUNK_ROWS", 50)
    monkeypatch.setattr("gatescope.engine.weights.CHUNK_ROWS", 50)
    expected = BinaryTargets(Y, Weights(weight, *Y.shape, np), "balanced")
    given = Weights(device(weight), *Y.shape, device.xp)
    # Labels and weights may lie on different devices.
    for labels in (device(Y), Y):
        got = BinaryTargets(labels, given, "balanced")
        np.testing.assert_allclose(got.class_totals, expected.class_totals, rtol=1e-13)
        np.testing.assert_array_equal(got.unit, expected.unit)
    if weighted:
        weight[400:] = -1
        with pytest.raises(InputError, match=r"sample_weight is -1.0 at row 400"):
            Weights(device(weight), *Y.shape, device.xp)
