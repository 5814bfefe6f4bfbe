"""The weighted log-loss of a logit and its derivatives, exact in the tails.

For weight s, label y and logit z the loss is `s log(1 + exp(-m))` with the margin `m = (2 y - 1) z`, its derivative
`-(2 y - 1) s / (1 + exp(m))` and its second derivative `s p (1 - p)` with `p = 1 / (1 + exp(-z))`. No form here
overflows or cancels (Maechler 2012). Weight and label come as one number, `s (2 y - 1)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gatescope.engine import log_loss_cuda
from gatescope.engine.arrays import CONVERSION_VALUES, array_namespace

# Above this, log(1 + exp(x)) is x to the last bit of float64.
LINEAR = 37.0


def log_loss(logits: Any, signed: Any) -> tuple[Any, Any]:
    """Return the loss in nats and its derivative in the logit.

    torch's exponentials and logarithms are vectorised: they take a third of NumPy's time.

    Args:
        logits: z, any shape, float32 or float64.
        signed: s (2 y - 1), of the same shape and type: the sign is the label and the size the weight.
    """
    if array_namespace(logits) is not np:
        return log_loss_cuda.loss_and_slope(logits, signed)
    loss, residual = np.empty((2, *logits.shape), logits.dtype)
    for z, s, loss_part, residual_part in _pieces(logits, signed, loss, residual):
        wrong = torch.sign(s).mul_(z).neg_()
        torch.mul(torch.nn.functional.softplus(wrong, 1.0, LINEAR), s.abs(), out=loss_part)
        torch.mul(wrong.sigmoid_().neg_(), s, out=residual_part)
    return loss, residual


def log_loss_slope(logits: Any, signed: Any) -> Any:
    """Return the derivative alone."""
    if array_namespace(logits) is not np:
        return log_loss_cuda.slope(logits, signed)
    residual = np.empty(logits.shape, logits.dtype)
    for z, s, part in _pieces(logits, signed, residual):
        torch.mul(torch.sign(s).mul_(z).neg_().sigmoid_().neg_(), s, out=part)
    return residual


def log_loss_curvature(logits: Any, signed: Any) -> Any:
    """Return the second derivative in the logit, any shape."""
    if array_namespace(logits) is not np:
        return log_loss_cuda.curvature(logits, signed)
    small = np.exp(-np.abs(logits))
    return np.abs(signed) * small / (1 + small) ** 2


def _pieces(*arrays: np.ndarray) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the same stretch of each array, small enough for torch to stay on the calling thread."""
    flat = [torch.from_numpy(array.reshape(-1)) for array in arrays]
    for start in range(0, len(flat[0]), CONVERSION_VALUES):
        yield tuple(values[start : start + CONVERSION_VALUES] for values in flat)
