"""unit_shares.py: a process that exchanges with itself gets its own units, in blocks that fit into the memory."""

import numpy as np
import pytest
import torch

from gatescope.engine.processes import ALONE
from gatescope.engine.unit_shares import _exchange, exchanged

X = np.random.default_rng(0).normal(size=(10, 7)).astype(np.float32)


@pytest.fixture(autouse=True)
def group(tmp_path):
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


# A block, its parts and what is received take 3 x 10 values of 4 bytes for each unit.
@pytest.mark.parametrize(("memory", "width"), [(0, 1), (119, 1), (120, 1), (239, 1), (240, 2), (480, 4), (10**6, 7)])
@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, torch.from_numpy], ids=["rows", "columns", "torch"])
def test_blocks_of_units_fit_into_the_memory(memory, width, kind):
    found = list(exchanged(kind(X), ALONE, memory))
    starts = range(0, 7, width)
    assert [units for units, _ in found] == [slice(start, min(start + width, 7)) for start in starts]
    assert np.array_equal(np.hstack([values for _, values in found]), X)


def test_a_process_that_receives_nothing_keeps_its_rows():
    own = torch.arange(6.0).view(3, 2)
    assert torch.equal(_exchange([own], np.array([3]), 0), own)
    # Nor does it have rows for the other process.
    assert _exchange([own[:0], own[:0]], np.array([0, 0]), 1).shape == (0, 2)
