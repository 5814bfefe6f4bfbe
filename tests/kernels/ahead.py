"""Compiles kernels for GPUs that are not present, and reports what the compiler made of them.

It is a separate program, since functions that Triton interprets cannot be compiled: `python ahead.py JOBS`, where JOBS
is a JSON list of [cell, direction, B, H, dtype, architecture, layers that share the device, use]. A direction may also
be "forward step" or "backward step", or "sample 2", "cut 2", "read 2", "states 2", "exact 2" for a model of 2 layers
and 96 characters; the cell may also be "dropout". A use is a key of USES, "everything" by default. Tile, grid and
signature are those of the launcher's own function, on tensors without memory. The answers are printed as a JSON object.
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gatescope.kernels import (
    dropout_kernel,
    fused,
    gpu,
    gru_launch,
    lstm_launch,
    plan,
    rnn_launch,
    sample,
    sample_fused,
    sample_plan,
    schedule,
)
from gatescope.kernels.checks import N_GATES

KIB = 1024
DEVICES = {
    75: gpu.Device(40, 64 * KIB, tensor_cores=False),  # T4
    80: gpu.A100,
    86: gpu.Device(82, 99 * KIB),  # RTX 3090
    89: gpu.Device(128, 99 * KIB),  # RTX 4090
    90: gpu.H200,
    100: gpu.Device(148, 227 * KIB),  # B200
    120: gpu.Device(170, 99 * KIB),  # RTX 5090
}
NONLINEARITIES = {"rnn": "tanh", "rnn-relu": "relu"}
POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.bool: "*i1",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
ALIGNED = [["tt.divisibility", 16]]
T = 4


@dataclass(frozen=True)
class Use:
    """What is asked of a layer's launch, which decides which of its arguments are given."""

    reset: bool = False
    save: bool = True  # gates, forward
    captured: bool = False  # gradients of cells and gates, going back
    read: bool = True  # the caller gives a gradient of the states
    above: bool = False  # a layer reads the states
    dropped: bool = False  # after dropout


USES = {
    "everything": Use(reset=True, captured=True, above=True, dropped=True),
    "inference": Use(save=False),
    "top": Use(),
    "lower": Use(read=False, above=True),
    "lower, dropped": Use(read=False, above=True, dropped=True),
}


def launch_of(cell, direction, b, h, dtype, device, use=USES["everything"]):
    """The launch of a cell's persistent kernel (None if the plan has none), or of the pointwise kernel of a step."""

    def empty(*shape, dtype=dtype):
        return torch.empty(shape, dtype=dtype, device="meta")

    if direction.split()[0] in ("sample", "cut", "read", "states", "exact"):
        return sample_launch_of(cell, *direction.split(), b, h, dtype, device)
    if direction.endswith("step") or cell == "dropout":
        return step_launch_of(cell, direction, empty, b, h)
    kind, forward = cell.partition("-")[0], direction == "forward"
    n_gates = N_GATES[kind]
    layout = schedule.cell_plan(kind, not forward, b, h, dtype, device)
    if layout == plan.STEPS:
        return None
    a, da, w = empty(T, b, 4, h), empty(T, b, 4, h), empty(n_gates * h, h)
    y, states, wide = empty(T, b, h), empty(T + 1, b, h), empty(T, b, h, dtype=torch.float32)
    reset = empty(T, b, dtype=torch.bool) if use.reset else None
    dy, dcells, dsaved = y if use.read else None, wide if use.captured else None, a if use.captured else None
    seed = empty(1, dtype=torch.int64) if use.dropped else None
    # Forward fills the input of the layer above only if it drops some of it.
    reads = use.dropped if forward else use.above
    above = fused.Above(empty(T, b, h), seed, 0.3 if use.dropped else 0.0, 0) if reads else None
    if kind == "rnn" and forward:
        launch = rnn_launch.forward_launch(layout, w, reset, states, NONLINEARITIES[cell], above)
    elif kind == "rnn":
        launch = rnn_launch.backward_launch(layout, w, y, reset, dy, empty(T, b, h), NONLINEARITIES[cell], above)
    elif kind == "lstm" and forward:
        launch = lstm_launch.forward_launch(layout, a, w, empty(b, h), reset, states, wide, use.save, above)
    elif kind == "lstm":
        saved = (layout, a, w, empty(b, h), wide, reset)
        launch = lstm_launch.backward_launch(*saved, dy, dcells, dsaved, da, wide[0], above)
    elif forward:
        launch = gru_launch.forward_launch(layout, a, w, empty(h), reset, states, cell == "gru", use.save, above)
    else:
        launch = gru_launch.backward_launch(layout, a, w, states, reset, dy, dsaved, da, wide[0], cell == "gru", above)
    if layout.columns > 1:
        launch.arguments["counter_ptr"] = torch.empty(32 * layout.groups, dtype=torch.int32, device="meta")
    return launch


