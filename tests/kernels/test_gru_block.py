"""The walks through a block of steps: torch's operators and compiled passes give the same."""

import pytest
import torch

from gatescope.kernels.gru_block import walk, walk_back, walk_back_on_host, walk_on_host
from gatescope.kernels.gru_loop import _parts


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_walks_equal_the_operators(reset_after, captured):
    """The walks in torch's operators are those of a GPU; here they run on the CPU."""
    n_steps, B, H = 4, 5, 19
    shapes = (n_steps, B, 4 * H), (B, H), (3 * H, H), (n_steps, B, 4, H), (B, H), (n_steps, B, H)
    block, h, weight, own, dh, dys = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    clears = [None, torch.tensor([[True]] + [[False]] * (B - 1)), None, None]
    parts = _parts(weight, H, reset_after)
    forward, backward = [], []
    for through, back in ((walk, walk_back), (walk_on_host, walk_back_on_host)):
        a, y = block.clone(), torch.empty(n_steps, B, H, dtype=torch.float64)
        last = through(a, h, y, clears, [part.t() for part in parts])
        assert torch.equal(last, y[-1])
        forward.append((a, y))
        before = torch.cat((h.unsqueeze(0), y[:-1]))
        before[1, 0] = 0
        gradient, above = torch.empty(n_steps, B, 4, H, dtype=torch.float64), dh.clone()
        given = own.clone() if captured else None
        back(gradient, given, a.view(n_steps, B, 4, H), before, above, dys, clears, parts)
        backward.append((gradient, above))
    torch.testing.assert_close(*forward, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(*backward, rtol=1e-12, atol=1e-13)
