"""schedule.py: when layers run side by side."""

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from gatescope.kernels import schedule
from gatescope.kernels.gpu import A100, H200, Device, current_device
from gatescope.kernels.plan import STEPS
from gatescope.kernels.schedule import cell_plan, describe, microseconds, row_name, share_plan, side_by_side, waves

MAIN = (200, 128, 512)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_three_layers_of_512_on_an_h200(cell):
    """Going back, a third of the device reads four or three times as many gradients a step as the whole device."""
    for dtype in (torch.float16, torch.bfloat16):
        assert side_by_side(cell, 3, False, MAIN, dtype, H200, recorded=True)
        assert side_by_side(cell, 3, True, MAIN, dtype, H200, recorded=True) == (cell == "rnn")
    for backward in (False, True):
        found = cell_plan(cell, backward, 128, 512, torch.bfloat16, H200.shared_by(3))
        assert found.rows >= 128 and found.groups * found.columns <= 44


def test_recorded_step_by_step_layers_run_side_by_side():
    shape = (200, 128, 1024)
    for cell in ("lstm", "gru"):
        assert cell_plan(cell, True, 128, 1024, torch.float16, H200, recorded=True) == STEPS
        assert cell_plan(cell, True, 128, 1024, torch.float16, H200) != STEPS
        assert side_by_side(cell, 2, True, shape, torch.float16, H200, recorded=True)
        # The graph was measured: kernels launched one by one are another program.
        assert not side_by_side(cell, 2, True, shape, torch.float16, replace(H200, name="NVIDIA H200"))
    assert not side_by_side("lstm", 2, True, shape, torch.float32, H200, recorded=True)
    # One layer of 1024 rows of 512 units reads as much in two launches as 128 rows of 1024 units in one.
    assert cell_plan("lstm", True, 1024, 512, torch.float16, H200, recorded=True) == STEPS
    assert cell_plan("lstm", True, 128, 512, torch.float16, H200, recorded=True) != STEPS


def test_unsuitable_stacks_do_not_run_side_by_side():
    for recorded in (False, True):
        assert not side_by_side("lstm", 1, False, MAIN, torch.bfloat16, H200, recorded=recorded)
        assert not side_by_side("lstm", 3, False, (40, 128, 512), torch.bfloat16, H200, recorded=recorded)
        assert not side_by_side("lstm", 3, False, MAIN, torch.float32, H200, recorded=recorded)
    assert not side_by_side("lstm", 2, False, (200, 64, 2048), torch.bfloat16, H200)
    # If a share takes twice the launches of the whole device, two layers at once gain nothing.
    assert cell_plan("lstm", False, 128, 1024, torch.bfloat16, H200.shared_by(2)).rows == 64
    assert not side_by_side("lstm", 2, False, (200, 128, 1024), torch.bfloat16, H200)
    assert not side_by_side("lstm", 200, False, MAIN, torch.bfloat16, Device(132, 227 * 1024, True))


def test_without_a_graph_host_launch_time_limits_running_side_by_side():
    """Three layers of 512 units take 1.7 ms on an H200, and the launches of their 24 chunks twice as long."""
    assert not side_by_side("lstm", 3, False, MAIN, torch.float16, H200)
    assert not side_by_side("lstm", 3, False, MAIN, torch.float16, replace(H200, name="NVIDIA H200"))
    assert side_by_side("lstm", 2, True, (200, 256, 512), torch.float16, H200)


def test_a_measurement_overrides_the_estimate(tmp_path, monkeypatch):
    row = row_name("lstm", 3, False, 128, 512, torch.bfloat16)
    path = tmp_path / "measured.json"
    slower, faster = {"T": 200, "wavefront": 2, "layers": 1}, {"T": 200, "wavefront": 1, "layers": 2}
    path.write_text(json.dumps({"a GPU": {row: slower}, "another": {row: faster}}))
    monkeypatch.setattr(schedule, "MEASURED", path)
    schedule._measured.cache_clear()
    try:
        for dtype, name, beside in (
            (torch.bfloat16, "a GPU", False),
            (torch.bfloat16, "another", True),
            (torch.bfloat16, "a third", True),
            (torch.float16, "a GPU", True),
        ):
            assert side_by_side("lstm", 3, False, MAIN, dtype, replace(H200, name=name), recorded=True) == beside
    finally:
        schedule._measured.cache_clear()


def test_times_are_proportional_to_the_number_of_steps():
    """Side by side, two layers behind the first have 25 steps more each: 1,729 us of 250 stages, 1,852 of 200 steps."""
    known = replace(H200, name="NVIDIA H200")
    for n_steps in range(50, 400, 10):
        expected = 1729 * (n_steps + 50) / 250 < 1852 * n_steps / 200
        found = side_by_side("lstm", 3, False, (n_steps, 128, 512), torch.float16, known, recorded=True)
        assert found == expected, n_steps


