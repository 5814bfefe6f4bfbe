"""The arguments of a kernel's launch, recorded where it is called, and what its programs wait for."""

import importlib
import inspect

import barrier_model
import pytest
import torch

pytest.importorskip("triton")

import delayed_wait

from gatescope.kernels import fused, grid
from gatescope.kernels.grid import COUNTER_STRIDE
from gatescope.kernels.plan import Plan

COLUMNS, GROUPS, T, B, I, H = 3, 2, 5, 40, 4, 40
SPLIT = Plan("persistent", 16, 16, 64, 1, GROUPS, COLUMNS, 1)  # 40 rows take two launches of two groups of 16
ONE = Plan("persistent", 16, 64, 64, 1, GROUPS, 1)
LAYOUTS = pytest.mark.parametrize("layout", [SPLIT, ONE], ids=["columns", "one-column"])


def walks(cell, layout, monkeypatch):
    """A layer's forward and backward passes, with its kernels in a given layout."""
    module = importlib.import_module(f"gatescope.kernels.{cell.name}_fused")
    monkeypatch.setattr(module, "layer_plan", lambda *args, **options: layout)
    option = {"lstm": (), "gru": (cell.options.get("reset_after", True),)}.get(cell.name)
    option = (cell.options.get("nonlinearity", "tanh"),) if option is None else option
    x, *rest = (tensor.detach() for tensor in cell.layer(B, T, I, H, dtype=torch.float32))
    states, weights = rest[: len(cell.states)], rest[len(cell.states) :]
    forward = module.Forward(x, *states, weights, None, *option, *[True] * cell.gated)
    y, *saved = forward.results()
    gradients = [torch.zeros_like(y), *[None] * len(saved)]
    return forward, module.Backward(*gradients, x, *states, *weights[:2], y, *saved, None, *option)


class Recorder:
    """Stands in for the compilation and launch of a kernel, and increments the counter as the kernel would."""

    def __init__(self, kernel):
        self.arg_names, self.calls = list(inspect.signature(kernel.fn).parameters), []

    def warmup(self, *, grid, **options):
        def launch(*values):
            given = options | dict(zip(self.arg_names, values, strict=True))
            counter = given["counter_ptr"]
            self.calls.append((grid, counter is None or not counter.any(), given))
            if counter is not None:
                counter += 1

        return {(*grid, 1): launch}


@LAYOUTS
def test_every_launch_is_cooperative_with_a_fresh_counter(cell, layout, monkeypatch):
    module = importlib.import_module(f"gatescope.kernels.{cell.name}_launch")
    recorders = []
    for name in ("forward_kernel", "backward_kernel"):
        recorders.append(Recorder(getattr(module, name)))
        monkeypatch.setattr(module, name, recorders[-1])
    for each in (fused, grid):
        monkeypatch.setattr(each, "interpreting", lambda: False)
    forward, backward = walks(cell, layout, monkeypatch)
    for start, stop in ((0, 2), (2, T)):
        forward.advance(start, stop)
        backward.retreat(start, stop)
    calls = [call for recorder in recorders for call in recorder.calls]
    assert len(calls) == 8
    for where, zero, given in calls:
        assert where == (GROUPS, layout.columns)
        assert given["launch_cooperative_grid"] == (layout.columns > 1)
        if layout.columns == 1:
            assert given["counter_ptr"] is None
            continue
        assert zero and given["counter_ptr"].dtype == torch.int32
        assert given["counter_ptr"].numel() == GROUPS * COUNTER_STRIDE.value
    assert layout.columns == 1 or len({given["counter_ptr"].data_ptr() for *_, given in calls}) == 8
    covered = sorted((given["t0"], given["t1"], given["row0"]) for *_, given in calls)
    assert covered == sorted(2 * [(0, 2, 0), (0, 2, 32), (2, T, 0), (2, T, 32)])


def number(value):
    """A scalar of the interpreter."""
    return int(value.handle.data.item()) if hasattr(value, "handle") else int(value)


@LAYOUTS
def test_programs_wait_for_the_arrivals_of_the_barrier_model(cell, layout, monkeypatch):
    """Every wait is for all columns to have arrived as often as the waiting program, which the model proves safe."""
    kernels, seen = importlib.import_module(f"gatescope.kernels.{cell.name}_kernels"), []
    monkeypatch.setattr(kernels, "wait", lambda counter, arrivals: seen.append(number(arrivals)))
    monkeypatch.setattr(kernels, "arrive", lambda counter: seen.append("arrive"))
    for walk in walks(cell, layout, monkeypatch):
        seen.clear()
        counters = torch.zeros(GROUPS * COUNTER_STRIDE.value, dtype=torch.int32)
        # Not from the first step on, as in a chunk of a wavefront; all steps of a program in one launch.
        walk._launch(counter_ptr=counters, t0=1, t1=T, row0=0)
        if layout == ONE:
            assert not seen
            continue
        programs = GROUPS * COLUMNS
        assert len(seen) % programs == 0 and len(seen) > 0
        own = seen[: len(seen) // programs]
        assert seen == own * programs
        arrived = waits = 0
        for event in own:
            if event == "arrive":
                arrived += 1
            else:
                assert event == barrier_model.arrivals_before(arrived, COLUMNS)
                waits += 1
        exchanges = 2 if cell.options.get("reset_after") is False else 1
        # If a step exchanges data only at its end, there is no arrival after the last step.
        assert arrived == waits == exchanges * (T - 1) - 1


def test_injected_delays_are_part_of_the_launched_kernels(cell, monkeypatch):
    kernels, seen = importlib.import_module(f"gatescope.kernels.{cell.name}_kernels"), []
    monkeypatch.setattr(delayed_wait, "delayed_wait", lambda counter, arrivals: seen.append(number(arrivals)))
    delayed_wait.delay(monkeypatch, cell.name)
    for walk, usual in zip(walks(cell, SPLIT, monkeypatch), ("forward_kernel", "backward_kernel"), strict=True):
        # A compiled kernel would still be the usual one.
        assert walk._launch.kernel is not getattr(kernels, usual)
        counters = torch.zeros(GROUPS * COUNTER_STRIDE.value, dtype=torch.int32)
        walk._launch(counter_ptr=counters, t0=1, t1=T, row0=0)
        assert seen
        seen.clear()
