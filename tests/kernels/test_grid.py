"""grid.py: the launch's counters, and the barrier's protocol under every interleaving."""

import pytest
import torch
from barrier_model import Barrier, explore

pytest.importorskip("triton")

from gatescope.kernels import grid
from gatescope.kernels.grid import Launch, counters


def test_counters_are_zero_and_128_bytes_apart():
    zeros = counters(3, torch.ones(2))
    assert zeros.dtype == torch.int32 and not zeros.any()
    assert zeros.numel() * 4 == 3 * 128


@pytest.mark.parametrize(("participants", "threads", "steps"), [(2, 2, 3), (2, 3, 3), (3, 2, 3), (4, 1, 4)])
def test_barrier_is_safe_under_every_interleaving(participants, threads, steps):
    verdict, n_states = explore(participants, threads, steps)
    assert verdict == "safe"
    assert n_states > 1000


@pytest.mark.parametrize(
    "mistake",
    [Barrier(release=False), Barrier(meets=False), Barrier(fresh=False), Barrier(missing=1)],
    ids=["no release", "threads do not meet", "counter of the last launch", "waits for too few"],
)
def test_the_exploration_finds_unsafe_barriers(mistake):
    for participants in (2, 3):
        assert explore(participants, 2, 2, mistake)[0] == "early read"


def test_the_exploration_finds_a_wait_for_too_many_arrivals():
    assert explore(2, 2, 2, Barrier(missing=-1))[0] == "deadlock"


class Compiler:
    """Stands in for the compilation and launch of a kernel."""

    arg_names = ("x_ptr", "dy_ptr", "t", "first_step", "H")

    def __init__(self):
        self.compiled, self.launched = [], []

    def warmup(self, *, grid, **given):
        self.compiled.append((grid, given))
        return {(*grid, 1): lambda *values: self.launched.append(values)}


def test_a_kernel_is_compiled_once_per_kind_of_tensors(monkeypatch):
    monkeypatch.setattr(grid, "interpreting", lambda: False)
    kernel, x, dy = Compiler(), torch.ones(2), torch.zeros(9)
    launch = Launch(kernel, (3, 2), {"dy_ptr": None, "x_ptr": x, "t": 0, "first_step": 0}, {"H": 8}, warps=1)
    for t in (5, 4):
        launch(dy_ptr=dy, t=t, first_step=4)
    ((where, given),) = kernel.compiled
    assert where == (3, 2) and given["x_ptr"] is x and given["dy_ptr"] is dy and given["num_warps"] == 1
    assert kernel.launched == [(x, dy, 5, 4, 8), (x, dy, 4, 4, 8)]
    for other in (dy[4:8], dy[1:5], dy[2:6]):
        launch(dy_ptr=other, t=0, first_step=0)
    assert len(kernel.compiled) == 2 and kernel.compiled[1][1]["dy_ptr"].data_ptr() == dy[1:].data_ptr()
    assert [values[1].data_ptr() for values in kernel.launched[2:]] == [dy[k:].data_ptr() for k in (4, 1, 2)]


def test_launches_of_a_kind_share_a_compiled_kernel(monkeypatch):
    monkeypatch.setattr(grid, "interpreting", lambda: False)
    kernel, x = Compiler(), torch.ones(12)

    def compiled(x, dy, t=0, H=8, **options):
        launch = Launch(kernel, (3, 2), {"x_ptr": x, "dy_ptr": dy, "t": 0, "first_step": 0}, {"H": H}, **options)
        launch(t=t)
        assert kernel.launched[-1] == (x, dy, t, 0, H)
        return len(kernel.compiled)

    assert compiled(x, None) == compiled(x.clone(), None, 2**31 - 1) == 1
    # Another dtype, alignment, integer width, nesting, constant, number of warps, and cooperation.
    assert [compiled(x.half(), None), compiled(x[1:], None), compiled(x, None, 2**31)] == [2, 3, 4]
    assert [compiled(x, (x, None)), compiled(x, (x, x.half())), compiled(x, x)] == [5, 6, 7]
    assert [compiled(x, None, H=16), compiled(x, None, warps=1), compiled(x, None, cooperative=True)] == [8, 9, 10]
    assert compiled(x, (x.clone(), None)) == compiled(x, None) == 10
    assert compiled(x, None, -(2**31)) == 10 and compiled(x, None, 2**63) == 11 and compiled(x, None, True) == 12
