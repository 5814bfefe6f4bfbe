"""The online code against a row-by-row sum, and its result for labels with and without a cause."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from gatescope.analysis.description_length import SHARES, cut_points, online_description_length

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any))
def test_cuts_are_the_boundaries_nearest_to_the_shares(lengths):
    starts = np.concatenate([[0], np.cumsum(lengths)])
    cuts = cut_points(starts)
    n = starts[-1]
    borders = sorted(set(starts.tolist()) - {0})
    assert cuts.tolist() == sorted(
        {min(borders, key=lambda border: (abs(border - share * n), border)) for share in SHARES}
    )
    assert cuts[-1] == n
    assert (np.diff(cuts) > 0).all()


def test_many_equal_sequences_are_cut_exactly_at_the_shares():
    assert cut_points(np.arange(1001) * 500).tolist() == [
        *(500 * s for s in (1, 2, 4, 8, 16, 32, 62, 125, 250, 500, 1000))
    ]


def naive_bits(probability, y, defined, cuts, b):
    """Bits of block b for one hypothesis, row by row."""
    start, stop = (0 if b == 0 else cuts[b - 1]), cuts[b]
    seen = [bool(label) for label, counts in zip(y[:start], defined[:start], strict=True) if counts]
    bits = 0.0
    for n in range(start, stop):
        if not defined[n]:
            continue
        if b == 0:
            bits += 1.0
            continue
        floor = 1 / (len(seen) + 2)
        p = (sum(seen) + 1) / (len(seen) + 2) if math.isnan(probability[n]) else probability[n]
        p = min(max(p, floor), 1 - floor)
        bits -= math.log2(p if y[n] else 1 - p)
    return bits


@pytest.mark.parametrize("seed", range(3))
def test_code_equals_the_sum_row_by_row(seed):
    rng = np.random.default_rng(seed)
    cuts = np.array([3, 10, 40])
    Y, weight = rng.random((40, 4)) < 0.3, rng.random((40, 4)) < 0.8
    # Predictions that are certain and right, certain and wrong, and missing are among them.
    probability = rng.choice([0.0, 0.2, 0.5, 0.9, 1.0, np.nan], size=(40, 4))
    asked = []

    def predict_next(start, stop):
        asked.append((start, stop))
        return probability[start:stop]

    code = online_description_length(predict_next, Y, weight, cuts)
    assert asked == [(3, 10), (10, 40)]
    expected = [[naive_bits(probability[:, k], Y[:, k], weight[:, k], cuts, b) for k in range(4)] for b in range(3)]
    np.testing.assert_allclose(code["block_bits"], expected, rtol=1e-12)
    np.testing.assert_allclose(code["bits"], np.sum(expected, axis=0), rtol=1e-12)
    for k in range(4):
        labels = Y[weight[:, k], k]
        p, n = labels.mean(), len(labels)
        entropy = -n * (p * math.log2(p) + (1 - p) * math.log2(1 - p))
        assert code["uniform_bits"][k] == n
        np.testing.assert_allclose(code["entropy_bits"][k], entropy, rtol=1e-12)
        np.testing.assert_allclose(code["compression"][k], n / code["bits"][k], rtol=1e-12)
        np.testing.assert_allclose(code["compression_entropy"][k], entropy / code["bits"][k], rtol=1e-12)


def test_labels_of_one_class_and_undefined_labels_have_codes():
    Y = np.array([[False, True, True]] * 30)
    weight = np.array([[1, 1, 0]] * 30)
    code = online_description_length(lambda a, b: np.full((b - a, 3), np.nan), Y, weight, np.array([2, 10, 30]))
    # Laplace's rule after 2 and after 10 equal labels.
    bits = 2 + 8 * math.log2(4 / 3) + 20 * math.log2(12 / 11)
    np.testing.assert_allclose(code["bits"], [bits, bits, 0], rtol=1e-12)
    np.testing.assert_array_equal(code["entropy_bits"], [0, 0, 0])
    np.testing.assert_array_equal(code["compression_entropy"], [np.nan] * 3)
    np.testing.assert_allclose(code["compression"], [30 / bits, 30 / bits, np.nan])


def test_one_label_costs_one_bit():
    weight = np.array([[0], [1], [0]])
    code = online_description_length(lambda a, b: np.full((b - a, 1), 0.5), weight > 0, weight, np.array([2, 3]))
    assert (code["bits"].tolist(), code["compression"].tolist()) == ([1], [1])
    assert np.isnan(code["compression_entropy"]).all()


def test_a_probe_compresses_only_what_states_know():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 8))
    Y = np.stack([X @ np.arange(8.0) + rng.normal(size=4000) > 0, rng.random(4000) < 0.5], axis=1)

    def predict_next(start, stop):
        fits = (LogisticRegression().fit(X[:start], Y[:start, k]) for k in range(2))
        return np.stack([fit.predict_proba(X[start:stop])[:, 1] for fit in fits], axis=1)

    code = online_description_length(predict_next, Y, np.ones_like(Y), cut_points(np.arange(0, 4001, 40)))
    # The states' own noise leaves about 4% of the known labels uncertain; coin tosses cannot be compressed.
    assert code["compression"][0] > 3
    assert code["compression"][1] < 1
