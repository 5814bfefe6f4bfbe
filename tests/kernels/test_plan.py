"""plan.py: plans that fit the device."""

import pytest

pytest.importorskip("triton")

from gatescope.kernels.gpu import A100, H200, Device
from gatescope.kernels.plan import STEPS, plan

SHAPES = [
    (128, 512),
    (128, 128),
    (32, 512),
    (1024, 512),
    (16, 768),
    (128, 1024),
    (64, 2048),
    (1, 1),
    (3, 100),
    (7, 650),
]


@pytest.mark.parametrize("device", [A100, H200, Device(16, 100 * 1024)], ids=["a100", "h200", "small"])
@pytest.mark.parametrize("n_gates", [1, 3, 4])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_a_plan_covers_the_layer_and_fits_the_device(device, n_gates, itemsize):
    for n_rows, hidden in SHAPES:
        for tiles in {1, n_gates}:
            found = plan(n_rows, hidden, n_gates, itemsize, device, tiles)
            if found == STEPS:
                continue
            assert found.columns * found.block_h >= hidden > (found.columns - 1) * found.block_h
            inner = found.parts * found.block_k * (found.slices or 1)
            whole = tiles * hidden if found.slices else hidden
            assert inner >= whole > inner - found.block_k * (found.slices or 1)
            assert (found.groups - 1) * found.block_b < n_rows
            assert (found.ahead > 0) == (found.columns > 1)
            if found.resident:
                assert device.warp_groups and itemsize == 2
            if found.resident and found.columns == 1:
                assert found.rows >= n_rows
                # All weights are in registers, and take at most half of them.
                assert (found.block_b in (4, 8)) and (found.block_k, found.resident) == (found.block_h, 1)
                assert n_gates * found.block_h * found.block_k * itemsize <= 32 * found.warps * 128 * 4
                continue
            # One program on each multiprocessor: all programs of a launch are on the device at once.
            assert found.groups * found.columns <= device.multiprocessors
            standing = found.ahead * found.block_k * (found.slices or 1) if found.ahead else tiles * inner
            weights = inner if found.slices else n_gates * (inner - found.resident * found.block_k)
            assert itemsize * (found.block_h * weights + standing * found.block_b) <= device.shared
            assert found.ahead <= (found.parts if found.slices else tiles * found.parts)
            # Each warp has a slice; in two warp groups, weights take at most 96 of a thread's registers.
            assert found.slices in (0, found.warps)
            few = (found.block_b, found.block_h, itemsize) == (16, 16, 2) and inner <= 1024
            assert found.warps == 8 or found.slices or few
            if found.resident:
                assert (found.block_b, found.block_h) == (16, 32)
                assert found.resident * found.block_k * 128 * itemsize <= 96 * 4 * 256
            assert found.warp_groups == (device.warp_groups and found.block_b == 64)
            # 256 threads hold the sums of a step, and single warps do not multiply large parts of many states.
            if found.ahead and not found.warp_groups and found.block_b * hidden * itemsize > 65536:
                assert found.block_b * found.block_k * itemsize <= 16384
            assert found.block_b * found.block_h * n_gates * itemsize <= 16384
            assert found.block_b in (16, 32, 64) and found.block_h in (16, 32, 64, 128)


def test_plans_of_the_benchmark_shapes():
    bf16 = {shape: plan(*shape, 4, 2, H200) for shape in SHAPES}
    assert (bf16[128, 512].groups, bf16[128, 512].columns) == (8, 16)
    # A narrow layer takes programs of four rows, or of eight if those would be too many for the device at once.
    assert [(each.block_b, each.groups) for each in (bf16[128, 128], bf16[3, 100])] == [(4, 32), (4, 1)]
    assert [(plan(n, 128, 3, 2, H200).block_b, plan(n, 128, 3, 2, H200).rows) for n in (528, 529, 2000)] == [
        (4, 528), (8, 536), (8, 2000),
    ]  # fmt: skip
    assert plan(128, 128, 4, 2, H200.shared_by(2)) == bf16[128, 128]
    assert plan(128, 128, 4, 2, A100).columns == 1 and plan(128, 128, 4, 2, A100).resident == 0
    assert plan(128, 128, 3, 4, H200).columns == 8 and plan(128, 64, 3, 4, H200).columns == 1
    assert (bf16[16, 768].block_k, bf16[16, 768].parts) == (256, 3)
    assert bf16[64, 2048] == STEPS
    elman = plan(64, 2048, 1, 2, H200)
    assert (elman.block_b, elman.block_k, elman.parts, elman.ahead) == (32, 256, 8, 4)
    assert bf16[1024, 512].rows == 512
    back = plan(16, 768, 4, 2, H200, 4)
    assert (back.slices, back.warps, back.columns, back.parts) == (4, 4, 48, 12)
    forward = plan(128, 512, 4, 2, H200)
    assert (forward.resident, forward.block_k, forward.parts) == (3, 128, 4)
    assert plan(128, 512, 1, 2, H200).resident == 0
    assert plan(16, 768, 4, 2, H200).resident == 0
    assert plan(64, 2048, 3, 2, H200) == STEPS
    assert plan(2048, 512, 4, 2, H200) == STEPS


def test_plans_in_float32():
    """Weights of 4 bytes: half the units in a program, and half the entries in a part and in a warp's slice."""
    forward, back = plan(128, 512, 4, 4, H200), plan(128, 512, 4, 4, H200, 4)
    assert (forward.block_b, forward.block_h, forward.groups, forward.columns) == (32, 16, 4, 32)
    assert (forward.block_k, forward.parts, forward.ahead, forward.resident) == (256, 2, 2, 0)
    assert (back.block_b, back.block_k, back.parts, back.warp_groups) == (64, 128, 4, True)
    few = plan(32, 512, 4, 4, H200, 4)
    assert (few.block_b, few.slices, few.warps, few.block_k, few.parts) == (16, 8, 8, 16, 16)
    # Four gates of 16 units of 1024 take 256 KB, and four launches, one after another, are too many.
    assert plan(128, 1024, 4, 4, H200) == STEPS
    assert plan(1024, 512, 4, 4, H200) == STEPS
