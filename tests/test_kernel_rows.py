"""The rows of the recurrent kernels alone, and the estimate that is fitted to them."""

from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("triton")
import bench_kernels
import choose

from gatescope.kernels import schedule
from gatescope.kernels.checks import N_GATES
from gatescope.kernels.gpu import H200


def test_every_size_has_rows_for_each_cell_and_direction():
    rows = [row.values for row in bench_kernels.ROWS]
    assert len(set(rows)) == len(rows)
    for cell in ("lstm", "gru"):
        for size in ((128, 512), (32, 512), (16, 768), (1024, 512), (128, 1024), (128, 128)):
            for backward in (False, True):
                impls = {impl for *given, impl in rows if given == [cell, size, backward]}
                other = {(128, 512): {"gatescope-persistent-third"}, (128, 128): {"gatescope-columns"}}.get(size, set())
                assert impls == {"gatescope-persistent", "gatescope-steps"} | other
                for impl in impls - {"gatescope-steps"}:
                    form, share = bench_kernels.IMPLS[impl]
                    with bench_kernels.in_columns() if form == "columns" else nullcontext():
                        found = schedule.cell_plan(cell, backward, *size, torch.float16, H200.shared_by(share))
                    assert found.form == "persistent" and (found.columns == 1) == (size[1] == 128 and form != "columns")


@pytest.mark.skipif(torch.cuda.is_available(), reason="interpreted kernels; on a GPU each row checks its own answers")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("form", ["persistent", "columns", "steps"])
def test_each_row_times_the_requested_kernel(cell, form):
    for backward, name in ((False, "advance"), (True, "retreat")):
        layout, walk, _ = bench_kernels.checked(cell, f"gatescope-{form}", backward, (2, 2, 80, 1), "cpu")
        assert (walk.func.__name__, walk.args) == (name, (0, 2))
        assert (layout.form, layout.columns > 1) == (form if form == "steps" else "persistent", form == "columns")


def estimated(cell, size, backward):
    """A row whose step takes the estimated time."""
    tiles = N_GATES[cell] if backward else 1
    found = schedule.cell_plan(cell, backward, *size, torch.float16, H200)
    return {
        "direction": "backward" if backward else "forward",
        "microseconds_per_step": schedule.microseconds(found, size[0], tiles, 2, backward, H200),
        "launches": -(-size[0] // found.rows),
        "bytes_read": 2 * found.read(tiles),
    }


def test_the_fit_recovers_the_constants_of_the_estimate():
    rows = [estimated(*row.values[:3]) for row in bench_kernels.ROWS]
    assert len({row["launches"] for row in rows}) == 2
    constants, factors = choose.fitted([*rows, {"microseconds_per_step": 1.0}])
    assert constants == pytest.approx((schedule.FORWARD, schedule.BACKWARD, schedule.RATE), rel=1e-4)
    # A program of a narrow layer reads nothing from others, so it says nothing about the rate.
    assert len(factors) == sum(row["bytes_read"] > 0 for row in rows) == len(rows) - 12 and factors == pytest.approx(
        1, rel=1e-4
    )
    assert choose.fitted(rows[:1]) is None
