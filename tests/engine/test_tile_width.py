"""tile_width.py: how many problems a pass takes within a memory limit, from one up to a tile."""

import numpy as np

from gatescope.engine.row_blocks import RowBlocks
from gatescope.engine.tile_width import TILE, tile_width

X = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)


def width(limit, n_targets=1000, X=X):
    with RowBlocks(X, np.float32, limit) as rows:
        return tile_width(rows, n_targets, 4)


def test_a_limit_is_shared_by_the_problems_of_a_pass():
    limits = 2 ** np.arange(10, 34)
    found = [width(int(limit)) for limit in limits]
    assert {at_once for _, at_once in found} == {1}
    widths = np.array([problems for problems, _ in found])
    assert widths[0] == 1 and widths[-1] == TILE and (np.diff(widths) >= 0).all()
    assert len(set(widths)) > 5
    # At the very least, logits, labels and a factor for each problem are within the limit.
    least = 4 * (2 * X.shape[0] + 64**2 // 2)
    assert all(problems * least <= limit for (problems, _), limit in zip(found, limits, strict=True) if problems > 1)


def test_a_fit_without_a_limit_uses_memory_proportional_to_labels(monkeypatch):
    monkeypatch.setattr("gatescope.engine.row_blocks.thread_count", lambda: 2)
    widths = []
    for n_targets in (1, 5, 20, 1000):
        problems, at_once = width(None, n_targets)
        # Six arrays [N, K] and four [H, H] beside X; each problem takes two arrays and a factor.
        assert problems == 1 or problems * 4 * (2 * 20_000 + 64**2 // 2) <= 4 * (6 * 20_000 * n_targets + 4 * 64**2)
        assert 1 <= problems <= TILE and at_once in (1, 2)
        widths.append(problems)
    assert widths[0] == 1 and widths[-1] > 20 and widths == sorted(widths)


def test_a_problem_of_many_rows_takes_two_row_arrays():
    """A label and a logit for each row, beside which all else is little, may take four tenths of the memory."""
    rows, limit = np.ones((400_000, 2), np.float32), 64_000_000
    most = 0.4 * limit / (4 * 2 * len(rows))
    assert 0.7 * most <= width(limit, X=rows)[0] <= most
