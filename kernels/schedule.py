"""Whether stacked layers run one after another, each on the whole device, or side by side, each on a share of it.

Side by side, L layers of T steps take T + (L - 1) CHUNK steps instead of L T. But a program on a share of the device
reads the states of more rows, and without a CUDA graph the host has to keep up with L T / CHUNK launches. A step is
estimated to take

    FORWARD or BACKWARD + bytes / RATE        bytes that a program reads in it

The constants are a least-squares fit to the logarithms of 20 measured times on an H200 (LSTM and GRU of 3 x 512, 2 x
128 and 2 x 1024 units, B=128, float16; `nvidia-h200.json` in benchmarks/results). They are off by up to a quarter; in
all 10 pairs they choose the faster way, or one that took at most 1.1 times as long. They include the products before
and after the loop. Times that a benchmark has measured on a device are kept in `measured.json` beside this file
(written by `python benchmarks/choose.py`), are scaled to the number of steps, and take precedence over the estimate:
"wavefront" is side by side, "layers" one after another, and "steps" side by side with a product and a pointwise kernel
for each step of each layer, so that those of several layers run at once.
"""

from __future__ import annotations

import json
from functools import cache
from numbers import Integral
from pathlib import Path

import torch
import triton
from torch import Tensor

from gatescope.kernels.checks import N_GATES
from gatescope.kernels.gpu import H200, Device, current_device, device_of
from gatescope.kernels.plan import STEPS, Plan, plan
from gatescope.kernels.precision import recurrent_precision
from gatescope.kernels.recording import recording

CHUNK = 25  # steps that a layer is ahead of the next
FORWARD, BACKWARD = 2.0, 2.2  # microseconds of a step in which nothing is read
RATE = 19e3  # bytes that a program reads in a microsecond
# Microseconds that the host takes to launch a chunk of a layer without a graph: a product, a kernel, an event. A call
# of 24 chunks took the host of an H200 5.8 ms; by a profile, about a third of that made plans, which are now cached.
HOST = 150.0
# If a program reads more bytes than this in a step of all rows, a product and a pointwise kernel for each step are
# faster, provided that a CUDA graph launches them. Going back on an H200, an LSTM of 1024 units and 128 rows takes 15.2
# us a step, and 10.9 in this way; one of 512 units and 1024 rows 18.3 and 10.9. Launched one by one they take 45 to 70.
MOST_READ = 256 * 1024
HALVES = (torch.float16, torch.bfloat16)  # 16-bit dtypes, whose steps take the same time
MEASURED = Path(__file__).with_name("measured.json")


def cell_plan(
    cell: str,
    backward: bool,
    n_rows: int,
    hidden: int,
    dtype: torch.dtype,
    device: Device,
    recorded: bool = False,
) -> Plan:
    """The plan of one layer in one direction; recorded: a CUDA graph will launch it.

    Float32 weights stay on chip if tensor cores may multiply them, in TF32 (`gatescope.kernels.precision`); they take
    twice the room. Full float32 has no tensor cores, and Triton uses none on a GPU before compute capability 8: torch's
    products then run step by step, as they do if the weights do not fit.
    """
    in_tf32 = dtype == torch.float32 and recurrent_precision() == "tf32"
    if not device.tensor_cores or not (dtype in HALVES or in_tf32):
        return STEPS
    gates = N_GATES[cell]
    tiles = gates if backward else 1
    found = plan(n_rows, hidden, gates, dtype.itemsize, device, tiles)
    read = found.read(tiles) * dtype.itemsize
    return STEPS if recorded and found != STEPS and triton.cdiv(n_rows, found.rows) * read > MOST_READ else found


def microseconds(found: Plan, n_rows: int, tiles: int, itemsize: int, backward: bool, device: Device) -> float:
    """The estimated time of a step of all rows under a persistent plan, on a device or a layer's share of it."""
    read = found.read(tiles) * itemsize
    # There may be more programs than multiprocessors if none waits for another.
    turns = triton.cdiv(n_rows, found.rows) * triton.cdiv(found.groups * found.columns, device.multiprocessors)
    return turns * ((BACKWARD if backward else FORWARD) + read / RATE)


def side_by_side(
    cell: str,
    layers: int,
    backward: bool,
    sizes: tuple[int, int, int],
    dtype: torch.dtype,
    device: Device,
    recorded: bool = False,
) -> bool:
    """Whether layers run side by side: in a CUDA graph as measured on the device, else as estimated.

    Args:
        cell: "lstm", "gru" or "rnn".
        layers: L.
        backward: the direction.
        sizes: T, B, H.
        dtype: in which the layers compute.
        device: its limits and its name.
        recorded: a CUDA graph will launch them; the times that benchmarks have measured are those of such a graph.
    """
    n_steps, n_rows, hidden = sizes
    if layers < 2 or layers > device.multiprocessors or n_steps < 2 * CHUNK:
        return False
    known = _fastest(cell, layers, backward, sizes, dtype, device) if recorded else None
    if known is not None:
        return known != "layers"
    given = (cell, backward, n_rows, hidden, dtype)
    devices = device, device.shared_by(layers)
    whole, part = (cell_plan(*given, each, recorded) for each in devices)
    if STEPS in (whole, part):
        # Step by step, one layer's launches leave room on the device for the next layer's: measured in 16 bits only.
        return recorded and whole == part and dtype in HALVES
    tiles = N_GATES[cell] if backward else 1
    one, many = (
        microseconds(each, n_rows, tiles, dtype.itemsize, backward, place)
        for each, place in zip((whole, part), devices, strict=True)
    )
    apart, together = layers * n_steps * one, (n_steps + (layers - 1) * CHUNK) * many
    if not recorded:
        launches = layers * triton.cdiv(n_steps, CHUNK) * triton.cdiv(n_rows, part.rows)
        return max(together, launches * HOST) < apart
    return together < apart


