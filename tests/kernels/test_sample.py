"""Stepping one character at a time against torch.nn in float64, and drawing by the rule of `choose`."""

import pytest
import torch

from gatescope.kernels.choice import Draw, choose
from gatescope.kernels.philox import uniform
from gatescope.kernels.sample import TILE, Recurrence

SHAPES = [(5, 7, 1), (11, 32, 2), (3, 33, 3)]  # V, H, L


def weights_of(rnn):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [tuple(getattr(rnn, f"{name}_l{layer}").detach() for name in names) for layer in range(rnn.num_layers)]


def torch_layers(cell, n_inputs, hidden, layers, dtype):
    torch.manual_seed(hidden + layers)
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
    nonlinearity = {"nonlinearity": "relu"} if cell == "rnn" else {}
    return kinds[cell](n_inputs, hidden, layers, **nonlinearity).to(dtype)


def run(recurrence, tokens):
    outputs = [recurrence.step(column).clone() for column in tokens]
    return torch.stack(outputs)


@pytest.mark.parametrize(("V", "H", "L"), SHAPES, ids=lambda size: str(size))
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("one_hot", [True, False], ids=["one-hot", "embedding"])
def test_steps_agree_with_torch_in_float64(cell, V, H, L, one_hot):
    width = V if one_hot else 4
    oracle = torch_layers(cell, width, H, L, torch.float64)
    vectors = torch.eye(V, dtype=torch.float64) if one_hot else torch.randn(V, width, dtype=torch.float64)
    tokens = torch.randint(V, (6, TILE))
    expected, after = oracle(vectors[tokens])

    def recurrence(dtype):
        layers = [tuple(weight.to(dtype) for weight in layer) for layer in weights_of(oracle)]
        return Recurrence(cell, layers, None if one_hot else vectors.to(dtype), nonlinearity="relu")

    exact = recurrence(torch.float64)
    torch.testing.assert_close(run(exact, tokens), expected.detach(), rtol=1e-12, atol=1e-13)
    hidden, cells = after if cell == "lstm" else (after, None)
    torch.testing.assert_close(torch.stack(exact.h), hidden.detach(), rtol=1e-12, atol=1e-13)
    if cells is not None:
        torch.testing.assert_close(torch.stack(exact.c), cells.detach(), rtol=1e-12, atol=1e-13)

    # float32: at most twice as far from the oracle as torch's own float32.
    scale = expected.square().mean().sqrt()
    yardstick = (oracle.float()(vectors[tokens].float())[0].double() - expected).abs().max() / scale
    error = (run(recurrence(torch.float32), tokens).double() - expected).abs().max() / scale
    assert error <= 2 * yardstick + 4 * torch.finfo(torch.float32).eps


