"""A probe fitted on one half of the sequences and tested on the other, against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from gatescope.analysis.refitted_probe import refitted_auroc

S, T, D = 12, 40, 6


def case(seed=0):
    generator = np.random.default_rng(seed)
    holds = generator.random(S * T) < 0.3
    X = generator.normal(size=(S * T, D)) + 1.2 * holds[:, None] * np.eye(D)[2]
    return X.astype(np.float32), holds, np.repeat(np.arange(S), T)


def by_hand(X, holds, sequence, first):
    """AUROC within each half by the other half's probe, weighted by pairs."""
    won = pairs = 0
    for half in (np.isin(sequence, first), ~np.isin(sequence, first)):
        score = Ridge(alpha=1.0).fit(X[~half].astype(np.float64), holds[~half]).predict(X[half])
        n = holds[half].sum() * (~holds[half]).sum()
        won, pairs = won + n * roc_auc_score(holds[half], score), pairs + n
    return won / pairs


def test_each_half_is_predicted_by_the_probe_of_the_other():
    X, holds, sequence = case()
    first = np.random.default_rng(3).permutation(S)[: S // 2]
    found = refitted_auroc(X, holds, sequence, np.arange(S) + 7, 3)
    assert found == pytest.approx(by_hand(X, holds, sequence, first), abs=1e-12) and found > 0.7
    # Other halves give another number.
    assert refitted_auroc(X, holds, sequence, np.arange(S), 4) != found


def test_groups_are_not_split():
    X, holds, sequence = case()
    groups = np.repeat([9, 4, 9, 2], 3)
    chosen = np.unique(groups)[np.random.default_rng(0).permutation(3)[: round(1.5)]]
    first = np.flatnonzero(np.isin(groups, chosen))
    assert refitted_auroc(X, holds, sequence, groups, 0) == pytest.approx(by_hand(X, holds, sequence, first), abs=1e-12)


def test_uninformative_states_score_one_half():
    X, holds, sequence = case()
    X[:, 2] = 0
    assert refitted_auroc(X, holds, sequence, np.arange(S), 0) == pytest.approx(0.5, abs=0.1)
    assert refitted_auroc(np.ones_like(X), holds, sequence, np.arange(S), 0) == 0.5


def test_halves_that_cannot_be_fitted_give_nan():
    X, holds, sequence = case()
    assert np.isnan(refitted_auroc(X, np.ones_like(holds), sequence, np.arange(S), 0))
    assert np.isnan(refitted_auroc(X, holds & (sequence == 3), sequence, np.arange(S), 0))
    assert np.isnan(refitted_auroc(X[:T], holds[:T], sequence[:T], np.arange(1), 0))
    X[7, 2] = np.inf
    assert np.isnan(refitted_auroc(X, holds, sequence, np.arange(S), 0))
