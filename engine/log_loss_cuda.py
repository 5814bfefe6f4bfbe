"""The log-loss and its derivatives on a GPU: one pass over logits and weights for each, whatever it returns.

A pass that returns loss and slope reads two numbers for each logit and writes two; the same in array operations would
read and write about twenty. The C text below is what both the GPU and, in the tests, the host's compiler makes of it.
CuPy compiles it so that float32 below the least normal number, 1.2e-38, is 0, and cannot be told otherwise (its issue
9576).
"""

from __future__ import annotations

import functools
from typing import Any

from gatescope.engine.arrays import array_namespace

# `wrong` is positive where the logit is on the wrong side. exp never sees a positive number, and no sum cancels.
SOURCE = r"""
template <typename T> __device__ inline T wrong_side(T z, T s) {
    return s > 0 ? -z : s < 0 ? z : T(0);
}

template <typename T> __device__ inline T decayed(T x) {
    return exp(x < 0 ? x : -x);
}

template <typename T> __device__ inline T log_loss(T z, T s) {
    const T wrong = wrong_side(z, s);
    return (s < 0 ? -s : s) * ((wrong > 0 ? wrong : T(0)) + log1p(decayed(wrong)));
}

template <typename T> __device__ inline T log_loss_slope(T z, T s) {
    const T wrong = wrong_side(z, s);
    const T small = decayed(wrong);
    return -s * ((wrong < 0 ? small : T(1)) / (T(1) + small));
}

template <typename T> __device__ inline T log_loss_curvature(T z, T s) {
    const T small = decayed(z);
    return (s < 0 ? -s : s) * small / ((T(1) + small) * (T(1) + small));
}
"""


def loss_and_slope(logits: Any, signed: Any) -> tuple[Any, Any]:
    """Return what `log_loss` does, for CuPy arrays of any shape and strides."""
    outputs, operation = "T loss, T residual", "loss = log_loss(z, s); residual = log_loss_slope(z, s)"
    return _kernel(array_namespace(logits), outputs, operation, "loss_and_slope")(logits, signed)


def slope(logits: Any, signed: Any) -> Any:
    """Return what `log_loss_slope` does."""
    return _kernel(array_namespace(logits), "T residual", "residual = log_loss_slope(z, s)", "slope")(logits, signed)


def curvature(logits: Any, signed: Any) -> Any:
    """Return what `log_loss_curvature` does."""
    return _kernel(array_namespace(logits), "T h", "h = log_loss_curvature(z, s)", "curvature")(logits, signed)


@functools.cache
def _kernel(xp: Any, outputs: str, operation: str, name: str) -> Any:
    return xp.ElementwiseKernel("T z, T s", outputs, operation, name, preamble=SOURCE)
