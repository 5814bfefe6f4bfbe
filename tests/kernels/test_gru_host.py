"""The GRU's compiled walk against torch's autograd through the equations, in shares of rows and in one."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gatescope.kernels import gru_host

# Neither the units nor the inputs fill a part of a panel; gradients are summed over more than one block of steps.
T, B, I, H = 31, 40, 5, 7


def inputs(bias=True):
    torch.manual_seed(0)
    shapes = [(T, B, I), (B, H), (3 * H, I), (3 * H, H), *[(3 * H,)] * 2 * bias]
    return [torch.randn(*shape, dtype=torch.float64).requires_grad_() for shape in shapes] + [None] * (2 * (not bias))


def equations(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, reset: Tensor, reset_after: bool
):
    """h [T, B, H] and p, r, z, n [T, B, 4, H] of every step; p is the product of n, or r * h before it."""
    states, saved = [], []
    for t, each in enumerate(x):
        if reset is not None:
            h = h.masked_fill(reset[t].unsqueeze(1), 0)
        x_r, x_z, x_n = functional.linear(each, w_ih, b_ih).chunk(3, dim=1)
        (w_r, w_z, w_n), (b_r, b_z, b_n) = w_hh.chunk(3), [None] * 3 if b_hh is None else b_hh.chunk(3)
        r, z = torch.sigmoid(x_r + functional.linear(h, w_r, b_r)), torch.sigmoid(x_z + functional.linear(h, w_z, b_z))
        p = functional.linear(h, w_n, b_n) if reset_after else r * h
        n = torch.tanh(x_n + (r * p if reset_after else functional.linear(p, w_n, b_n)))
        h = (1 - z) * n + z * h
        states.append(h)
        saved.append(torch.stack((p, r, z, n), dim=1))
    return torch.stack(states), torch.stack(saved)


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("reset", [False, True], ids=["whole", "reset"])
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)], ids=["y", "saved", "both"])
def test_states_and_gradients_equal_the_equations(threads, reset_after, bias, reset, wanted, resets):
    given, reset = inputs(bias), resets(B, T) if reset else None
    expected = equations(*given, reset, reset_after)
    found = gru_host.gru_forward(*given, reset, reset_after, True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)

    above = [torch.randn_like(each) if k in wanted else None for k, each in enumerate(expected)]
    leaves = [each for each in given if each is not None]
    outputs, gradients = zip(*((expected[k], above[k]) for k in wanted), strict=True)
    expected_gradients = torch.autograd.grad(outputs, leaves, gradients)
    saved = [each.detach() for each in found]
    needs = tuple(each is not None for each in given)
    found_gradients = gru_host.gru_backward(*above, *given[:4], *saved, reset, reset_after, needs)
    got = [each for each in found_gradients if each is not None]
    torch.testing.assert_close(got, list(expected_gradients), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
def test_only_what_is_needed_is_returned(reset_after):
    given = inputs()
    saved = gru_host.gru_forward(*given, None, reset_after, True)
    dy = torch.randn_like(saved[0])
    every = gru_host.gru_backward(dy, None, *given[:4], *saved, None, reset_after, (True,) * 6)
    for k in range(6):
        needs = tuple(k == other for other in range(6))
        some = gru_host.gru_backward(dy, None, *given[:4], *saved, None, reset_after, needs)
        assert [each is not None for each in some] == list(needs)
        assert torch.equal(some[k], every[k])


@pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
def test_discarding_gates_does_not_change_states(reset_after, resets):
    given = inputs()
    kept, not_kept = (gru_host.gru_forward(*given, resets(B, T), reset_after, save) for save in (True, False))
    assert torch.equal(kept[0], not_kept[0]) and not_kept[1].numel() == 0
