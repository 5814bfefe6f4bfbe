"""States of more than 2^31 elements, and the same at a small size: repeated rows count as often as they occur."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gatescope.engine.irls import LogisticProbes
from gatescope.engine.neurons import STATISTICS, NeuronProbes

# Device, distinct rows, their repeats, the first repeat that counts for the second hypothesis, units. In the large case
# that repeat lies beyond 2^31 elements.
SIZES = [
    pytest.param(("cpu", 600, 9, 7, 12), id="small"),
    pytest.param(("cuda", 12_000, 125, 117, 1536), id="large", marks=pytest.mark.cuda),
]


@pytest.fixture(scope="module", params=SIZES)
def problem(request):
    """Distinct rows, their labels, how often each counts for each hypothesis [2], and the full X, Y and weights."""
    device, n_rows, n_repeats, late, n_units = request.param
    if device == "cuda":
        pytest.importorskip("cupy")
        assert late * n_rows * n_units > 2**31
        if torch.cuda.mem_get_info()[0] < 16e9:
            pytest.skip("needs 16 GB of a GPU's memory")
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((n_rows, n_units)).astype(np.float16)
    logits = 2 * rows.astype(np.float64) @ generator.standard_normal((n_units, 2)) / n_units**0.5
    labels = logits + generator.logistic(size=logits.shape) > [0, 1]
    X = torch.empty(n_repeats, n_rows, n_units, dtype=torch.float16, device=device)
    for piece in X:
        piece.copy_(torch.from_numpy(rows))
    Y = torch.from_numpy(labels).to(device).repeat(n_repeats, 1, 1)
    weight = torch.ones(n_repeats, n_rows, 2, device=device)
    # Before that repeat the labels are inverted, and have no weight.
    Y[:late, :, 1], weight[:late, :, 1] = ~Y[:late, :, 1], 0
    flat = [each.flatten(0, 1) for each in (X, Y, weight)]
    return rows, labels, np.array([n_repeats, n_repeats - late]), *flat


def test_logistic_probes_of_large_arrays_equal_small_ones(problem):
    rows, labels, counts, X, Y, weight = problem
    expected = LogisticProbes(counts, tol=1e-10).fit(rows.astype(np.float64), labels)
    probes = LogisticProbes(tol=1e-7).fit(X, Y, weight)
    assert probes.status_.tolist() == expected.status_.tolist() == ["converged"] * 2
    for k in range(2):
        np.testing.assert_allclose(probes.coef_[k], expected.coef_[k], rtol=0, atol=1e-3 * abs(expected.coef_[k]).max())
    np.testing.assert_allclose(probes.objective_ / counts, expected.objective_, rtol=1e-6)
    logits = probes.decision_function(X)
    np.testing.assert_allclose(logits[-len(rows) :], expected.decision_function(rows), rtol=0, atol=1e-2)
    np.testing.assert_allclose(logits[: len(rows)], logits[-len(rows) :], rtol=0, atol=1e-4)


def test_single_units_of_large_arrays_equal_small_ones(problem):
    rows, labels, counts, X, Y, weight = problem
    chosen = [0, rows.shape[1] // 2, rows.shape[1] - 1]
    expected = NeuronProbes().fit(rows[:, chosen], labels, np.tile(counts, (len(rows), 1)))
    units = NeuronProbes().fit(X, Y, weight)
    assert (units.status_ == "converged").all()
    for name in STATISTICS:
        loose = {"coef_": 1e-7, "intercept_": 1e-7}.get(name, 1e-9)
        got = getattr(units, name)[:, chosen]
        np.testing.assert_allclose(got, getattr(expected, name), rtol=loose, atol=1e-9, err_msg=name)
