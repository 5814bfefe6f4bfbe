"""grid.py: the launch's counters, and the barrier's protocol under every interleaving."""

import pytest
import torch
from barrier_model import Barrier, explore

pytest.importorskip("triton")

from gatescope.kernels.grid import counters


def test_counters_are_zero_and_apart():
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
def test_the_exploration_finds_mistakes(mistake):
    for participants in (2, 3):
        assert explore(participants, 2, 2, mistake)[0] == "early read"


def test_the_exploration_finds_a_wait_for_too_many():
    assert explore(2, 2, 2, Barrier(missing=-1))[0] == "deadlock"
