"""The compiled passes against torch's autograd in float64, and against the LSTM's own operators."""

import numpy as np
import pytest
import torch

from gatescope.kernels import lstm_loop, steps_host

B, H = 5, 19


def arrays(*shapes, dtype=np.float64, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(dtype) for shape in shapes]


def test_lstm_state_equals_the_operators():
    a, before = map(torch.from_numpy, arrays((B, 4 * H), (B, H)))
    found, expected = (torch.empty(2, B, H, dtype=torch.float64) for _ in range(2))
    same = a.clone()
    steps_host.lstm_state(a.numpy(), before.numpy(), found[0].numpy(), found[1].numpy())
    lstm_loop.activate(same, before, expected[0], expected[1])
    torch.testing.assert_close(a, same, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-15)


def step(a, h, reset_after):
    """One step of a GRU from p, r, z, n before the activations, without products: a and the state after it."""
    p, r, z, n = a.chunk(4, dim=1)
    r, z = r.sigmoid(), z.sigmoid()
    p = p if reset_after else r * h
    n = torch.tanh(n + r * p if reset_after else n + p)
    return torch.cat((p, r, z, n), dim=1), z * h + (1 - z) * n


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_step_and_its_gradients_equal_autograd(reset_after, captured):
    """Without reset_after the product with W_hn is replaced by the identity."""
    raw, h, dh, own, dy = map(torch.from_numpy, arrays((B, 4 * H), (B, H), (B, H), (B, 4 * H), (B, H)))
    raw.requires_grad_(), h.requires_grad_()
    saved, after = step(raw, h, reset_after)
    loss = (after * dh).sum() + (saved * own).sum() * captured
    d_raw, d_h = torch.autograd.grad(loss, (raw, h))
    raw, h, saved, after = raw.detach(), h.detach(), saved.detach(), after.detach()

    a, state = raw.clone(), torch.empty_like(h)
    steps_host.gru_gates(a.numpy(), h.numpy(), reset_after)
    if not reset_after:
        a[:, 3 * H :] += a[:, :H]
    steps_host.gru_state(a.numpy(), h.numpy(), state.numpy(), reset_after)
    torch.testing.assert_close(a, saved, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(state, after, rtol=1e-14, atol=1e-15)

    gradient, added = torch.full_like(a, float("nan")), own.numpy() if captured else np.empty((B, 0))
    steps_host.gru_state_back(a.numpy(), h.numpy(), dh.numpy(), added, gradient.numpy())
    if not reset_after:
        gradient[:, :H] = gradient[:, 3 * H :] + (own[:, :H] if captured else 0)
    steps_host.gru_reset_back(a.numpy(), h.numpy(), dh.numpy(), added, gradient.numpy(), dy.numpy(), reset_after)
    first = 0 if reset_after else H
    torch.testing.assert_close(gradient[:, first:], d_raw[:, first:], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(dh, d_h + dy, rtol=1e-13, atol=1e-14)
