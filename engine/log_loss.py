"""The weighted log-loss of a logit and its derivatives, exact in the tails."""

from __future__ import annotations

from typing import Any


def log_loss(xp: Any, logits: Any, signed: Any) -> tuple[Any, Any, Any]:
    """Return the loss in nats, its derivative and its second derivative in the logit.

    For weight s, label y and logit z these are `s log(1 + exp(-(2 y - 1) z))`, `s (p - y)` and `s p (1 - p)` with
    `p = 1 / (1 + exp(-z))`, computed from `exp(-|z|)`, which neither overflows nor cancels (Maechler 2012).

    Args:
        xp: numpy or cupy.
        logits: z, any shape.
        signed: s (2 y - 1): the sign is the label and the size the weight.
    """
    weight = xp.abs(signed)
    small = xp.exp(-xp.abs(logits))
    # The probability of the likelier label and of the other.
    likely = 1 / (1 + small)
    unlikely = small * likely
    wrong = (logits < 0) == (signed > 0)
    loss = weight * (xp.log1p(small) + xp.where(wrong, xp.abs(logits), 0))
    return loss, -signed * xp.where(wrong, likely, unlikely), weight * unlikely * likely


def log_loss_slope(xp: Any, logits: Any, signed: Any) -> Any:
    """Return the derivative alone."""
    small = xp.exp(-xp.abs(logits))
    likely = 1 / (1 + small)
    return -signed * xp.where((logits < 0) == (signed > 0), likely, small * likely)
