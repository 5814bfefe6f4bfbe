"""Losses with units held or directions erased, against torch.nn's cells in float64, step by step and unit by unit."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax

from gatescope.engine.intervened import intervened_losses, intervened_states, undisturbed_states
from gatescope.engine.interventions import Erased, Held
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.kernels.precision import recurrent_precision

S, T, V, H = 5, 12, 7, 6
MODELS = {
    "lstm": {"cell": "lstm", "layers": 2},
    "lstm of embedded characters": {"cell": "lstm", "layers": 3, "embedding": 4, "dropout": 0.5},
    "gru": {"cell": "gru", "layers": 2},
    "elman": {"cell": "rnn", "layers": 2},
    "relu": {"cell": "rnn", "layers": 1, "nonlinearity": "relu"},
}


def drawn(**architecture):
    """A model with large weights in float64, character ids, initial states, and values at which to hold units."""
    chosen = Architecture(hidden=H, **architecture)
    torch.manual_seed(0)
    model = CharacterModel(chosen, V).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens = torch.randint(V, (S, T))
    initial = {name: torch.randn(chosen.layers, S, H).double().tanh() for name in chosen.states}
    values = {name: torch.randn(chosen.layers, T, S, H).double() for name in chosen.states}
    return model, tokens, initial, values


def overwritten(values, units):
    """What holding does to the states of one sequence: it overwrites single numbers."""

    def change(layer, t, s, states):
        for name, state in states.items():
            for unit in range(H):
                if units[layer, unit]:
                    state[unit] = values[name][layer, t, s, unit]

    return change


def projected(mean, u, v):
    """What erasing does to the states: it moves each number by a sum over all of them."""

    def change(layer, t, s, states):
        x = [number for state in states.values() for number in state.tolist()]
        told = sum((x[d] - mean[layer, d]) * u[layer, d] for d in range(len(x)))
        for number, state in enumerate(states.values()):
            for unit in range(H):
                state[unit] -= told * v[layer, number * H + unit]

    return change


def oracle(model, tokens, initial, change):
    """The losses and states [L, T, S, H] by name that torch.nn's cells give, one sequence after another."""
    chosen, losses = model.architecture, np.zeros((S, T - 1))
    found = {name: np.zeros((chosen.layers, T, S, H)) for name in chosen.states}
    kinds = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
    cells = []
    for layer in range(chosen.layers):
        width = H if layer else chosen.embedding or V
        named = {"nonlinearity": chosen.nonlinearity} if chosen.cell == "rnn" else {}
        cell = kinds[chosen.cell](width, H, **named).double()
        cell.load_state_dict({name: getattr(model.rnn, f"{name}_l{layer}") for name in cell.state_dict()})
        cells.append(cell)
    with torch.no_grad():
        for s in range(S):
            states = [[initial[name][layer, s].clone() for name in chosen.states] for layer in range(chosen.layers)]
            for t in range(T):
                x = (
                    torch.eye(V).double()[tokens[s, t]]
                    if model.embedding is None
                    else model.embedding.weight[tokens[s, t]]
                )
                for layer, cell in enumerate(cells):
                    after = cell(x, tuple(states[layer]) if chosen.cell == "lstm" else states[layer][0])
                    after = list(after) if chosen.cell == "lstm" else [after]
                    change(layer, t, s, dict(zip(chosen.states, after, strict=True)))
                    for name, state in zip(chosen.states, after, strict=True):
                        found[name][layer, t, s] = state
                    states[layer], x = after, after[0]
                if t < T - 1:
                    losses[s, t] = -log_softmax(model.output(x), dim=0)[tokens[s, t + 1]]
    return losses, found


