"""The reference of the sampler's tests: stacked cells step by step in plain torch, in any precision."""

import torch


def random_model(cell, V, H, L, seed=0, width=0):
    """Weights of L layers as in torch.nn, character vectors [V, width] or None, and the output layer, in float64."""
    generator = torch.Generator().manual_seed(seed)
    rows = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * H

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * H**-0.5

    layers = [(draw(rows, H if l else width or V), draw(rows, H), draw(rows), draw(rows)) for l in range(L)]
    return layers, draw(V, width) if width else None, (2 * draw(V, H), draw(V))


def converted(model, dtype):
    """A model in another dtype."""
    layers, vectors, output = model
    changed = [tuple(each.to(dtype) for each in layer) for layer in layers]
    return changed, None if vectors is None else vectors.to(dtype), tuple(each.to(dtype) for each in output)


def read(cell, model, tokens, dtype, stored, reset_after=True, nonlinearity="tanh"):
    """States, gates and logits while characters are read from the zero state.

    Args:
        cell, model: see `random_model`.
        tokens: int64 [B, T]; negative: the row has not begun, and its states stay zero.
        dtype: of the arithmetic.
        stored: the dtype that hidden states are rounded to after each step.

    Returns:
        Values by layer and place (h, c, gates in the order of the weights), [B, T, H] each, and the logits before each
        character [B, T, V].
    """
    layers, vectors, (weight, bias) = converted(model, dtype)
    n_rows, H = len(tokens), layers[0][1].shape[1]
    h = [torch.zeros(n_rows, H, dtype=dtype) for _ in layers]
    c = [torch.zeros(n_rows, H, dtype=dtype) for _ in layers]
    values, logits = [], []
    for column in tokens.T:
        logits.append(h[-1] @ weight.T + bias)
        x = (torch.eye(weight.shape[0], dtype=dtype) if vectors is None else vectors)[column.clamp(min=0)]
        step = []
        for layer, (w_ih, w_hh, b_ih, b_hh) in enumerate(layers):
            a, b = x @ w_ih.T + b_ih, h[layer] @ w_hh.T + b_hh
            if cell == "lstm":
                i, f, g, o = (a + b).chunk(4, dim=1)
                gates = [i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()]
                c[layer] = gates[1] * c[layer] + gates[0] * gates[2]
                new = gates[3] * c[layer].tanh()
            elif cell == "gru":
                r, z = ((a + b)[:, k * H : (k + 1) * H].sigmoid() for k in range(2))
                if reset_after:
                    n = (a[:, 2 * H :] + r * b[:, 2 * H :]).tanh()
                else:
                    kept = (r * h[layer]).to(stored).to(dtype)
                    n = (a[:, 2 * H :] + kept @ w_hh[2 * H :].T + b_hh[2 * H :]).tanh()
                gates, new = [r, z, n], z * h[layer] + (1 - z) * n
            else:
                gates, new = [], (a + b).tanh() if nonlinearity == "tanh" else (a + b).relu()
            idle = (column < 0)[:, None]
            h[layer] = x = new.to(stored).to(dtype).masked_fill(idle, 0)
            c[layer] = c[layer].masked_fill(idle, 0)
            step.append([h[layer], c[layer], *gates])
        values.append(step)
    names = [(layer, place) for layer in range(len(layers)) for place in range(len(values[0][0]))]
    kept = {(l, k): torch.stack([step[l][k] for step in values], dim=1) for l, k in names if k != 1 or cell == "lstm"}
    return kept, torch.stack(logits, dim=1)
