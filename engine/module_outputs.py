"""What chosen modules of a torch model put out, collected call by call until it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gatescope.engine.chosen_modules import Chosen
from gatescope.engine.counted import counted
from gatescope.engine.errors import InputError


@dataclass(frozen=True)
class Call:
    """What a module put out in one call.

    Args:
        values: as they came, rounded, on the CPU; padded if they were packed or nested; of a cell's step with its time.
        lengths: int64 [B] of a `PackedSequence` or a nested tensor.
    """

    values: Tensor
    lengths: np.ndarray | None


class ModuleOutputs:
    """Collects the outputs of modules while `collected` runs.

    Args:
        modules: those of each array.
        layout: of outputs of three dimensions, "BTH" or "TBH".
        dtype: what the values are rounded to, float16 or float32.
    """

    def __init__(self, modules: Chosen, layout: str, dtype: np.dtype) -> None:
        self._modules, self._layout = modules, layout
        self._dtype = torch.from_numpy(np.empty(0, dtype)).dtype
        self._calls: dict[str, list[Call]] = {}

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Let hooks collect what the modules put out; they are gone after the block."""
        with ExitStack() as stack:
            for array, (module, select) in self._modules.items():
                stack.callback(module.register_forward_hook(self._hook(array, select)).remove)
            yield

    def take(self) -> dict[str, list[Call]]:
        """Return the calls of each array's module since the last time; they are forgotten here."""
        calls, self._calls = self._calls, {}
        return calls

    def _hook(self, array: str, select: Callable[[Any], Any] | None) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            output = output if select is None else select(output)
            several = isinstance(output, tuple | list) and not isinstance(output, PackedSequence)
            first, lengths = (output[0] if several and output else output), None
            if isinstance(first, PackedSequence):
                first, lengths = pad_packed_sequence(first, batch_first=self._layout == "BTH")
            elif isinstance(first, Tensor) and first.is_nested and first.dim() == 3:
                # Within torch.nn.TransformerEncoder, where it leaves padding out; always batch first.
                lengths = torch.tensor([len(sequence) for sequence in first.unbind()])
                padded = torch.nested.to_padded_tensor(first, 0)
                first = padded if self._layout == "BTH" else padded.transpose(0, 1)
            elif isinstance(first, Tensor) and first.dim() == 2 and isinstance(module, nn.RNNCellBase):
                # Of [B, H] no more than one step: never the steps of one sequence.
                first = first.unsqueeze(1 if self._layout == "BTH" else 0)
            if not isinstance(first, Tensor) or first.dim() not in (2, 3) or not first.is_floating_point():
                raise InputError(f"{array}: its module returned {_described(first)}")
            # Rounded at once, so that a loop of many steps holds no more than the dump does.
            rounded = first.detach().to("cpu", self._dtype, copy=True)
            self._calls.setdefault(array, []).append(Call(rounded, None if lengths is None else lengths.numpy()))

        return keep


def joined(array: str, calls: list[Call], shape: tuple[int, ...], layout: str) -> tuple[Tensor, np.ndarray | None]:
    """Return what a module put out in all its calls.

    Args:
        array: whose module it is.
        calls: in their order.
        shape: of the tokens, (B, T).
        layout: of outputs of three dimensions.

    Returns:
        [B, T, H], and the lengths of what was packed or nested, which has no rows after the longest.

    Raises:
        InputError: there is no call, calls do not fit together, or they do not fit the tokens.
    """
    if not calls:
        # As torch documents it, what it compiled without a hook goes on without it.
        raise InputError(
            f"{array}: its module was not called since the last add. A model compiled by torch.compile that has "
            "already run ignores new hooks: record the original model, or call torch.compiler.reset() first"
        )
    if len(calls) > 1 and any(call.lengths is not None for call in calls):
        raise InputError(
            f"{array}: its module returned {len(calls)} packed or nested batches: call add after every forward pass"
        )
    lengths, outputs = calls[0].lengths, [call.values for call in calls]
    if outputs[0].dim() == 2 and shape[0] == 1 and len(outputs) == 1 and len(outputs[0]) == shape[1]:
        # One sequence without a batch: [T, H].
        return outputs[0][None], None
    along_time = 1 if layout == "BTH" else 0
    pieces = [output.unsqueeze(along_time) if output.dim() == 2 else output for output in outputs]
    try:
        whole = torch.cat(pieces, dim=along_time)
    except RuntimeError as error:
        raise InputError(f"{array}: the calls of its module do not fit together: {error}") from None
    whole = whole if layout == "BTH" else whole.transpose(0, 1)
    n_sequences, n_rows = whole.shape[:2]
    times, repeated = "", ""
    if len(calls) > 1:
        times, repeated = f" in {len(calls)} calls", ", discard() after a backward pass that repeats it (checkpoints)"
    if n_sequences != shape[0] or (n_rows != shape[1] and (lengths is None or n_rows > shape[1])):
        raise InputError(
            f"{array}: its module returned {counted(n_sequences, 'sequence')} of {counted(n_rows, 'row')}{times}, and "
            f"the tokens are {shape[0]} of {shape[1]}: call add after every forward pass{repeated}, or see layout"
        )
    return whole, lengths


def _described(output: Any) -> str:
    """Say what an output is, and how to record a part of it."""
    expected, part = "expected floats of two or three dimensions", "output.hidden"
    if isinstance(output, Tensor):
        return f"{output.dtype} {list(output.shape)}, {expected}"
    what = type(output).__name__
    if isinstance(output, Mapping) and output:
        what += f" of {', '.join(map(repr, output))}"
        part = f"output[{next(iter(output))!r}]"
    elif isinstance(output, tuple | list) and output:
        part = "output[0][0]"
    return f"{what}, {expected}: name a part by a pair, such as (module, lambda output: {part})"