def step_launch_of(cell, direction, empty, b, h):
    """The launch of a pointwise kernel: one step of a cell without its products, or dropout."""
    a, y, wide = empty(T, b, 4, h), empty(T, b, h), empty(T, b, h, dtype=torch.float32)
    first, states, reset = empty(b, h), empty(T + 1, b, h), empty(T, b, dtype=torch.bool)
    if cell == "dropout":
        seed = empty(1, dtype=torch.int64)
        return dropout_kernel.drop_launch(empty(T, b, h), seed, empty(T, b, h), 0.3, 1, 0, 0)
    if cell == "lstm" and direction == "forward step":
        return lstm_launch.forward_step(a, first, reset, states, wide)
    if cell == "lstm":
        launch = lstm_launch.backward_step(a, first, wide, reset, first, wide, a, a, wide[0])
    else:
        phase = gru_launch.step_phases(cell == "gru")[-1]
        if direction == "forward step":
            return gru_launch.forward_step(a, reset, states, cell == "gru", phase)
        launch = gru_launch.backward_step(a, states, reset, first, first, a, a, wide[0], cell == "gru", phase)
    launch.arguments["dy_ptr"] = y
    return launch


def sample_launch_of(cell, kind, layers, b, h, dtype, device):
    """The launch of the sampler, which keeps everything, or only h and c, in float16, or everything in float32."""
    layers, n_characters = int(layers), 96
    name = cell.partition("-")[0]
    n_gates = N_GATES[name]
    places = {"lstm": range(6), "gru": (0, 2, 3, 4), "gru-before": (0, 2, 3, 4), "rnn": (0,)}[cell]
    if kind == "states":
        places = places[:2]

    def empty(*shape, dtype=dtype):
        return torch.empty(shape, dtype=dtype, device="meta")

    weights = [
        (empty(n_gates * h, h if layer else n_characters), empty(n_gates * h, h), *[empty(n_gates * h)] * 2)
        for layer in range(layers)
    ]
    model = sample_plan.ModelShape(name, h, layers, n_characters, dtype.itemsize, cell != "gru-before")
    layout = sample_plan.fitted(sample_plan.plan(model, device), model, b, device, len(places))
    if layout == sample_plan.STEPS:
        return None
    output = (empty(n_characters, h), empty(n_characters))
    sampler = sample_fused.FusedRecurrence(name, weights, None, output, b, cell != "gru-before", layout=layout)
    kept = torch.float32 if kind == "exact" else torch.float16
    states = [empty(b, T, h, dtype=kept) if place % 6 in places else None for place in range(6 * layers)]
    scores = [] if kind == "states" else [empty(b, T, 1, dtype=kept) for _ in range(2)]
    captured = sample_fused.Captured(tuple(states), *scores)
    draw = sample.Draw(0, 0, 0.8, *((40, 0.9) if kind == "cut" else ()))
    int32 = {"dtype": torch.int32}
    launch = sampler.launch(empty(b, T, **int32), empty(b, **int32), captured, None if kind == "read" else draw)
    if "counter_ptr" in launch.arguments:
        launch.arguments["counter_ptr"] = torch.empty(32, dtype=torch.int32, device="meta")
    return launch


