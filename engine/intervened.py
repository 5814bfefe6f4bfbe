"""The recurrence with its states changed after every step: what a model then loses, and what its states then are.

What is done to the states (`gatescope.engine.interventions`) is done before the next step, the layer above and the
output layer read them. So the influence of what is taken away is cut off wherever it goes, and not only at the probe.

What interventions lose is compared with what none loses, read in another batch. On a GPU layers multiply in float32
proper here: sums in TF32, whose order depends on the batch, would differ by more than small effects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gatescope.engine.interventions import Intervention
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
def intervened_losses(
    model: CharacterModel, tokens: Tensor, initial: Mapping[str, Tensor], intervention: Intervention
) -> Tensor:
    """Read sequences once for each of the V variants of an intervention.

    Args:
        model, tokens, initial: as for `undisturbed_states`.
        intervention: what happens to the states after each step.

    Returns:
        What the model loses at each next character, in nats [V, S, T - 1].
    """
    n_variants, (n_sequences, n_steps) = len(intervention), tokens.shape
    losses = model.output.weight.new_empty(n_steps - 1, n_variants * n_sequences)
    for step, states in enumerate(_steps(model, tokens[:, :-1], initial, intervention)):
        expected = tokens[:, step + 1].repeat(n_variants)
        losses[step] = cross_entropy(model.output(states[-1]["h"]), expected, reduction="none")
    return losses.T.view(n_variants, n_sequences, n_steps - 1)


@torch.no_grad()
@recurrent_float32()
def intervened_states(
    model: CharacterModel, tokens: Tensor, initial: Mapping[str, Tensor], intervention: Intervention
) -> dict[str, Tensor]:
    """Return what the states become after each character, [L, T, V S, H] by name; arguments as for the losses.

    Row v S + s is sequence s in variant v.
    """
    architecture = model.architecture
    shape = architecture.layers, tokens.shape[1], len(intervention) * len(tokens), architecture.hidden
    found = {name: model.output.weight.new_empty(shape) for name in architecture.states}
    for step, states in enumerate(_steps(model, tokens, initial, intervention)):
        for layer, of_layer in enumerate(states):
            for name, state in of_layer.items():
                found[name][layer, step] = state
    return found


def _steps(
    model: CharacterModel, tokens: Tensor, initial: Mapping[str, Tensor], intervention: Intervention
) -> Iterator[list[dict[str, Tensor]]]:
    """Yield the states [V S, H] of each layer by name after each step, as whatever comes behind them reads them."""
    cells, names, n_variants = _cells(model), model.architecture.states, len(intervention)
    # Row v S + s is sequence s in variant v.
    states = [{name: initial[name][layer].repeat(n_variants, 1) for name in names} for layer in range(len(cells))]
    for step in range(tokens.shape[1]):
        x = model.inputs(tokens[:, step]).repeat(n_variants, 1)
        for layer, cell in enumerate(cells):
            before = tuple(states[layer].values())
            after = cell(x, before if len(before) > 1 else before[0])
            found = zip(names, after if isinstance(after, tuple) else (after,), strict=True)
            by_variant = {name: state.view(n_variants, len(tokens), -1) for name, state in found}
            changed = intervention.after(layer, step, by_variant)
            states[layer] = {name: state.flatten(0, 1) for name, state in changed.items()}
            x = states[layer]["h"]
        yield list(states)


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
