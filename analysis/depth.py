"""Depth of brackets, from the brackets alone."""

from __future__ import annotations

import numpy as np


def depth_after(steps: np.ndarray, resets: np.ndarray, before: int) -> np.ndarray:
    """Return the depth after each of E events: the running sum of `steps`, never below 0, and 0 after a reset.

    Args:
        steps: int [E], +1 for an opening bracket, -1 for a closing one, 0 for everything else.
        resets: bool [E].
        before: depth before the first event.
    """
    # Each reset moves the rest below all earlier values, so that the running minimum starts anew.
    span = 2 * len(steps) + before + 1
    total = before + np.cumsum(steps) - np.cumsum(resets) * span
    return total - np.minimum(np.minimum.accumulate(total), 0)
