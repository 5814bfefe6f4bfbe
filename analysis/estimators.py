"""The estimators of linear probes: logistic regression for boolean hypotheses, ridge regression for continuous ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine.irls import LogisticProbes
from gatescope.engine.ridge import RidgeProbes

Estimator = LogisticProbes | RidgeProbes


def estimator_of(weighting: str, C: float = 1.0, memory_limit: str | int | None = None) -> Estimator:
    """Return the estimator for a weighting: "plain", "balanced", or "none" for continuous hypotheses."""
    if weighting == "none":
        return RidgeProbes(C=C, memory_limit=memory_limit)
    return LogisticProbes(C=C, class_weight="balanced" if weighting == "balanced" else None, memory_limit=memory_limit)


def decision_values(model: Estimator, X: Any) -> np.ndarray:
    """Return the logits of the positive class, or the predicted values of continuous hypotheses, [n, K]."""
    return np.asarray(model.decision_function(X) if isinstance(model, LogisticProbes) else model.predict(X))