def test_layers_run_step_by_step_side_by_side_if_measured_fastest(tmp_path, monkeypatch):
    path = tmp_path / "measured.json"
    times = {"T": 200, "wavefront": 3, "layers": 2, "steps": 1}
    path.write_text(json.dumps({"a GPU": {row_name("gru", 2, False, 128, 1024, torch.float16): times}}))
    monkeypatch.setattr(schedule, "MEASURED", path)
    schedule._measured.cache_clear()
    try:
        known, unknown = replace(H200, name="a GPU"), replace(H200, name="another")
        given = (False, (200, 128, 1024), torch.bfloat16)
        assert share_plan("gru", 2, *given, known, recorded=True) == STEPS
        assert side_by_side("gru", 2, *given, known, recorded=True)
        # Not without a graph, nor on another device, nor for a layer alone.
        for other, recorded in ((known, False), (unknown, True)):
            assert share_plan("gru", 2, *given, other, recorded) != STEPS
            assert not side_by_side("gru", 2, *given, other, recorded)
        assert share_plan("gru", 1, *given, known, recorded=True) != STEPS
    finally:
        schedule._measured.cache_clear()


def test_benchmark_rows_become_measurements():
    """The time going back is both passes less the first."""
    from choose import measured

    def row(passes, how, seconds):
        return {"group": f"lstm {passes} B=128", "L": 3, "T": 200, "B": 128, "H": 512, "dtype": "bfloat16"} | {
            "schedule": how,
            "median_s": seconds,
        }

    rows = [row("forward", "wavefront", 1.0), row("forward", "layers", 2.0), row("forward+backward", "wavefront", 6.0)]
    both = measured([*rows, row("forward+backward", "layers", 5.0), {"group": "lstm forward", "median_s": 1.0}])
    assert both == {
        row_name("lstm", 3, False, 128, 512, torch.bfloat16): {"T": 200, "wavefront": 1e6, "layers": 2e6},
        row_name("lstm", 3, True, 128, 512, torch.bfloat16): {"T": 200, "wavefront": 5e6, "layers": 3e6},
    }
    assert len(measured(rows)) == 1
    more = measured([*rows, row("forward", "layers", 2.0), row("forward", "steps", 0.5)])
    assert more[row_name("lstm", 3, False, 128, 512, torch.bfloat16)]["steps"] == 5e5


def test_the_installed_table_equals_the_measurements():
    from choose import RESULTS, measured

    files = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    found = {results.get("name", results["device"]): measured(results["rows"]) for results in files}
    assert json.loads(schedule.MEASURED.read_text()) == {name: rows for name, rows in found.items() if rows}


def test_the_estimate_costs_at_most_a_tenth_on_its_own_device():
    from choose import RESULTS, spent

    pairs = 0
    for (cell, layers, n_steps, n_rows, hidden, dtype), backward, seconds in spent(
        json.loads((RESULTS / "nvidia-h200.json").read_text())["rows"]
    ):
        given = (cell, layers, backward, (n_steps, n_rows, hidden), getattr(torch, dtype), H200)
        chosen = "wavefront" if side_by_side(*given, recorded=True) else "layers"
        assert seconds[chosen] <= 1.1 * min(seconds["wavefront"], seconds["layers"]), (cell, backward, hidden)
        pairs += 1
    assert pairs == 12


def test_the_dtype_of_the_input_decides(monkeypatch):
    monkeypatch.setattr(schedule, "recording", lambda x: True)
    assert not waves("lstm", 3, torch.empty(200, 128, 64), 512, False)
    assert waves("lstm", 3, torch.empty(200, 128, 64, dtype=torch.bfloat16), 512, False)


def test_step_time_grows_with_rows_and_launches():
    third = H200.shared_by(3)
    full, share = (cell_plan("lstm", True, 128, 512, torch.bfloat16, d) for d in (H200, third))
    assert microseconds(full, 128, 4, 2, True, H200) < microseconds(share, 128, 4, 2, True, third)
    assert microseconds(full, 256, 4, 2, True, H200) == 2 * microseconds(full, 128, 4, 2, True, H200)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("backward", [False, True])
def test_narrow_layers_with_too_many_programs_take_turns(cell, backward):
    """Up to 528 rows of 128 units, two layers have a multiprocessor for every program; above that, one would wait."""
    for n_rows, beside in ((128, True), (528, True), (536, False), (1056, False), (1064, True)):
        shape = (200, n_rows, 128)
        assert side_by_side(cell, 2, backward, shape, torch.bfloat16, H200, recorded=True) == beside, n_rows
    half = H200.shared_by(2)
    narrow = cell_plan(cell, backward, 1056, 128, torch.float16, half)
    assert narrow.groups == 132 and narrow.columns == 1
    alone, shared = (microseconds(narrow, 1056, 4, 2, backward, place) for place in (H200, half))
    assert shared == 2 * alone


