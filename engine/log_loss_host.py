"""The log-loss on the CPU in one vectorised pass, compiled by Numba for the processor at hand.

Made of torch's operations it takes nine passes; `benchmarks/bench_log_loss.py` has the times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from gatescope.kernels.activations_host import exp
from gatescope.kernels.host import compiled

# Terms of the series of artanh at up to 1 / 3 that are as good as the precision.
ARTANH_TERMS = {"float32": 7, "float64": 16}


def fill_loss(z: Any, signed: Any, loss: Any, slope: Any) -> None:
    """Fill loss and slope, arrays [n] of float32 or float64; for functions that are compiled themselves.

    With e = exp(-|z|), 0 where it is below the least normal number, log(1 + e) is 2 artanh(e / (2 + e)).
    """
    raise NotImplementedError


@overload(fill_loss)
def _(z: Any, signed: Any, loss: Any, slope: Any) -> Any:
    real = np.float32 if z.dtype == types.float32 else np.float64
    terms = [real(2 / (2 * n + 1)) for n in range(ARTANH_TERMS[real.__name__], -1, -1)]
    # In two parts: a loop over more than about nine is not vectorised.
    first, second = tuple(terms[: len(terms) // 2]), tuple(terms[len(terms) // 2 :])
    zero, one, two = real(0), real(1), real(2)

    def fill(z: Any, signed: Any, loss: Any, slope: Any) -> None:
        for i in range(len(z)):
            slope[i] = exp(-abs(z[i]))
        for i in range(len(z)):
            e, s = slope[i], signed[i]
            wrong = -z[i] if s > zero else z[i]
            t = e / (two + e)
            y = zero
            for term in first:
                y = y * (t * t) + term
            for term in second:
                y = y * (t * t) + term
            loss[i] = abs(s) * ((wrong if wrong > zero else zero) + t * y)
            p = one / (one + e)
            slope[i] = -s * (e * p if wrong < zero else p)

    return fill


@compiled
def loss_and_slope(z: Any, signed: Any, loss: Any, slope: Any) -> None:
    """Fill loss and slope, arrays [n] of float32 or float64."""
    fill_loss(z, signed, loss, slope)
