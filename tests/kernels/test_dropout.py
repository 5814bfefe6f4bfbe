"""dropout.py and its kernel: shares, scale, counters, backward, and rows that do not depend on the process."""

import math

import pytest
import torch

from gatescope.kernels.dropout import _kept, dropout
from gatescope.kernels.philox import philox


def test_dropped_share_and_scale_are_as_expected():
    torch.manual_seed(0)
    x = torch.ones(50, 20, 40)
    for p in (0.1, 0.5, 0.9):
        y = dropout(x, p, True, 0)
        n, kept = y.numel(), (y != 0).sum().item()
        assert abs(kept - n * (1 - p)) < 5 * math.sqrt(n * p * (1 - p))
        torch.testing.assert_close(y[y != 0], torch.full((kept,), 1 / (1 - p)))


def test_p_zero_keeps_everything_and_p_one_drops_everything():
    x = torch.randn(3, 2, 4)
    assert dropout(x, 0.5, False, 0) is x
    assert dropout(x, 0.0, True, 0) is x
    assert not dropout(x, 1.0, True, 0).any()


def test_backward_draws_the_same_mask():
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.4, True, 1)
    dy = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, [x], dy)
    torch.testing.assert_close(dx, torch.where(y == 0, 0.0, dy / 0.6))


def test_calls_layers_and_seeds_differ_and_a_seed_repeats():
    x = torch.ones(20, 4, 16)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5, True, 0), dropout(x, 0.5, True, 0)
    torch.manual_seed(3)
    again, other = dropout(x, 0.5, True, 0), torch.ops.gatescope.dropout(x, torch.tensor([5]), 0.5, 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(other, torch.ops.gatescope.dropout(x, torch.tensor([5]), 0.5, 0))


def test_rows_are_numbered_across_all_processes(monkeypatch):
    x, seed = torch.ones(9, 6, 5), torch.tensor([11])
    whole = torch.ops.gatescope.dropout(x, seed, 0.5, 2)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        parts.append(torch.ops.gatescope.dropout(x[:, :2], seed, 0.5, 2))
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_the_kernel_drops_the_units_philox_selects():
    pytest.importorskip("triton")
    from gatescope.kernels.dropout_kernel import drop

    x, seed = torch.randn(3, 5, 301), 2**40 + 17
    y = drop(x, torch.tensor([seed]), 0.3, layer=2, first_row=7)
    assert torch.equal(drop(x[1:], torch.tensor([seed]), 0.3, 2, 7, first_step=1), y[1:])
    step, row, unit = torch.meshgrid(torch.arange(3), torch.arange(5) + 7, torch.arange(301), indexing="ij")
    words = philox(seed, (unit, step, row, torch.full_like(unit, 2)))[0]
    kept = (words >> 8) >= round(0.3 * 2**24)
    torch.testing.assert_close(y, torch.where(kept, x / 0.7, torch.zeros_like(x)))


def test_the_cpu_mask_of_a_row_follows_its_number():
    whole = _kept(torch.Size((4, 3, 5)), 9, 0.5, 1, 0)
    assert torch.equal(_kept(torch.Size((4, 1, 5)), 9, 0.5, 1, 2)[:, 0], whole[:, 2])


def test_opcheck_and_compile():
    x = torch.randn(3, 2, 4, requires_grad=True)
    for given in (x, x.detach().transpose(0, 1).requires_grad_()):
        torch.library.opcheck(torch.ops.gatescope.dropout, (given, torch.tensor([5]), 0.5, 0))
    torch.manual_seed(1)
    y = torch.compile(lambda x: dropout(x, 0.5, True, 0), fullgraph=True, backend="aot_eager")(x)
    assert 0 < (y == 0).sum() < y.numel()


@pytest.mark.cuda
def test_a_graph_draws_a_new_mask_at_each_replay():
    x = torch.ones(16, 8, 64, device="cuda")
    dropout(x, 0.5, True, 0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = dropout(x, 0.5, True, 0)
    masks = []
    for _ in range(3):
        graph.replay()
        masks.append(y.clone())
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[1], masks[2])
