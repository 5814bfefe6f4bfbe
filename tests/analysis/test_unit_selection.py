"""Forward selection, against least squares fitted anew for every unit that might come next."""

import numpy as np
import pytest

from gatescope.analysis.unit_selection import selected_units
from gatescope.engine import row_blocks

N, H = 700, 9


@pytest.fixture(scope="module")
def states():
    """Units of different scale and location; 4 is nearly a copy of unit 2, and 6 is constant."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, H)) @ (np.eye(H) + 0.8 * rng.normal(size=(H, H)))
    X = X * np.logspace(-2, 2, H) + np.linspace(-30, 30, H)
    X[:, 4] = 3 * X[:, 2] + 1
    X[:, 6] = 7.5
    return X.astype(np.float32)


def labels_of(X, continuous):
    """Labels of units 2 and 7, of 0, 3 and 8, and of none; the first two are defined at the same rows."""
    rng = np.random.default_rng(1)
    Z = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-6)
    value = np.stack([Z[:, 2] + 0.6 * Z[:, 7], Z[:, [0, 3, 8]].sum(axis=1), np.zeros(N)], axis=1)
    value += 0.5 * rng.normal(size=value.shape)
    defined = np.stack([rng.random(N) < 0.8, rng.random(N) < 0.8, np.ones(N, bool)], axis=1)
    defined[:, 1] = defined[:, 0]
    return value.astype(np.float32) if continuous else value > 0.4, defined


def missed(X, y, columns):
    """The part of a label's sum of squares that least squares on these columns leaves."""
    A = np.column_stack([np.ones(len(X)), *((X[:, c] - X[:, c].mean()) / max(X[:, c].std(), 1e-6) for c in columns)])
    return ((y - A @ np.linalg.lstsq(A, y, rcond=1e-6)[0]) ** 2).sum()


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("block", [2048, 100])
def test_each_selected_unit_minimises_the_residual(states, monkeypatch, continuous, block):
    monkeypatch.setattr(row_blocks, "BLOCK_ROWS", block)
    Y, defined = labels_of(states, continuous)
    found = selected_units(states, np.where(defined, Y, ~Y if Y.dtype == bool else np.nan), defined, 7)
    X = states.astype(np.float64)
    for k in range(3):
        rows, chosen = defined[:, k], []
        for unit in found[k].tolist():
            # What differs from unit 2 by rounding alone adds no more than chance.
            others = set(range(H)) - ({2, 4} if {2, 4} & set(chosen) else set())
            left = {other: missed(X[rows], Y[rows, k].astype(float), [*chosen, other]) for other in others}
            assert left[unit] == pytest.approx(min(left.values()), rel=1e-6)
            chosen.append(unit)
        # Of two equal units one is enough, and a constant unit adds nothing.
        assert len(set(chosen)) == 7 and not {2, 4} <= set(chosen) and 6 not in chosen
    assert set(found[0][:2]) in ({2, 7}, {4, 7}) and set(found[1][:3]) == {0, 3, 8}


def test_uninformative_labels_still_rank_each_unit_once(states):
    same, nowhere = np.ones((N, 1), bool), np.zeros((N, 1), bool)
    for Y, defined in ((same, same), (nowhere, same), (same, nowhere)):
        with np.errstate(all="raise"):
            (found,) = selected_units(states, Y, defined, H)
        assert sorted(found) == list(range(H))


def test_selection_handles_offsets_and_undefined_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    Y = (X[:, [4]] + 0.5 * X[:, [2]] + 0.1 * rng.normal(size=(2000, 1))) > 0
    defined = np.ones((2000, 1), bool)
    assert selected_units(X, Y, defined, 2).tolist() == [[4, 2]]
    assert selected_units(X + 1e8, Y, defined, 2).tolist() == [[4, 2]]
    defined[0], X[0] = False, 1e8
    assert selected_units(X.astype(np.float32), Y, defined, 2).tolist() == [[4, 2]]
