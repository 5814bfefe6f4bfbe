"""When torch's own GRU and RNN operators are faster than the time loops of this package: over few steps on a CPU.

A loop of this package costs some hundred microseconds before its first step, which a program that takes one step a call
pays at each call. The table gives the time of the loop relative to torch's operator for 1, 8 and 64 rows: a layer in
float32 with I = 32 for H = 64, and I = 512 for H = 512, on one thread of an AMD EPYC that ran other work beside it. It
was measured once; no benchmark repeats it.

                GRU forward   with backward   RNN forward   with backward
    H=64  T=1   5.3 4.5 2.2   2.8 2.5 1.9     3.6 3.3 2.6   3.1 3.0 2.7
          T=2   3.9 3.3 1.6   2.0 1.8 1.4     3.2 3.1 2.1   2.4 2.4 2.1
          T=4   2.9 1.7 1.1   1.5 1.0 1.0     2.8 2.4 1.6   2.0 1.9 1.6
          T=8   1.8 1.1 0.9   1.0 0.7 0.8     2.2 1.7 1.2   1.3 1.4 1.5
    H=512 T=1   3.3 1.6 2.3   4.4 3.1 2.2     2.0 1.4 1.2   3.0 1.9 1.5
          T=2   2.1 1.4 1.5   1.9 1.7 1.6     1.7 1.3 0.9   2.0 1.2 1.5
          T=4   2.2 2.9 1.2   1.7 1.2 1.2     1.4 1.2 1.1   1.6 1.1 1.0
          T=8   1.8 1.6 0.8   0.9 1.2 0.9     1.2 1.1 1.1   1.3 0.9 1.1
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gatescope.kernels.backend import transformed
from gatescope.kernels.batch import Batch
from gatescope.kernels.checks import States
from gatescope.kernels.operators import autocast_on
from gatescope.kernels.stack import RecurrentStack

FEW_STEPS = 4


def few_steps(
    module: RecurrentStack, operator: Callable[..., tuple[Tensor, Tensor]], batch: Batch
) -> tuple[Tensor, States] | None:
    """Run all layers by torch's operator if the sequence is short and no operator of this package is needed.

    Args:
        module: the stack, with its weights and options.
        operator: torch.gru, torch.rnn_tanh or torch.rnn_relu.
        batch: one of which nothing is captured, and nothing reset.

    Returns:
        The output [T, B, D*H] and the final state [L*D, B, H]; None if the loop is to run.
    """
    # A compiled program keeps one operator for any number of steps.
    if torch.compiler.is_compiling() or transformed(*batch.tensors) or batch.packed is not None:
        return None
    x, state, dropout = batch.x, batch.states[0], module.dropout if module.training and module.num_layers > 1 else 0
    if not x.is_cpu or x.dtype not in (torch.float32, torch.float64) or autocast_on(x):
        return None
    if len(x) > FEW_STEPS or state.shape[1] == 0 or dropout > 0:
        return None
    weights = [weight for each in batch.weights for weight in each]
    options = (module.bias, module.num_layers, 0.0, module.training, module.bidirectional, False)
    y, final = operator(x, state, weights, *options)
    return y, (final,)
