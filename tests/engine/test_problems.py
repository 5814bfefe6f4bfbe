"""problems.py: results of some problems are replaced by finer ones."""

import numpy as np

from gatescope.engine.problems import Solution

ARRAYS = ("coefficients", "intercepts", "gradient", "half_decrement", "objective", "drift")


def solution(value, status):
    made = Solution(2, 3)
    for name in ARRAYS:
        getattr(made, name)[:] = value
    made.status[:], made.n_iterations[:], made.n_passes[:] = status, [1, 2, 3], [4, 5, 6]
    return made


def test_a_finer_solution_replaces_problems_solved_again():
    first, finer = solution(1.0, "stalled"), solution(2.0, "converged")
    finer.n_iterations[0] = finer.n_passes[0] = 0
    first.update(finer, np.array([False, True, True]))
    for name in ARRAYS:
        assert (getattr(first, name) == [1, 2, 2]).all(), name
    assert first.status.tolist() == ["stalled", "converged", "converged"]
    # Its work is counted, too.
    assert first.n_iterations.tolist() == [1, 4, 6] and first.n_passes.tolist() == [4, 10, 12]


def test_a_fresh_solution_is_nan_and_took_no_work():
    fresh = Solution(2, 3)
    assert all(np.isnan(getattr(fresh, name)).all() for name in ARRAYS)
    assert fresh.n_passes.tolist() == fresh.n_iterations.tolist() == [0, 0, 0]
    assert fresh.singular.tolist() == [False] * 3 and fresh.singular.dtype == bool
