"""The recurrence with units held at given values: what a model loses when some of its units say something else.

A clamped unit has its h, and c where the cell has one, overwritten after every step, before the next step, the layer
above and the output layer read them. So its influence is cut off wherever it goes, and not only at the probe.

What sets of units lose is compared with what none lose, read in another batch. On a GPU layers multiply in float32
proper here: sums in TF32, whose order depends on the batch, would differ by more than small effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gatescope.engine.model import CharacterModel
from gatescope.kernels.cells import GRUCell, LSTMCell, RNNCell
from gatescope.kernels.precision import recurrent_float32


@torch.no_grad()
@recurrent_float32()
def undisturbed_states(model: CharacterModel, tokens: Tensor, initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read sequences as they are.

    Args:
        model: in float32.
        tokens: ids int64 [S, T], on the model's device; shorter sequences padded with any id.
        initial: the recurrent states before the first character by name, "h" and "c", [L, S, H] each.

    Returns:
        The states after each character, [L, T, S, H] by name.
    """
    names = model.architecture.states
    before = tuple(initial[name] for name in names)
    _, _, states = model.rnn(model.inputs(tokens.T), before if len(before) > 1 else before[0], capture=names)
    return states


@torch.no_grad()
@recurrent_float32()
def clamped_losses(
    model: CharacterModel,
    tokens: Tensor,
    initial: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    units: Tensor,
) -> Tensor:
    """Read sequences once for each of V sets of units, which are held at given values; an empty set holds nothing.

    Args:
        model, tokens, initial: as for `undisturbed_states`.
        values: what units are held at after each character, [L, T, S, H] by name.
        units: which ones, bool [V, L, H].

    Returns:
        What the model loses at each next character, in nats [V, S, T - 1].
    """
    cells = _cells(model)
    n_sets, (n_sequences, n_steps) = len(units), tokens.shape
    # Row v S + s is sequence s with set v held.
    names = model.architecture.states
    states = [[initial[name][layer].repeat(n_sets, 1) for name in names] for layer in range(len(cells))]
    losses = model.output.weight.new_empty(n_steps - 1, n_sets * n_sequences)
    for step in range(n_steps - 1):
        x = model.inputs(tokens[:, step]).repeat(n_sets, 1)
        for layer, cell in enumerate(cells):
            before = states[layer]
            after = cell(x, tuple(before) if len(before) > 1 else before[0])
            held = [
                torch.where(units[:, layer, None], values[name][layer, step], state.view(n_sets, n_sequences, -1))
                for name, state in zip(names, after if isinstance(after, tuple) else (after,), strict=True)
            ]
            states[layer] = [state.flatten(0, 1) for state in held]
            x = states[layer][0]
        losses[step] = cross_entropy(model.output(x), tokens[:, step + 1].repeat(n_sets), reduction="none")
    return losses.T.view(n_sets, n_sequences, n_steps - 1)


def _cells(model: CharacterModel) -> list[nn.Module]:
    """Return each layer of a model as a cell that takes one step."""
    architecture, cells = model.architecture, []
    kind: Any = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}[architecture.cell]
    placed = {"device": model.output.weight.device, "dtype": model.output.weight.dtype}
    for layer in range(architecture.layers):
        width = architecture.hidden if layer else architecture.embedding or model.n_characters
        cell = kind(width, architecture.hidden, **placed, **architecture.variant)
        cell.load_state_dict({name: getattr(model.rnn, f"{name}_l{layer}") for name in cell.state_dict()})
        cells.append(cell)
    return cells
