"""Moments against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.gram import Moments, weighted_sd
from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.weights import Weights


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_moments_of_columns_far_from_zero_are_accurate(weighted, dtype):
    generator = np.random.default_rng(0)
    X = (generator.standard_normal((3000, 5)) @ generator.standard_normal((5, 5)) + [0, 10, -300, 1, 0]).astype(dtype)
    X[:, 3] = 7.3
    weight = generator.uniform(0, 2, 3000) * (generator.random(3000) < 0.8) if weighted else None
    computing = np.float64 if dtype is np.float64 else np.float32
    with RowBlocks(X, computing) as rows:
        full, narrow = Moments(rows, weight, covariance=True), Moments(rows, weight)
    # Long doubles, to hide the reference's own rounding.
    share = (np.ones(3000) if weight is None else weight).astype(np.longdouble)
    mean = (share @ X.astype(np.longdouble) / share.sum()).astype(np.float64)
    centred = X.astype(np.longdouble) - share @ X.astype(np.longdouble) / share.sum()
    covariance = ((centred * share[:, None]).T @ centred / share.sum()).astype(np.float64)
    eps = float(np.finfo(computing).eps)
    for moments in (full, narrow):
        # Sums of thousands of terms, whose rounding errors add up like a random walk.
        np.testing.assert_allclose(moments.mean, mean, rtol=60 * eps, atol=60 * eps)
        np.testing.assert_allclose(
            moments.sd[[0, 1, 2, 4]], np.sqrt(covariance.diagonal())[[0, 1, 2, 4]], rtol=60 * eps
        )
        assert moments.sd[3] == 0
        np.testing.assert_allclose(moments.total, 3000 if weight is None else weight.sum(), rtol=60 * eps)
    kept = np.ix_([0, 1, 2, 4], [0, 1, 2, 4])
    size = np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))[kept]
    assert (np.abs(full.covariance - covariance)[kept] <= 60 * eps * size).all()


def test_spread_follows_the_weights_of_the_chosen_hypotheses():
    generator = np.random.default_rng(1)
    X = generator.standard_normal((3000, 4)) * [1, 5, 0.1, 1] + [0, 100, 3, 7]
    X[:, 3] = 7.0
    X[1000:, 0] = 2.0
    weight = generator.uniform(0, 1e-40, (3000, 3))
    weight[:1000, 1] = 0
    with RowBlocks(X, np.float64) as rows:
        rows.block_rows = 700
        found = weighted_sd(rows, Weights(weight, *weight.shape, np), np.array([0, 1]))
        plain = weighted_sd(rows, Weights(None, 3000, 3, np), np.array([0]))
    for k in range(2):
        expected = np.sqrt(np.cov(X.T, aweights=weight[:, k] * 1e40, ddof=0).diagonal())
        np.testing.assert_allclose(found[k], expected, rtol=1e-9, atol=1e-12)
    assert found[1, 0] == 0 and (found[:, 3] == 0).all()
    np.testing.assert_allclose(plain[0], X.std(axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 1.0])
def test_spread_counts_only_rows_with_weight(device, dtype, spread):
    """Units that vary little where they have weight, and much elsewhere."""
    generator = np.random.default_rng(2)
    X = (generator.standard_normal((3000, 3)) * [1, 100, 1] + [0, 0, 50]).astype(dtype)
    mask = np.arange(3000) % 3 == 0
    # The first rows have no weight, and their mean is taken as the origin.
    mask[:1500] = False
    X[mask, :2] = (0.3 + spread * generator.standard_normal((mask.sum(), 2))).astype(dtype)
    weight = np.stack([mask * generator.uniform(0.5, 2, 3000), np.ones(3000)], axis=1)
    expected = [np.sqrt(np.cov(X.T.astype(np.longdouble), aweights=each, ddof=0).diagonal()) for each in weight.T]
    for move, xp in ((lambda array: array, np), (device, device.xp)):
        with RowBlocks(move(X), dtype) as rows:
            rows.block_rows = 700
            found = weighted_sd(rows, Weights(move(weight), *weight.shape, xp), np.array([0, 1]))
            moments = Moments(rows, move(weight[:, 0]))
        np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-4, atol=1e-15)
        np.testing.assert_allclose(moments.sd, found[0], rtol=1e-4)
        assert (found[0, :2] == 0).all() == (moments.sd[:2] == 0).all() == (spread == 0)


def test_rounding_far_from_zero_does_not_count_as_spread():
    generator = np.random.default_rng(3)
    X = (1000 + 5e-4 * generator.standard_normal((3000, 1))).astype(np.float32)
    with RowBlocks(X, np.float32) as rows:
        np.testing.assert_allclose(Moments(rows).sd, X.std(axis=0, dtype=np.float64), rtol=1e-4)
    # A unit whose values differ only by rounding counts as constant.
    for few in (0, 1, 300):
        X = np.full((3000, 1), 0.1)
        X[:few] = np.nextafter(0.1, 1)
        weight = generator.uniform(0, 1, (3000, 1))
        with RowBlocks(X, np.float64) as rows:
            assert Moments(rows).sd == Moments(rows, weight[:, 0]).sd == 0
            assert weighted_sd(rows, Weights(weight, 3000, 1, np), np.array([0])) == 0


def test_nonfinite_values_are_refused_and_large_ones_accepted():
    X = np.ones((500, 3), np.float32)
    X[77, 1] = np.nan
    with RowBlocks(X, np.float32) as rows, pytest.raises(InputError, match="NaN at row 77, column 1"):
        Moments(rows)
    X[77, 1] = 3e38
    with RowBlocks(X, np.float32) as rows:
        Moments(rows)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_moments_on_a_device_are_accurate(device, dtype):
    X = (np.random.default_rng(2).standard_normal((3000, 5)) * [1, 5, 0.1, 1, 0] + [0, 100, 3, 7, 7]).astype(dtype)
    computing = np.float64 if dtype is np.float64 else np.float32
    with RowBlocks(device(X), computing) as rows:
        rows.block_rows = 700
        moments = Moments(rows)
    exact = X.astype(np.longdouble)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=60 * np.finfo(computing).eps)
    np.testing.assert_allclose(moments.sd, exact.std(axis=0), rtol=60 * np.finfo(computing).eps)
    assert moments.sd[4] == 0