def share_plan(
    cell: str,
    layers: int,
    backward: bool,
    sizes: tuple[int, int, int],
    dtype: torch.dtype,
    device: Device,
    recorded: bool = False,
) -> Plan:
    """The plan of each of `layers` layers that run at the same time; arguments as in `side_by_side`."""
    if layers > 1 and recorded and _fastest(cell, layers, backward, sizes, dtype, device) == "steps":
        return STEPS
    _, n_rows, hidden = sizes
    return cell_plan(cell, backward, n_rows, hidden, dtype, device.shared_by(layers), recorded)


def waves(cell: str, layers: int, x: Tensor, hidden: int, backward: bool) -> bool:
    """Whether layers over x [T, B, I], in its dtype and on its device, run side by side."""
    sizes, dtype = (len(x), x.shape[1], hidden), x.dtype
    return side_by_side(cell, layers, backward, sizes, dtype, device_of(x), recording(x))


def describe(
    cell: str,
    n_rows: int,
    hidden: int,
    dtype: torch.dtype,
    device: Device | None = None,
    layers: int = 1,
    n_steps: int = 200,
    recorded: bool = False,
) -> str:
    """Say how layers would run on a GPU, forward and backward.

    >>> print(describe("lstm", 128, 512, torch.bfloat16, H200))
    forward: persistent, 8 groups of 16 rows x 16 columns of 32 units, 1 launch for 128 rows
    backward: persistent, 8 groups of 16 rows x 16 columns of 32 units, 1 launch for 128 rows
    >>> print(describe("lstm", 128, 512, torch.bfloat16, H200, layers=3, recorded=True).splitlines()[0])
    forward: persistent, 2 groups of 64 rows x 16 columns of 32 units, 1 launch for 128 rows; 3 layers side by side
    >>> print(describe("lstm", 128, 1024, torch.bfloat16, H200, recorded=True).splitlines()[1])
    backward: a product and a pointwise kernel for each step

    Args:
        cell: "lstm", "gru" or "rnn".
        n_rows, hidden: B, H.
        dtype: in which the layers compute; float32 in the precision that `torch.backends.cudnn.allow_tf32` sets now.
        device: the GPU's limits; by default those of the current GPU, or of an H200 if there is none.
        layers, n_steps: L, T of a stack in one direction, with the input of all steps available.
        recorded: a CUDA graph will launch them.

    Returns:
        A line for each direction.

    Raises:
        ValueError: for an unknown cell, a size below 1, or a dtype or device of the wrong type.
    """
    if cell not in N_GATES:
        raise ValueError(f"describe: cell: expected one of {', '.join(N_GATES)}, got {cell!r}")
    for name, size in (("n_rows", n_rows), ("hidden", hidden), ("layers", layers), ("n_steps", n_steps)):
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"describe: {name}: expected a whole number of at least 1, got {size!r}")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"describe: dtype: expected a floating-point dtype, such as torch.bfloat16, got {dtype!r}")
    if not isinstance(device, Device | None):
        raise ValueError(f"describe: device: expected a Device, such as gatescope.kernels.gpu.H200, got {device!r}")
    if device is None:
        device = current_device() if torch.cuda.is_available() else H200
    lines = []
    for direction, backward in (("forward", False), ("backward", True)):
        rest = backward, (n_steps, n_rows, hidden), dtype, device, recorded
        together = side_by_side(cell, layers, *rest)
        found = share_plan(cell, layers if together else 1, *rest)
        text = "a product and a pointwise kernel for each step"
        if found.form == "persistent":
            launches = triton.cdiv(n_rows, found.rows)
            text = (
                f"persistent, {found.groups} groups of {found.block_b} rows x {found.columns} columns of "
                f"{found.block_h} units, {launches} launch{'es' * (launches > 1)} for {n_rows} rows"
            )
        if layers > 1:
            text += f"; {layers} layers {'side by side' if together else 'one after another'}"
        lines.append(f"{direction}: {text}")
    return "\n".join(lines)


def row_name(cell: str, layers: int, backward: bool, n_rows: int, hidden: int, dtype: torch.dtype) -> str:
    """The name of a row of `measured.json`."""
    direction = "backward" if backward else "forward"
    return f"{cell} {direction} B={n_rows} H={hidden} L={layers} {str(dtype).removeprefix('torch.')}"


def _fastest(
    cell: str,
    layers: int,
    backward: bool,
    sizes: tuple[int, int, int],
    dtype: torch.dtype,
    device: Device,
) -> str | None:
    """The schedule that is the fastest in a graph on a device by the times measured there, if there are any.

    Side by side, the last layer ends (L - 1) CHUNK steps after the first.
    """
    n_steps, n_rows, hidden = sizes
    rows, row = _measured().get(device.name, {}), (cell, layers, backward, n_rows, hidden)
    twin = torch.float16 if dtype in HALVES else dtype
    times = rows.get(row_name(*row, dtype)) or rows.get(row_name(*row, twin))
    if times is None:
        return None

    def taken(schedule: str) -> float:
        more = 0 if schedule == "layers" else (layers - 1) * CHUNK
        return times[schedule] * (n_steps + more) / (times["T"] + more)

    return min((name for name in times if name != "T"), key=taken)


@cache
def _measured() -> dict[str, dict[str, dict[str, float]]]:
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