def test_gru_with_the_reset_gate_before_the_product():
    torch.manual_seed(0)
    V, H = 5, 6
    w_ih, w_hh, b_ih, b_hh = (torch.randn(*shape, dtype=torch.float64) for shape in [(18, V), (18, H), (18,), (18,)])
    tokens = torch.randint(V, (4, TILE))
    recurrence = Recurrence("gru", [(w_ih, w_hh, b_ih, b_hh)], reset_after=False)
    h = torch.zeros(TILE, H, dtype=torch.float64)
    for column in tokens:
        x = torch.eye(V, dtype=torch.float64)[column] @ w_ih.T + b_ih
        r = torch.sigmoid(x[:, :H] + h @ w_hh[:H].T + b_hh[:H])
        z = torch.sigmoid(x[:, H : 2 * H] + h @ w_hh[H : 2 * H].T + b_hh[H : 2 * H])
        n = torch.tanh(x[:, 2 * H :] + (r * h) @ w_hh[2 * H :].T + b_hh[2 * H :])
        h = z * h + (1 - z) * n
        torch.testing.assert_close(recurrence.step(column), h, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(recurrence.gates[0], torch.cat([r, z, n], dim=1), rtol=1e-12, atol=1e-13)


def test_lstm_gates_equal_the_equations():
    torch.manual_seed(0)
    V, H = 5, 6
    weights = tuple(torch.randn(*shape, dtype=torch.float64) for shape in [(24, V), (24, H), (24,), (24,)])
    recurrence = Recurrence("lstm", [weights])
    recurrence.step(torch.randint(V, (TILE,)))
    h, c = recurrence.h[0].clone(), recurrence.c[0].clone()
    tokens = torch.randint(V, (TILE,))
    recurrence.step(tokens)
    w_ih, w_hh, b_ih, b_hh = weights
    raw = w_ih.T[tokens] + b_ih + h @ w_hh.T + b_hh
    i, f, g, o = (
        raw[:, :H].sigmoid(),
        raw[:, H : 2 * H].sigmoid(),
        raw[:, 2 * H : 3 * H].tanh(),
        raw[:, 3 * H :].sigmoid(),
    )
    torch.testing.assert_close(recurrence.gates[0], torch.cat([i, f, g, o], dim=1), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(recurrence.c[0], f * c + i * g, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_row_does_not_depend_on_its_neighbours(cell):
    layers = weights_of(torch_layers(cell, 9, 40, 2, torch.float32))
    tokens = torch.randint(9, (20, TILE))
    whole = run(Recurrence(cell, layers), tokens)
    others = torch.randint(9, (20, TILE))
    others[:, 17] = tokens[:, 17]
    assert torch.equal(run(Recurrence(cell, layers), others)[:, 17], whole[:, 17])


def test_clear_changes_only_the_given_rows():
    layers = weights_of(torch_layers("lstm", 9, 8, 2, torch.float32))
    recurrence = Recurrence("lstm", layers)
    recurrence.step(torch.randint(9, (TILE,)))
    before = [state.clone() for state in (*recurrence.h, *recurrence.c)]
    rows = torch.zeros(TILE, dtype=torch.bool)
    rows[3] = True
    recurrence.clear(rows)
    for state, old in zip((*recurrence.h, *recurrence.c), before, strict=True):
        assert torch.equal(state[~rows], old[~rows]) and not state[rows].any()
    recurrence.clear()
    assert not any(state.any() for state in (*recurrence.h, *recurrence.c))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (4, 0.8)])
def test_drawn_characters_equal_the_rule_applied_to_torch_in_float64(cell, top_k, top_p):
    V, H, L, start, n_steps = 9, 11, 2, 5, 6
    oracle = torch_layers(cell, V, H, L, torch.float64)
    output = torch.nn.Linear(H, V).double().requires_grad_(False)
    given = output.weight * 8, output.bias
    recurrence = Recurrence(cell, weights_of(oracle), nonlinearity="relu", steps=n_steps + 1, output=given)
    prime = torch.randint(V, (TILE,))
    recurrence.step(prime)
    how = Draw(seed=3, first_sequence=200, temperature=0.7, top_k=top_k, top_p=top_p)
    found = recurrence.draw(how, start, start + n_steps)
    read = torch.cat([prime[None], found])
    h, after = oracle(torch.eye(V, dtype=torch.float64)[read])
    random = uniform(3, torch.arange(200, 200 + TILE), torch.arange(start, start + n_steps))
    for step in range(n_steps):
        logits = h[step].detach() @ given[0].T + given[1]
        assert torch.equal(found[step], choose(logits, random[step], 0.7, top_k, top_p))
    torch.testing.assert_close(recurrence.kept_h[-1][:n_steps], h[1:].detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.stack(recurrence.h), (after[0] if cell == "lstm" else after).detach())
    assert len(set(found.flatten().tolist())) > 3


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_nonfinite_logits_draw_no_character(cell):
    output = torch.zeros(9, 8), torch.zeros(9)
    output[1][4] = float("nan")
    layers = weights_of(torch_layers(cell, 9, 8, 2, torch.float32))
    drawn = Recurrence(cell, layers, steps=3, output=output).draw(Draw(0, 0, 1.0), 0, 3)
    assert torch.equal(drawn, torch.full((3, TILE), 9))
