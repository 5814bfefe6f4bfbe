"""Refusing states that are not finite, and characters that cannot be drawn, with the place where they begin."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gatescope.engine.errors import InputError

_BROKEN = "the network's weights are not finite, or its states overflow"


def first_not_finite(values: np.ndarray) -> tuple[int, ...] | None:
    """Return the first index at which an array holds NaN or infinity, or None; integers are always finite."""
    if values.dtype.kind != "f" or not values.size:
        return None
    # The bits of infinity and of every NaN are larger than those of any finite value of the same sign (IEEE 754), and
    # the largest integer is found in one pass without a copy: on float16 fifteen times as fast as isfinite (timeit,
    # 2^20 values, AMD EPYC).
    infinity = np.array([np.inf, -np.inf], values.dtype)
    kinds = [np.dtype(f"{kind}{values.dtype.itemsize}") for kind in "iu"]
    if all(values.view(kind).max() < infinity.view(kind)[sign] for sign, kind in enumerate(kinds)):
        return None
    place = np.argwhere(~np.isfinite(values))[0]
    return tuple(int(axis) for axis in place)


def not_finite(array: str, value: float, where: str, source: str, dtype: str) -> InputError:
    """Return the error of a state that is not finite in a dump's dtype; `source` is the dtype that it came in."""
    what = f"{array}: {value:g} {where}"
    if np.isfinite(value) or (np.isinf(value) and source.endswith("float16") and dtype == "float16"):
        largest = torch.finfo(getattr(torch, dtype)).max
        return InputError(f"{what} is beyond {dtype} (at most {largest:g}): use --dtype float32")
    return InputError(f"{what}: expected finite states; {_BROKEN}")


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite."""
    # NumPy's way is faster by far, on the dtypes that it has.
    if values.device.type == "cpu" and values.dtype in (torch.float16, torch.float32):
        return first_not_finite(values.numpy()) is None
    # Both bounds are NaN if there is one; and nothing as large as the values is made on the way.
    return not values.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())


def require_finite(name: str, first: int, begin: int, values: Tensor, rounded: Tensor, lengths: np.ndarray) -> None:
    """Refuse states of which one is not finite.

    Args:
        name: of the array.
        first, begin: number of the first sequence, and of the first step.
        values, rounded: [S, T, H], before and after they were rounded to the dtype that is kept.
        lengths: of all sequences; what lies after their ends is ignored.

    Raises:
        InputError: with the first that is not finite when rounded.
    """
    n, steps = rounded.shape[:2]
    ends = torch.from_numpy(lengths[first : first + n]).to(rounded.device)
    read = begin + torch.arange(steps, device=rounded.device) < ends[:, None]
    wrong = (~torch.isfinite(rounded) & read[..., None]).nonzero()
    if len(wrong):
        sequence, step, unit = wrong[0].tolist()
        row = int(lengths[: first + sequence].sum()) + begin + step
        source, dtype = (str(each.dtype).removeprefix("torch.") for each in (values, rounded))
        raise not_finite(name, float(values[sequence, step, unit]), f"at row {row}, unit {unit}", source, dtype)


def require_characters(tokens: np.ndarray, n_characters: int, first: int, begin: int) -> None:
    """Refuse drawn ids [S, T] of which one is no character: its logits were not finite.

    Args:
        tokens: see there.
        n_characters: V.
        first, begin: number of the first sequence, and of the first step.

    Raises:
        InputError: with the first of them.
    """
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < n_characters:
        step, sequence = np.argwhere(((tokens < 0) | (tokens >= n_characters)).T)[0].tolist()
        raise InputError(
            f"no character can be drawn for sequence {first + sequence} at step {begin + step}: its logits are not "
            f"finite; {_BROKEN}"
        )