def compiled(launch, architecture):
    """Compile a launch for an architecture; tensors are aligned as torch allocates them."""
    given, signature, constants, attributes = launch.arguments | launch.constants, {}, {}, {}
    for place, name in enumerate(launch.kernel.arg_names):
        value = given[name]
        if isinstance(value, tuple):
            signature[name] = tuple("constexpr" if each is None else POINTERS[each.dtype] for each in value)
            constants |= {(place, k): None for k, each in enumerate(value) if each is None}
            attributes |= {(place, k): ALIGNED for k, each in enumerate(value) if each is not None}
        elif isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
            attributes[(place,)] = ALIGNED
        elif name in launch.arguments and isinstance(value, float):
            signature[name] = "fp32"
        elif name in launch.arguments and value is not None:
            # The kernel is not specialised on its value.
            assert launch.kernel.params[place].do_not_specialize, name
            signature[name] = "i32"
        else:
            signature[name], constants[name] = "constexpr", value
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=launch.options)


def report(kernel):
    """Registers and spilled bytes of a thread, shared memory of a program, and the instructions of the assembly."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        told, code = (
            subprocess.run([tool, asked, file.name], capture_output=True, text=True, check=True).stdout
            for asked in ("--dump-resource-usage", "--dump-sass")
        )
    ptx, walk = kernel.asm["ptx"], longest_loop(code)
    words = "ld.acquire|ld.global[.a-z0-9]*|st.global[.a-z0-9]*|bar.sync|atom[.a-z0-9]*|mma.sync|wgmma.mma_async"
    return {
        "registers": int(re.search(r"REG:(\d+)", told)[1]),
        "stack": int(re.search(r"STACK:(\d+)", told)[1]) + int(re.search(r"LOCAL:(\d+)", told)[1]),
        "shared": kernel.metadata.shared,
        "order": re.findall(words, ptx),
        "products": sorted(set(re.findall(r"(?:wgmma\.mma_async|mma\.sync)\S+", ptx))),
        "rounded": ptx.count("cvt.rna.tf32.f32"),
        # Instructions of a warp in a step: all of them, and some kinds.
        "instructions": len(walk),
        "waits": sum("WARPGROUP.ARRIVE" in each for each in walk),
        "group_products": sum("HGMMA" in each for each in walk),
        "matrices": sum("LDSM" in each for each in walk),
        "asynchronous": re.findall(r"cp\.async\.c[ag]\.\S+ [^,]*, [^,]*, (\w+)", ptx),
    }


def longest_loop(code):
    """The longest run of instructions from a label to the last jump back to it: the walk through time."""
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(\S[^;]*);", code)
    place = {int(address, 16): k for k, (address, _) in enumerate(found)}
    spans = [()]
    for k, (_, instruction) in enumerate(found):
        jump = re.search(r"\bBRA\b.*0x([0-9a-f]+)", instruction)
        if jump:
            spans.append(range(place.get(int(jump[1], 16), k + 1), k + 1))
    return [found[k][1] for k in max(spans, key=len)]


def main():
    answers = {}
    for job in json.loads(sys.argv[1]):
        cell, direction, b, h, dtype, architecture, layers, *use = job
        device = DEVICES[architecture].shared_by(layers)
        launch = launch_of(cell, direction, b, h, getattr(torch, dtype), device, *map(USES.get, use))
        answers[json.dumps(job)] = launch and report(compiled(launch, architecture)) | {
            "columns": launch.grid[1] if "COLUMNS" in launch.constants else None,
            "units": launch.constants.get("BLOCK_H"),
            "rows": launch.constants.get("BLOCK_B"),
            "resident": launch.constants.get("RESIDENT", 0),
            "limit": DEVICES[architecture].shared,
        }
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
