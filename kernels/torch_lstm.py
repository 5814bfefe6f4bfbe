"""Torch's own LSTM on a CPU, oneDNN's, which no loop of separate operators beats if only the output is needed.

It takes packed sequences of unequal length step by step in separate operators, which autograd walks back one by one.
The loop of this package trains those faster, unless there are few steps or most of what it reads is padding. The loop
also runs bfloat16 on a processor that does not multiply it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from gatescope.kernels.backend import transformed
from gatescope.kernels.batch import Batch
from gatescope.kernels.checks import States
from gatescope.kernels.dropout import dropout
from gatescope.kernels.operators import autocast_on, differentiable, exporting
from gatescope.kernels.products import FEW_ROWS, multiplies_bfloat16, onednn_multiplies_bfloat16
from gatescope.kernels.stack import RecurrentStack

MANY_STEPS = 16  # from here on the overhead of the loop's calls no longer matters


def torch_lstm(module: RecurrentStack, batch: Batch) -> tuple[Tensor, States] | None:
    """Run all layers by torch's operator.

    Args:
        module: the LSTM, with its options.
        batch: one of which nothing is captured, and nothing reset.

    Returns:
        The output ([T, B, D*H], or the data of a PackedSequence) and the final h and c [L*D, B, H]; None if the
        operator does not run, or supports less than this package.
    """
    if batch.x.device.type != "cpu" or batch.states[0].shape[1] == 0:
        return None
    if torch.compiler.is_compiling() and not _exports_steps(batch.x):
        return None
    if transformed(*batch.tensors):
        # oneDNN's operator has no forward-mode derivative, and no LSTM operator of torch runs under vmap.
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else batch.x.dtype
    states, packed = batch.states, batch.packed
    if not _multiplies(dtype) or (packed is None and _emulates(dtype, batch.x)):
        return None
    if packed is not None and _trains_apart(packed, batch.tensors):
        return None
    if module.training and module.dropout > 0 and module.num_layers > 1:
        return None if packed is not None else _with_dropout(module, batch)
    flat = [weight for each in batch.weights for weight in each]
    options = (module.bias, module.num_layers, 0.0, module.training, module.bidirectional)
    if packed is None:
        y, h, c = torch.lstm(batch.x, states, flat, *options, False)
        return y, (h, c)
    if packed.sorted_indices is not None:
        states = tuple(s.index_select(1, packed.sorted_indices) for s in states)
    y, h, c = torch.lstm(packed.data, packed.batch_sizes, states, flat, *options)
    if packed.unsorted_indices is not None:
        h, c = (s.index_select(1, packed.unsorted_indices) for s in (h, c))
    return y, (h, c)


def _with_dropout(module: RecurrentStack, batch: Batch) -> tuple[Tensor, States]:
    """Layer after layer by torch's operator, with this package's dropout, which counts rows, in between."""
    y, final = batch.x, []
    for layer in range(module.num_layers):
        if layer > 0:
            y = dropout(y, module.dropout, module.training, layer - 1)
        own = slice(layer * module.directions, (layer + 1) * module.directions)
        weights = [weight for each in batch.weights[own] for weight in each]
        states = tuple(state[own] for state in batch.states)
        y, *ends = torch.lstm(y, states, weights, module.bias, 1, 0.0, module.training, module.bidirectional, False)
        final.append(ends)
    h, c = (torch.cat(ends) for ends in zip(*final, strict=True))
    return y, (h, c)


def _trains_apart(packed: PackedSequence, tensors: list[Tensor]) -> bool:
    """Whether torch would walk back many steps one by one, at least a third of which are not padding.

    False under autocast, where torch's output is float32 and the loop's is not, and for a traced program, which takes
    sequences of any length.
    """
    if autocast_on(packed.data) or torch.jit.is_tracing() or not differentiable(*tensors):
        return False
    n_steps, n_rows, shortest = len(packed.batch_sizes), int(packed.batch_sizes[0]), int(packed.batch_sizes[-1])
    return shortest < n_rows and n_steps >= MANY_STEPS and 3 * len(packed.data) >= n_steps * n_rows


def _multiplies(dtype: torch.dtype) -> bool:
    """Whether torch's own LSTM runs in this dtype on this processor.

    oneDNN refuses bfloat16 if the processor lacks it. In float16 it does not support training, although torch asks for
    it.
    """
    return onednn_multiplies_bfloat16() if dtype == torch.bfloat16 else dtype != torch.float16


def _emulates(dtype: torch.dtype, x: Tensor) -> bool:
    """Whether oneDNN only emulates bfloat16, which takes several times as long as the loop's float32."""
    # An exported program must run without this package, and on other processors.
    if dtype != torch.bfloat16 or exporting():
        return False
    return x.shape[0] * x.shape[1] >= FEW_ROWS and not multiplies_bfloat16()


def _exports_steps(x: Tensor) -> bool:
    """Whether a program is being exported for this number of steps.

    With torch's operator the program runs where this package is not installed, but a dynamic number of steps is
    exported as a constant.
    """
    return exporting() and not isinstance(x.shape[0], torch.SymInt)
