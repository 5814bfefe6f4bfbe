"""The rows that bench_lstm.py, bench_gru.py and bench_rnn.py have in common: shapes, implementations, what is timed.

Every implementation of a row gets the same weights, input and dtype, and has to give the same answers before it is
timed. On a GPU a call ends with a synchronisation, and is timed as it is and as a CUDA graph.
"""

import pytest
import torch
from torch import nn

from gatescope.kernels.gru import GRU
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.rnn import RNN

CELLS = {"lstm": (LSTM, nn.LSTM, 4), "gru": (GRU, nn.GRU, 3), "rnn": (RNN, nn.RNN, 1)}
ON_CPU = [(128, 200, 128, 2), (128, 200, 512, 3)]
ON_GPU = [
    (128, 200, 512, 3),
    (128, 200, 512, 1),
    (128, 200, 128, 2),
    (32, 200, 512, 3),
    (1024, 200, 512, 1),
    (16, 1024, 768, 1),
    (128, 200, 1024, 2),
    (64, 200, 2048, 1),
]
CHUNK = 128  # rows up to which cuDNN takes its persistent path


def rows(impls_cpu, impls_gpu, dtypes=("float16", "bfloat16")):
    """Parameters device, shape, dtype, impl, graph of every row."""
    found = [
        pytest.param(
            "cpu", shape, "float32", impl, False, id=f"cpu-B{shape[0]}-T{shape[1]}-H{shape[2]}-L{shape[3]}-{impl}"
        )
        for shape in ON_CPU
        for impl in impls_cpu
    ]
    for shape in ON_GPU:
        for dtype in dtypes:
            for impl in impls_gpu:
                for graph in (False, True):
                    if impl == "torch-loop" and (dtype != "float16" or shape != ON_GPU[0]):
                        continue
                    name = "-".join([f"B{shape[0]}-T{shape[1]}-H{shape[2]}-L{shape[3]}", dtype, impl, "graph" * graph])
                    found.append(
                        pytest.param(
                            "cuda", shape, dtype, impl, graph, marks=pytest.mark.cuda, id=f"cuda-{name.rstrip('-')}"
                        )
                    )
    return found


class Stacked(nn.Module):
    """One-layer modules of torch.nn in a row, over chunks of the batch that cuDNN's persistent path takes."""

    def __init__(self, kind, hidden, layers, **options):
        super().__init__()
        self.layers = nn.ModuleList(kind(hidden, hidden, **options) for _ in range(layers))

    def forward(self, x):
        outputs = []
        for chunk in x.split(CHUNK, dim=1):
            for layer in self.layers:
                chunk, _ = layer(chunk)
            outputs.append(chunk)
        return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0], None


class Looped(nn.Module):
    """The loop over time that a user writes with torch.nn's cells."""

    def __init__(self, kind, hidden, layers, **options):
        super().__init__()
        cell = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[kind]
        self.layers = nn.ModuleList(cell(hidden, hidden, **options) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            state, outputs = None, []
            for step in x.unbind(0):
                state = layer(step, state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
            x = torch.stack(outputs)
        return x, None


def build(cell, impl, hidden, layers, options, **where):
    """A module of an implementation, its parameters in the order of torch.nn's stacked module."""
    ours, theirs, _ = CELLS[cell]
    if impl.startswith("gatescope"):
        return ours(hidden, hidden, layers, **options, **where)
    if impl in ("torch", "cudnn"):
        return theirs(hidden, hidden, layers, **where)
    return {"cudnn-stacked": Stacked, "torch-loop": Looped}[impl](theirs, hidden, layers, **where)


def captures(cell):
    return {"lstm": ("h", "c", "gates"), "gru": ("h", "gates"), "rnn": ("h",)}[cell]


def measure(benchmark, cell, device, shape, dtype, impl, graph, backward, options=None, peak=None):
    """Check a row's answers against our own float32 layer, then time it."""
    b, t, h, layers = shape
    options = options or {}
    dtype = getattr(torch, dtype)
    torch.manual_seed(0)
    where = {"device": device, "dtype": dtype}
    module = build(cell, impl, h, layers, options, **where)
    oracle = CELLS[cell][0](h, h, layers, device=device, backend="loop", **options)
    with torch.no_grad():
        for mine, theirs in zip(module.parameters(), oracle.parameters(), strict=True):
            mine.copy_(theirs)
    x = torch.randn(t, b, h, **where).requires_grad_(backward)
    dy = torch.randn(t, b, h, **where)
    extra = {"capture": captures(cell)} if impl.endswith("capture") else {}

    def call():
        if not backward:
            with torch.no_grad():
                return module(x, **extra)[0]
        for parameter in (x, *module.parameters()):
            parameter.grad = None
        y = module(x, **extra)[0]
        y.backward(dy)
        return y

    with torch.no_grad():
        expected = oracle(x.float())[0]
    error = (call().float() - expected).abs().max().item() / expected.square().mean().sqrt().item()
    limit = 200 * torch.finfo(dtype).eps
    assert error < limit, f"{impl}: error {error:.3g} of the output's rms, at most {limit:.3g}"
    timed = captured(call) if graph else call

    def synchronised():
        timed()
        if device == "cuda":
            torch.cuda.synchronize()

    rounds = 20 if device == "cuda" else 7 if h == 128 else 3
    benchmark.group = f"{cell} {'forward+backward' if backward else 'forward'} B={b} T={t} H={h} L={layers} {device}"
    benchmark.pedantic(synchronised, rounds=rounds, warmup_rounds=2 if device == "cuda" else 1)
    seconds = benchmark.stats["median"]
    flop = 2 * CELLS[cell][2] * h * 2 * h * b * t * layers * (3 if backward else 1)
    benchmark.extra_info.update(
        impl=impl, device=device, dtype=str(dtype).removeprefix("torch."), graph=graph, B=b, T=t, H=h, L=layers,
        microseconds_per_layer_step=round(seconds * 1e6 / (t * layers), 3),
        characters_per_second=round(b * t / seconds),
        error=round(error, 8),
    )  # fmt: skip
    if peak:
        benchmark.extra_info["share_of_peak"] = round(flop / seconds / peak, 4)


def captured(call):
    """A CUDA graph of a call, as a function that replays it."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