@pytest.mark.parametrize("architecture", MODELS.values(), ids=MODELS)
def test_units_are_held_in_every_layer_and_state(architecture):
    model, tokens, initial, values = drawn(**architecture)
    units = torch.rand(4, model.architecture.layers, H) < 0.3
    units[0] = False
    found = intervened_losses(model, tokens, initial, Held(values, units))
    assert found.shape == (4, S, T - 1)
    for number in range(4):
        expected, _ = oracle(model, tokens, initial, overwritten(values, units[number]))
        np.testing.assert_allclose(found[number], expected, rtol=1e-12, atol=1e-12)
    states = undisturbed_states(model, tokens, initial)
    assert set(states) == set(model.architecture.states)
    # Units that are all held at their own values change nothing.
    everything = torch.ones(1, model.architecture.layers, H, dtype=torch.bool)
    np.testing.assert_allclose(
        intervened_losses(model, tokens, initial, Held(states, everything))[0], found[0], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("architecture", MODELS.values(), ids=MODELS)
def test_directions_are_erased_in_every_layer_and_state(architecture):
    model, tokens, initial, _ = drawn(**architecture)
    layers, width = model.architecture.layers, H * len(model.architecture.states)
    mean, u, v = torch.randn(3, 3, layers, width).double()
    u += 2 * v
    u /= (u * v).sum(dim=-1, keepdim=True)
    # The last variant erases nothing in the first layer.
    u[2, 0] = v[2, 0] = 0
    found = intervened_losses(model, tokens, initial, Erased(mean, u, v))
    states = intervened_states(model, tokens, initial, Erased(mean, u, v))
    for number in range(3):
        losses, after = oracle(model, tokens, initial, projected(mean[number], u[number], v[number]))
        np.testing.assert_allclose(found[number], losses, rtol=1e-12, atol=1e-12)
        x = []
        for name, expected in after.items():
            mine = states[name].view(layers, T, 3, S, H)[:, :, number].numpy()
            np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-12)
            x.append(mine)
        told = np.einsum("ltsd,ld->lts", np.concatenate(x, axis=-1) - mean[number].numpy()[:, None, None], u[number])
        assert np.abs(told).max() < 1e-12
    nothing = Erased(mean[:1], torch.zeros_like(u[:1]), torch.zeros_like(v[:1]))
    undisturbed = undisturbed_states(model, tokens, initial)
    for name, each in intervened_states(model, tokens, initial, nothing).items():
        np.testing.assert_allclose(each, undisturbed[name], rtol=1e-12, atol=1e-12)


def test_gru_with_reset_before_the_product_steps_like_its_layer():
    model, tokens, initial, values = drawn(cell="gru", layers=2, reset_after=False)
    units = torch.zeros(2, 2, H, dtype=torch.bool)
    units[1, 1] = True
    states = undisturbed_states(model, tokens, initial)
    # With the top layer held at the values it computed, the losses are those of the model's own steps.
    nothing, held = intervened_losses(model, tokens, initial, Held(states, units))
    np.testing.assert_allclose(nothing, held, rtol=1e-12, atol=1e-12)
    after, *_ = drawn(cell="gru", layers=2)
    assert (intervened_losses(after, tokens, initial, Held(values, units[:1]))[0] - nothing).abs().max() > 0.01


def test_zeroing_the_top_layer_leaves_only_the_output_bias():
    model, tokens, initial, values = drawn(cell="lstm", layers=2)
    units = torch.zeros(1, 2, H, dtype=torch.bool)
    units[0, 1] = True
    zeros = {name: torch.zeros_like(each) for name, each in values.items()}
    found = intervened_losses(model, tokens, initial, Held(zeros, units))[0]
    np.testing.assert_allclose(found, -log_softmax(model.output.bias, 0)[tokens[:, 1:]].detach(), rtol=1e-12)


@pytest.mark.parametrize("cell", [{"cell": "lstm"}, {"cell": "gru", "reset_after": False}, {"cell": "rnn"}])
def test_gpu_products_would_be_full_float32(cell, monkeypatch):
    model, tokens, initial, values = drawn(layers=1, **cell)
    said, inputs = [], CharacterModel.inputs
    monkeypatch.setattr(CharacterModel, "inputs", lambda *given: said.append(recurrent_precision()) or inputs(*given))
    assert recurrent_precision() == "tf32"
    undisturbed_states(model, tokens, initial)
    intervened_losses(model, tokens, initial, Held(values, torch.zeros(1, 1, H, dtype=torch.bool)))
    assert said == ["ieee"] * T and recurrent_precision() == "tf32"
