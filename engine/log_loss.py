"""The weighted log-loss of a logit and its derivatives, exact in the tails.

For weight s, label y and logit z the loss is `s log(1 + exp(-m))` with the margin `m = (2 y - 1) z`, its derivative
`-(2 y - 1) s / (1 + exp(m))` and its second derivative `s p (1 - p)` with `p = 1 / (1 + exp(-z))`. No form here
overflows or cancels (Maechler 2012). Weight and label come as one number, `s (2 y - 1)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gatescope.engine import log_loss_cuda
from gatescope.engine.arrays import array_namespace


def log_loss(logits: Any, signed: Any) -> tuple[Any, Any]:
    """Return the loss in nats and its derivative in the logit.

    Args:
        logits: z, any shape, float32 or float64.
        signed: s (2 y - 1), of the same shape and type: the sign is the label and the size the weight.
    """
    if array_namespace(logits) is not np:
        return log_loss_cuda.loss_and_slope(logits, signed)
    # Numba takes a third of a second to import, which only a fit needs.
    from gatescope.engine import log_loss_host

    loss, slope = np.empty((2, *logits.shape), logits.dtype)
    log_loss_host.loss_and_slope(logits.reshape(-1), signed.reshape(-1), loss.reshape(-1), slope.reshape(-1))
    return loss, slope


def log_loss_slope(logits: Any, signed: Any) -> Any:
    """Return the derivative alone."""
    return log_loss_cuda.slope(logits, signed) if array_namespace(logits) is not np else log_loss(logits, signed)[1]


def log_loss_curvature(logits: Any, signed: Any) -> Any:
    """Return the second derivative in the logit, any shape."""
    if array_namespace(logits) is not np:
        return log_loss_cuda.curvature(logits, signed)
    small = np.exp(-np.abs(logits))
    return np.abs(signed) * small / (1 + small) ** 2
