"""Systems solved on a scale of their own, and what must be added to the diagonal of a singular matrix."""

import numpy as np
import pytest

from gatescope.engine.positive_definite import solution, with_least_jitter


def test_widely_different_scales_are_solved():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(50, 6))
    size = np.logspace(-6, 6, 6)
    expected = generator.normal(size=(6, 2))
    matrix = (rows.T @ rows) * size * size[:, None]
    found = solution(matrix.copy(), matrix @ (expected / size[:, None]))
    np.testing.assert_allclose(found * size[:, None], expected, rtol=1e-9)


@pytest.mark.parametrize("matrix", [np.ones((2, 2)), np.full((2, 2), np.nan), np.zeros((2, 2)), np.diag([1.0, -1.0])])
def test_singular_systems_have_no_solution(matrix):
    assert solution(matrix, np.eye(2)) is None


def test_the_diagonal_grows_until_there_is_a_factor():
    asked = []
    factor, jitter = with_least_jitter(lambda more: asked.append(more) or ("factor" if len(asked) == 3 else None), "f4")
    eps = np.finfo(np.float32).eps
    assert (factor, jitter) == ("factor", asked[-1]) and asked == pytest.approx([4 * eps, 120 * eps, 3600 * eps])