@pytest.mark.parametrize("device", [A100, H200], ids=["a100", "h200"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_float32_runs_on_chip_only_if_tf32_is_allowed(cell, device, backward, monkeypatch):
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        found = cell_plan(cell, backward, 128, 256, torch.float32, device)
        assert (found != STEPS) == allowed
        assert cell_plan(cell, backward, 128, 256, torch.float16, device) != STEPS
    assert cell_plan(cell, backward, 128, 256, torch.float64, device) == STEPS


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_gpus_before_compute_capability_8_run_step_by_step(cell, dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert cell_plan(cell, False, 128, 128, dtype, A100) != STEPS
    assert cell_plan(cell, False, 128, 128, dtype, replace(A100, tensor_cores=False)) == STEPS


def test_float32_has_its_own_measured_times(tmp_path, monkeypatch):
    """Side by side it reads twice the bytes of 16 bits, and a measurement in 16 bits does not apply to it."""
    assert side_by_side("lstm", 3, False, MAIN, torch.float16, H200, recorded=True)
    assert not side_by_side("lstm", 3, False, MAIN, torch.float32, H200, recorded=True)
    path = tmp_path / "measured.json"
    row = row_name("lstm", 3, False, 128, 512, torch.float16)
    path.write_text(json.dumps({"a GPU": {row: {"T": 200, "wavefront": 1, "layers": 2}}}))
    monkeypatch.setattr(schedule, "MEASURED", path)
    schedule._measured.cache_clear()
    try:
        known = replace(H200, name="a GPU")
        assert side_by_side("lstm", 3, False, MAIN, torch.bfloat16, known, recorded=True)
        assert not side_by_side("lstm", 3, False, MAIN, torch.float32, known, recorded=True)
    finally:
        schedule._measured.cache_clear()


def test_describe_names_the_plan_of_each_direction(monkeypatch):
    told = describe("lstm", 128, 512, torch.bfloat16, H200).splitlines()
    assert told[0] == "forward: persistent, 8 groups of 16 rows x 16 columns of 32 units, 1 launch for 128 rows"
    assert told[1].startswith("backward: persistent")
    assert describe("lstm", 1024, 512, torch.float16, H200).splitlines()[0].endswith("2 launches for 1024 rows")
    assert describe("gru", 64, 2048, torch.bfloat16, H200).count("a product and a pointwise kernel for each step") == 2
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        told = describe("gru", 8, 16, torch.float32, H200)
        assert told.count("a product and a pointwise kernel for each step") == (0 if allowed else 2)


def test_describe_names_the_schedule_of_a_stack():
    forward, backward = describe("lstm", 128, 512, torch.bfloat16, H200, layers=3, recorded=True).splitlines()
    assert "2 groups of 64 rows" in forward and forward.endswith("; 3 layers side by side")
    assert "8 groups of 16 rows" in backward and backward.endswith("; 3 layers one after another")
    for recorded in (False, True):
        forward, backward = describe("lstm", 128, 1024, torch.bfloat16, H200, 2, recorded=recorded).splitlines()
        assert "2 groups of 64 rows" in forward and forward.endswith("; 2 layers one after another")
        assert ("for each step; 2 layers side by side" if recorded else "2 groups of 64 rows") in backward
    assert "; 3" not in describe("lstm", 128, 512, torch.bfloat16, H200)


@pytest.mark.cuda
def test_describe_defaults_to_the_current_gpu():
    here = torch.cuda.get_device_properties(0).multi_processor_count
    assert current_device().multiprocessors == here
    assert describe("lstm", 128, 512, torch.bfloat16) == describe("lstm", 128, 512, torch.bfloat16, current_device())


@pytest.mark.parametrize(
    ("name", "given"),
    [("n_rows", 0), ("hidden", 512.0), ("layers", 0), ("n_steps", -1), ("dtype", "float16"), ("device", "cuda")],
)
def test_bad_arguments_of_describe_are_named(name, given):
    wanted = {"n_rows": 128, "hidden": 512, "dtype": torch.float16, "device": H200}
    with pytest.raises(ValueError, match=f"describe: {name}: expected .*, got {given!r}"):
        describe("lstm", **(wanted | {name: given}))


def test_an_unknown_cell_is_named():
    with pytest.raises(ValueError, match="describe: cell: expected one of lstm, gru, rnn, got 'LSTM'"):
        describe("LSTM", 128, 512, torch.float16, H200)
