"""Modules of every cell with their counterparts in torch.nn, and inputs for them."""

import torch

B, T, I, H = 3, 11, 5, 6
TERMS = 2 * T * 3 * H  # terms of the longest sum: two layers, T steps, inputs of 2 H and states of H


def pair(cell, backend="loop", **form):
    """A float64 module and torch.nn's with the same weights."""
    torch.manual_seed(0)
    theirs = cell.peer(I, H, **cell.options, **form).double()
    mine = cell.module(I, H, **cell.options, **form, backend=backend).double()
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs


def inputs(cell, module, batch=B):
    """x in the module's layout and the initial states, as leaves that require gradients."""
    generator = torch.Generator().manual_seed(3)
    size = (batch, T, I) if module.batch_first else (T, batch, I)
    layers = module.num_layers * (2 if module.bidirectional else 1)
    sizes = (size, *[(layers, batch, H)] * len(cell.states))
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in sizes]


def as_state(states):
    return tuple(states) if len(states) > 1 else states[0]


def flat(result):
    y, state = result[:2]
    y = y.data if isinstance(y, torch.nn.utils.rnn.PackedSequence) else y
    return [y, *(state if isinstance(state, tuple) else (state,))]


def captured(cell, module, x, state=None, reset=None):
    return module(x, state, capture=cell.outputs, reset=reset)
