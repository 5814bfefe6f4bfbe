"""exp, sigmoid and tanh on the CPU, for loops that Numba compiles.

They take float32 or float64. sigmoid(x) is 1 / (1 + exp(-x)), and tanh(|x|) is -m / (m + 2) with m = exp(-2 |x|) - 1,
which does not cancel for small x. exp(x) is 2^k (1 + q), with k the integer nearest x / log(2) and q a Taylor series in
the remainder.

Importing this module takes half a second, which is Numba's.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

# Terms of the series of exp(x) - 1 that reach the precision of the dtype up to log(2) / 2.
TERMS = {"float32": 7, "float64": 13}
# A product and a sum may be fused and round once.
CONTRACT = {"contract"}


@intrinsic
def _bits(typing_context: Any, value: Any) -> Any:
    """The bits of a floating-point number as an integer."""
    whole, width = (types.int32, 32) if value == types.float32 else (types.int64, 64)
    return whole(value), lambda context, builder, _, args: builder.bitcast(args[0], ir.IntType(width))


@intrinsic
def _from_bits(typing_context: Any, value: Any) -> Any:
    """The floating-point number with these bits."""
    real, made = (types.float32, ir.FloatType()) if value == types.int32 else (types.float64, ir.DoubleType())
    return real(value), lambda context, builder, _, args: builder.bitcast(args[0], made)


def _power(x: Any) -> Any:
    """Return 2^k and q with exp(x) = 2^k (1 + q); 2^k is infinity or 0 if x is beyond the range of the dtype."""
    raise NotImplementedError


def exp(x: Any) -> Any:
    """exp(x); infinite from 0.7 of the largest number on, and 0 if k is below the exponents of normal numbers."""
    raise NotImplementedError


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    raise NotImplementedError


def tanh(x: Any) -> Any:
    """tanh(x), without cancellation for small x."""
    raise NotImplementedError


@overload(_power, jit_options={"fastmath": CONTRACT})
def _(x: Any) -> Any:
    real, whole = (np.float32, np.int32) if x == types.float32 else (np.float64, np.int64)
    precision = np.finfo(real)
    mantissa_bits, bias = whole(precision.nmant), whole(1 - precision.minexp)
    # Above `most`, where k would be that of infinity and q negative, exp is taken to be infinite; below `least` it is
    # subnormal.
    most, least = (real(power * math.log(2)) for power in (precision.maxexp - 0.51, precision.minexp - 1))
    infinite = real((precision.maxexp + 0.25) * math.log(2))
    # Added to a number, it leaves the nearest integer in the last bits.
    rounder = real(1.5 * 2.0**precision.nmant)
    # log(2) in two parts: the first has few bits, so that its multiples by k are exact.
    high = real(math.floor(math.log(2) * 2**9) / 2**9)
    low, log2e = real(Decimal(2).ln() - Decimal(float(high))), real(1 / math.log(2))
    terms = [real(1 / math.factorial(n)) for n in range(TERMS[real.__name__], 0, -1)]
    # In two parts: a loop over more than about nine terms is not vectorised.
    first, second = tuple(terms[: len(terms) // 2]), tuple(terms[len(terms) // 2 :])
    zero = real(0)

    def power(x: Any) -> Any:
        x = infinite if x > most else x
        x = least if x < least else x
        shifted = x * log2e + rounder
        k = shifted - rounder
        x = (x - k * high) - k * low
        y = zero
        for term in first:
            y = y * x + term
        for term in second:
            y = y * x + term
        return _from_bits(whole((_bits(shifted) + bias) << mantissa_bits)), y * x  # type: ignore[call-arg]

    return power


@overload(exp, jit_options={"fastmath": CONTRACT})
def _(x: Any) -> Any:
    def compute(x: Any) -> Any:
        scale, q = _power(x)
        return scale * q + scale

    return compute


@overload(sigmoid, jit_options={"fastmath": CONTRACT})
def _(x: Any) -> Any:
    real = np.float32 if x == types.float32 else np.float64
    one = real(1)

    def compute(x: Any) -> Any:
        scale, q = _power(-x)
        return one / (one + (scale * q + scale))

    return compute


@overload(tanh, jit_options={"fastmath": CONTRACT})
def _(x: Any) -> Any:
    real = np.float32 if x == types.float32 else np.float64
    zero, one, two = real(0), real(1), real(2)
    # Beyond it 1 - tanh(|x|) = 2 e / (1 + e), with e = exp(-2 |x|), is the smaller of the two, and so is its error.
    middle = real(0.55)

    def compute(x: Any) -> Any:
        size = abs(x)
        scale, q = _power(-two * size)
        m = scale * q + (scale - one)
        t = (two * (scale * q + scale) if size > middle else m) / (m + two)
        t = one - t if size > middle else zero - t
        return zero - t if x < zero else t

    return compute
