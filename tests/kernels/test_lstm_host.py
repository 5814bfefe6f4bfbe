"""The LSTM's compiled walk against torch's autograd through the equations, in shares of rows and in one."""

import pytest
import torch

from gatescope.kernels import lstm_host
from gatescope.kernels.lstm import lstm_reference

# Neither the units nor the inputs fill a part of a panel; gradients are summed over more than one block of steps.
T, B, I, H = 31, 40, 5, 7


def inputs(bias=True):
    torch.manual_seed(0)
    shapes = [(T, B, I), (B, H), (B, H), (4 * H, I), (4 * H, H), *[(4 * H,)] * 2 * bias]
    return [torch.randn(*shape, dtype=torch.float64).requires_grad_() for shape in shapes] + [None] * (2 * (not bias))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("reset", [False, True], ids=["whole", "reset"])
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 2), (0, 1, 2)], ids=["y", "c", "y-gates", "all"])
def test_states_and_gradients_equal_the_equations(threads, bias, reset, wanted, resets):
    given, reset = inputs(bias), resets(B, T) if reset else None
    expected = lstm_reference(*given, reset)
    found = lstm_host.lstm_forward(*given, reset, True)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)

    above = [torch.randn_like(each) if k in wanted else None for k, each in enumerate(expected)]
    leaves = [each for each in given if each is not None]
    outputs, gradients = zip(*((expected[k], above[k]) for k in wanted), strict=True)
    expected_gradients = torch.autograd.grad(outputs, leaves, gradients)
    saved = [each.detach() for each in found]
    needs = tuple(each is not None for each in given)
    found_gradients = lstm_host.lstm_backward(*above, *given[:5], *saved, reset, needs)
    got = [each for each in found_gradients if each is not None]
    torch.testing.assert_close(got, list(expected_gradients), rtol=1e-11, atol=1e-11)


def test_only_what_is_needed_is_returned():
    given = inputs()
    saved = lstm_host.lstm_forward(*given, None, True)
    dy = torch.randn_like(saved[0])
    every = lstm_host.lstm_backward(dy, None, None, *given[:5], *saved, None, (True,) * 7)
    for k in range(7):
        needs = tuple(k == other for other in range(7))
        some = lstm_host.lstm_backward(dy, None, None, *given[:5], *saved, None, needs)
        assert [each is not None for each in some] == list(needs)
        assert torch.equal(some[k], every[k])


def test_discarding_gates_does_not_change_states(resets):
    given = inputs()
    kept, not_kept = (lstm_host.lstm_forward(*given, resets(B, T), save) for save in (True, False))
    assert torch.equal(kept[0], not_kept[0]) and torch.equal(kept[1], not_kept[1]) and not_kept[2].numel() == 0


def test_inputs_may_be_transposed():
    given = inputs()
    across = [each.detach().transpose(0, -1).contiguous().transpose(0, -1) for each in given]
    found, expected = (lstm_host.lstm_forward(*each, None, True) for each in (across, given))
    assert all(map(torch.equal, found, expected))
