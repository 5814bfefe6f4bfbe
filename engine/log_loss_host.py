"""The log-loss on the CPU in one vectorised pass, compiled by Numba for the processor at hand.

Made of torch's operations it takes nine passes; `benchmarks/bench_log_loss.py` has the times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from gatescope.kernels.host import compiled

# Terms of the series that are as good as the precision: of exp at up to log(2) / 2, of artanh at up to 1 / 3.
EXP_TERMS = {"float32": 7, "float64": 13}
ARTANH_TERMS = {"float32": 7, "float64": 16}


def fill_loss(z: Any, signed: Any, loss: Any, slope: Any) -> None:
    """Fill loss and slope, arrays [n] of float32 or float64; for functions that are compiled themselves.

    With e = exp(-|z|), which is a power of two times a Taylor series, log(1 + e) is 2 artanh(e / (2 + e)).
    """
    raise NotImplementedError


@overload(fill_loss)
def _(z: Any, signed: Any, loss: Any, slope: Any) -> Any:
    real, whole = (np.float32, np.int32) if z.dtype == types.float32 else (np.float64, np.int64)
    precision = np.finfo(real)
    mantissa_bits = whole(precision.nmant)
    # Powers of two are made with an exponent that is this much larger: e may be smaller than the least normal number.
    raised = 2 * precision.nmant
    bias, lowered = whole(1 - precision.minexp + raised), real(2.0**-raised)
    exp_high, exp_low = _halves(real(1 / math.factorial(n)) for n in range(EXP_TERMS[real.__name__], -1, -1))
    artanh_high, artanh_low = _halves(real(2 / (2 * n + 1)) for n in range(ARTANH_TERMS[real.__name__], -1, -1))
    # log(2) in two parts: the first has few bits, so that its multiples are exact.
    high = real(math.floor(math.log(2) * 2**9) / 2**9)
    low = real(Decimal(2).ln() - Decimal(float(high)))
    log2e, zero, one, two = real(1 / math.log(2)), real(0), real(1), real(2)
    # Beyond this e is nothing.
    farthest = real((precision.nmant + 2 - precision.minexp) * math.log(2))
    # Added to a number it leaves the nearest integer in the last bits.
    rounder = real(1.5 * 2.0**mantissa_bits)

    def fill(z: Any, signed: Any, loss: Any, slope: Any) -> None:
        bits = loss.view(whole)
        for i in range(len(z)):
            x = -abs(z[i])
            x = -farthest if x < -farthest else x
            loss[i] = x * log2e + rounder
            k = loss[i] - rounder
            x = (x - k * high) - k * low
            y = zero
            for term in exp_high:
                y = y * x + term
            for term in exp_low:
                y = y * x + term
            slope[i] = y
        for i in range(len(z)):
            bits[i] = (bits[i] + bias) << mantissa_bits
        for i in range(len(z)):
            e = slope[i] * loss[i] * lowered
            s = signed[i]
            wrong = -z[i] if s > zero else z[i]
            t = e / (two + e)
            y = zero
            for term in artanh_high:
                y = y * (t * t) + term
            for term in artanh_low:
                y = y * (t * t) + term
            loss[i] = abs(s) * ((wrong if wrong > zero else zero) + t * y)
            p = one / (one + e)
            slope[i] = -s * (e * p if wrong < zero else p)

    return fill


def _halves(terms: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the terms of a series in two parts: a loop over more than about nine is not vectorised."""
    every = tuple(terms)
    return every[: len(every) // 2], every[len(every) // 2 :]


@compiled
def loss_and_slope(z: Any, signed: Any, loss: Any, slope: Any) -> None:
    """Fill loss and slope, arrays [n] of float32 or float64."""
    fill_loss(z, signed, loss, slope)


@compiled
def column_sums(values: Any, totals: Any) -> None:
    """Add the columns of values [n, W] to float64 totals [W]."""
    for row in range(len(values)):
        for column in range(values.shape[1]):
            totals[column] += values[row, column]
