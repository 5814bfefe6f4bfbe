"""The recurrent kernels alone, in microseconds a step: one layer's walk through time, without the products around it.

"Persistent" is the layer's own plan, on the whole device or on the share that one of three layers has, with nothing
running beside it; "columns" is the plan that a narrow layer would have if it were wide; "steps" is a product and a
pointwise kernel for each step. All are replayed from a CUDA graph. Before a row is timed, its output and, going back,
all gradients must meet the rule of recurrent.py, with a float64 loop as the oracle.

The bytes that a program reads in a step are those of the estimate in `gatescope.kernels.schedule`, whose constants
`python benchmarks/choose.py` fits to these rows.
"""

from contextlib import contextmanager, nullcontext
from functools import partial
from unittest import mock

import pytest
import torch
from recurrent import allowed, assert_within, by_steps, captured, oracle

pytest.importorskip("triton")
from gatescope.kernels import gru_fused, lstm_fused, plan
from gatescope.kernels.checks import N_GATES

T = 200
TO_COMPILE = 2  # steps that call every kernel in all its forms
REPLAYS = 5  # before a synchronisation, so that the host's time for a replay is not in the step
# A layer's arguments after its states and weights, besides the reset mask: for the GRU, reset_after.
MODULES = {"lstm": (lstm_fused, 2, ()), "gru": (gru_fused, 1, (True,))}
# Form of the walk, and the number of layers that share the device.
IMPLS = {
    "gatescope-persistent": ("persistent", 1),
    "gatescope-persistent-third": ("persistent", 3),
    "gatescope-columns": ("columns", 1),
    "gatescope-steps": ("steps", 1),
}
SHARED = (128, 512)  # B, H of the layers that may run side by side
NARROW = (128, 128)  # B, H of those whose units may be in one program or in columns
SIZES = [SHARED, (32, 512), (16, 768), (1024, 512), (128, 1024), NARROW]
ROWS = [
    pytest.param(cell, size, backward, impl, id=f"cuda-{cell}-B{size[0]}-H{size[1]}-{direction}-float16-{impl}-graph")
    for size in SIZES
    for cell in MODULES
    for backward, direction in ((False, "forward"), (True, "backward"))
    for impl, (form, share) in IMPLS.items()
    if (share == 1 or size == SHARED) and (form != "columns" or size == NARROW)
]


@contextmanager
def in_columns():
    """Split the units of a narrow layer over several programs, which wait for each other as those of a wide one."""
    with mock.patch.object(plan, "NARROW", 0):
        plan.plan.cache_clear()
        try:
            yield
        finally:
            plan.plan.cache_clear()


def walked(cell, impl, backward, x, dy, weights):
    """Take a layer through time: the plan of the given direction, its walk to be repeated, and all answers."""
    module, n_states, option = MODULES[cell]
    form, share = IMPLS[impl]
    steps = len(x)
    first = [x.new_zeros(x.shape[1], weights[1].shape[1])] * n_states
    with {"steps": partial(by_steps, module), "columns": in_columns}.get(form, nullcontext)():
        forward = module.Forward(x, *first, weights, None, *option, True, share=share)
        forward.advance(0, steps)
        outputs = forward.results()
        if not backward:
            return forward.layout, partial(forward.advance, 0, steps), [outputs[0]]
        saved = (x, *first, *weights[:2], *outputs)
        back = module.Backward(dy, *[None] * n_states, *saved, None, *option, share=share)
        back.retreat(0, steps)
        dx = torch.empty_like(x)
        back.input_gradient(0, steps, dx)
        gradients = back.results((*[False] * n_states, *[True] * 4))[n_states:]
        return back.layout, partial(back.retreat, 0, steps), [outputs[0], dx, *gradients]


def checked(cell, impl, backward, shape, device):
    """A layer's plan and walk, and the error of its output or, going back, of dx, if all are within the rule."""
    values, x, dy, expected = oracle(cell, device, shape, True, ())
    limits = allowed(cell, device, shape, torch.float16, True, ())
    x, dy, *weights = (each.detach().half() for each in (x, dy, *values))
    layout, walk, found = walked(cell, impl, backward, x, dy, weights)
    found = assert_within(impl, found, expected[: len(found)], limits[: len(found)])
    return layout, walk, found[1 if backward else 0]


def compiled(cell, impl, backward, shape):
    b, t, h, _ = shape
    rows = N_GATES[cell] * h
    sizes = [(t, b, h), (t, b, h), (rows, h), (rows, h), (rows,), (rows,)]
    x, dy, *weights = (torch.zeros(size, device="cuda", dtype=torch.float16) for size in sizes)
    walked(cell, impl, backward, x, dy, weights)


@pytest.mark.cuda
@pytest.mark.parametrize(("cell", "size", "backward", "impl"), ROWS)
def test_walk(benchmark, peak, cell, size, backward, impl):
    b, h = size
    if benchmark.disabled:
        benchmark.pedantic(compiled, (cell, impl, backward, (b, TO_COMPILE, h, 1)))
        return
    layout, walk, error = checked(cell, impl, backward, (b, T, h, 1), "cuda")
    form, share = IMPLS[impl]
    if (layout.form == "steps") != (form == "steps"):
        pytest.skip("not measured: no persistent plan for this layer on this device")
    # A repeated walk starts from the activations that the last one has left in place of the input products.
    with mock.patch.object(MODULES[cell][0], "input_product"):
        replay = captured(walk)

    def replays():
        for _ in range(REPLAYS):
            replay()
        torch.cuda.synchronize()

    direction = "backward" if backward else "forward"
    benchmark.group = f"{cell} kernel {direction} B={b} T={T} H={h}"
    benchmark.pedantic(replays, rounds=7, warmup_rounds=1)
    seconds = benchmark.stats["median"] / (REPLAYS * T)
    benchmark.extra_info.update(
        impl=impl, device="cuda", dtype="float16", graph=True, B=b, T=T, H=h, share=share, direction=direction,
        replays=REPLAYS,
        microseconds_per_step=round(seconds * 1e6, 3),
        share_of_peak=round(2 * N_GATES[cell] * h * h * b / seconds / peak("cuda"), 4),
        error=round(error, 8),
    )  # fmt: skip
    if form != "steps":
        tiles = N_GATES[cell] if backward else 1
        benchmark.extra_info.update(
            plan=f"{layout.groups} x {layout.block_b} rows, {layout.columns} x {layout.block_h} units",
            launches=-(-b // layout.rows),
            bytes_read=layout.read(tiles) * torch.float16.itemsize,
        )
