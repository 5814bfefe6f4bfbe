"""Derivatives of one unit's loss, against torch's autograd over all values, and the error of bins."""

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from gatescope.engine.unit_loss import Histogram, Values

POINTS = np.array([[0.0, 0.7, -2.5, 6.0], [0.3, -1.0, 2.0, -4.0]])  # (w, b) of four hypotheses


def unit(n=400):
    """Ascending values, and the share of the weight at each: of all positions, and of each hypothesis's positives."""
    generator = np.random.default_rng(0)
    u = np.sort(generator.standard_normal(n))
    mass = generator.uniform(0.5, 1.5, n)
    mass /= mass.sum()
    return u, mass, mass[:, None] * (generator.random((n, POINTS.shape[1])) < 0.3 + 0.4 * (u[:, None] > 0))


def exact(u, mass, positive, g):
    """The mean loss of hypothesis g at its point, its gradient [2] and its Hessian [2, 2]."""
    values, all_, those = map(torch.from_numpy, (u, mass, np.ascontiguousarray(positive[:, g])))

    def loss(point):
        z = point[0] * values + point[1]
        return ((all_ - those) * softplus(z) + those * softplus(-z)).sum()

    point = torch.from_numpy(POINTS[:, g].copy())
    jacobian, hessian = torch.autograd.functional.jacobian, torch.autograd.functional.hessian
    return loss(point).item(), jacobian(loss, point).numpy(), hessian(loss, point).numpy()


def histogram(u, mass, positive, n_bins):
    """The values in bins of equal width; with as many bins as values, each bin is a single value with its mass."""
    target = np.stack([u @ positive, positive.sum(axis=0)])
    if n_bins == len(u):
        return Histogram(u[None], np.zeros((1, len(u))), mass[None, None], target)
    edges = np.linspace(u[0], u[-1], n_bins + 1)
    place = np.clip(np.searchsorted(edges, u, side="right") - 1, 0, n_bins - 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    moments = [np.bincount(place, mass * (u - middle[place]) ** i, n_bins) for i in range(5)]
    return Histogram(
        middle[None], np.full((1, n_bins), 0.5 * (edges[1] - edges[0])), np.stack(moments)[:, None], target
    )


def uncentred(found, g):
    """The gradient in (w, b), from the gradient in (w, b + w * centre)."""
    return np.array([found.gradient[0, g] + found.centre[g] * found.gradient[1, g], found.gradient[1, g]])


@pytest.mark.parametrize("kind", ["histogram", "values"])
@pytest.mark.parametrize("g", range(POINTS.shape[1]))
def test_derivatives_over_single_values_equal_autograd(kind, g):
    u, mass, positive = unit()
    point, which, at = POINTS[:, g : g + 1], np.array([g]), 0
    data = (
        histogram(u, mass, positive, len(u))
        if kind == "histogram"
        else Values(u, positive[:, g], mass - positive[:, g])
    )
    loss, gradient, hessian = exact(u, mass, positive, g)
    found = data.derivatives(point, which)
    np.testing.assert_allclose(data.loss(point, which), [loss], rtol=1e-13)
    np.testing.assert_allclose(uncentred(found, at), gradient, rtol=0, atol=1e-14)
    # In centred coordinates the Hessian is diagonal.
    back = np.array([[1, 0], [-found.centre[at], 1]])
    np.testing.assert_allclose(back.T @ hessian @ back, np.diag(found.curvature[:, at]), rtol=1e-12, atol=1e-15)
    assert (np.abs(uncentred(found, at) - gradient) <= 4 * found.rounding[:, at]).all()


@pytest.mark.parametrize("n_bins", [4, 8, 16, 64])
def test_the_gradient_error_of_binning_is_within_its_bound(n_bins):
    u, mass, positive = unit()
    data, finer = (histogram(u, mass, positive, n) for n in (n_bins, 2 * n_bins))
    found, bound = data.derivatives(POINTS, np.arange(POINTS.shape[1])), data.omitted(POINTS)
    for g in range(POINTS.shape[1]):
        error = np.abs(uncentred(found, g) - exact(u, mass, positive, g)[1])
        assert (error <= bound[:, g] + 4 * found.rounding[:, g]).all()
    # The bound falls with the fifth power of the width, apart from the mass in a bin.
    assert (16 * finer.omitted(POINTS) <= bound).all()
