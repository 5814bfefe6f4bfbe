"""Torch's own LSTM on a CPU, oneDNN's, which no loop of separate operators beats where only the output is asked.

Packed sequences of unequal length it takes step by step in separate operators, which autograd goes back through one by
one: those are trained faster in the loop of this package, unless steps are few or most of what it reads is padding. So
is bfloat16 run where the processor does not multiply it.
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

MANY_STEPS = 16  # for which the loop's own calls no longer matter


def torch_lstm(module: RecurrentStack, batch: Batch) -> tuple[Tensor, States] | None:
    """Run all layers by torch's operator.

    Args:
        module: whose options these are.
        batch: nothing is captured of it, and nothing reset.

    Returns:
        The output ([T, B, D*H], or the data of a PackedSequence) and the final h and c [L*D, B, H]; None where the
        operator does not run, or knows less than this package.
    """
    if batch.x.device.type != "cpu" or batch.states[0].shape[1] == 0:
        return None
    if torch.compiler.is_compiling() and not _exports_steps(batch.x):
        return None
    if transformed(*batch.tensors):
        # oneDNN's operator has no forward-mode derivative, and none of torch's runs under vmap.
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
    """Layer after layer by torch's operator, with the dropout of this package, which counts rows, in between."""
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
    """Whether torch would go back through many steps one by one, of which at least a third are no padding.

    Under autocast its output is float32 where the loop's is not, and what is traced takes sequences of any length.
    """
    if autocast_on(packed.data) or torch.jit.is_tracing() or not differentiable(*tensors):
        return False
    n_steps, n_rows, shortest = len(packed.batch_sizes), int(packed.batch_sizes[0]), int(packed.batch_sizes[-1])
    return shortest < n_rows and n_steps >= MANY_STEPS and 3 * len(packed.data) >= n_steps * n_rows


def _multiplies(dtype: torch.dtype) -> bool:
    """Whether torch's own LSTM runs in this dtype on this processor.

    oneDNN refuses bfloat16 where the processor lacks it; in float16 it has no training, where torch asks it for one.
    """
    return onednn_multiplies_bfloat16() if dtype == torch.bfloat16 else dtype != torch.float16


def _emulates(dtype: torch.dtype, x: Tensor) -> bool:
    """Whether oneDNN has bfloat16 alone by a detour, which takes several times as long as the loop's float32."""
    # What is exported is to run without this package, and on other processors.
    if dtype != torch.bfloat16 or exporting():
        return False
    return x.shape[0] * x.shape[1] >= FEW_ROWS and not multiplies_bfloat16()


def _exports_steps(x: Tensor) -> bool:
    """Whether a program is exported for this number of steps.

    Torch's operator lets it run where this package is not, but exports any number of steps as one number.
    """
    return exporting() and not isinstance(x.shape[0], torch.SymInt)
