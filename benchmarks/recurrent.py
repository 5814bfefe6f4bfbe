"""What bench_lstm.py, bench_gru.py and bench_rnn.py have in common: the implementations, and what is timed.

Every implementation of a row gets the same weights, input and dtype. Before it is timed, its output and all its
gradients must meet the rule of the tests: error <= 2 error(torch.nn in that dtype) + 4 eps, against our own layer in
float64. On a GPU a call ends with a synchronisation, and is timed both as it is and as a CUDA graph.

Compiling takes longer than measuring: about three seconds a kernel, with three kernels for each shape and dtype. So a
run with --benchmark-disable, which may be split over several processes, compiles what the timed run then finds in
Triton's cache.
"""

import gc
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from unittest import mock

import torch
from torch import nn

from gatescope.kernels.gru import GRU
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.recording import as_recorded
from gatescope.kernels.rnn import RNN

CELLS = {"lstm": (LSTM, nn.LSTM, 4), "gru": (GRU, nn.GRU, 3), "rnn": (RNN, nn.RNN, 1)}
CHUNK = 128  # the most rows for which cuDNN takes its persistent path
# Whether stacked layers run side by side, and whether each then takes a product and a pointwise kernel for each step.
SCHEDULES = {
    "gatescope-wavefront": ("wavefront", True, False),
    "gatescope-layers": ("layers", False, False),
    "gatescope-steps": ("steps", True, True),
}


class Stacked(nn.Module):
    """One-layer modules of torch.nn in sequence, over chunks of the batch for which cuDNN takes its persistent path."""

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
    """The loop over time that a user would write with torch.nn's cells."""

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
    """A module of an implementation, with its parameters in the order of torch.nn's stacked module."""
    ours, theirs, _ = CELLS[cell]
    if impl.startswith("gatescope"):
        return ours(hidden, hidden, layers, **options, **where)
    if impl in ("torch", "cudnn"):
        return theirs(hidden, hidden, layers, **where)
    return {"cudnn-stacked": Stacked, "torch-loop": Looped}[impl](theirs, hidden, layers, **where)


def captures(cell):
    return {"lstm": ("h", "c", "gates"), "gru": ("h", "gates"), "rnn": ("h",)}[cell]


def by_steps(module):
    """Run layers of a module of fused kernels as a product and a pointwise kernel for each step."""
    # Triton is not available on every platform.
    from gatescope.kernels.plan import STEPS

    return mock.patch.object(module, "layer_plan", return_value=STEPS)


@contextmanager
def scheduled(impl):
    """Run our stacked layers in the schedule that the implementation's name gives."""
    with ExitStack() as patched:
        if impl in SCHEDULES:
            # Triton is not available on every platform.
            from gatescope.kernels import wavefront_walk

            _, together, stepwise = SCHEDULES[impl]
            patched.enter_context(mock.patch.object(wavefront_walk, "waves", lambda *_: together))
            for cell in CELLS if stepwise else ():
                patched.enter_context(by_steps(wavefront_walk.FUSED[cell]))
        yield


def answers(module, x, dy, backward, **extra):
    """The output and, going back, the gradients of x and all parameters."""
    if not backward:
        with torch.no_grad():
            return [module(x, **extra)[0]]
    y = module(x, **extra)[0]
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], dy)]


@lru_cache(maxsize=2)
def oracle(cell, device, shape, backward, options):
    """Our own layer in float64: its parameters, x, dy and its answers."""
    b, t, h, layers = shape
    torch.manual_seed(0)
    module = CELLS[cell][0](h, h, layers, device=device, dtype=torch.float64, backend="loop", **dict(options))
    x = torch.randn(t, b, h, device=device, dtype=torch.float64).requires_grad_(backward)
    dy = torch.randn_like(x)
    return [p.detach() for p in module.parameters()], x, dy, [a.detach() for a in answers(module, x, dy, backward)]


def errors(found, expected):
    """max|difference| / rms(expected) of each answer."""
    pairs = zip(found, expected, strict=True)
    return [((a.double() - e).abs().max() / e.square().mean().sqrt()).item() for a, e in pairs]


def filled(module, values):
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(value)
    return module


@lru_cache(maxsize=4)
def allowed(cell, device, shape, dtype, backward, options):
    """The largest allowed error of each answer: the rule of the tests, with torch.nn in this dtype as the yardstick.

    On a GPU torch.nn multiplies float32 in TF32, as we do, under the same switch.
    """
    h, layers = shape[2:]
    values, x, dy, expected = oracle(cell, device, shape, backward, options)
    impl = "gatescope" if options else "torch"
    plain = build(cell, impl, h, layers, dict(options) | {"backend": "loop"}, device=device, dtype=dtype)
    given = x.detach().to(dtype).requires_grad_(backward)
    plain_errors = errors(answers(filled(plain, values), given, dy.to(dtype), backward), expected)
    return [2 * error + 4 * torch.finfo(dtype).eps for error in plain_errors]


def assert_within(impl, found, expected, limits):
    """Return the errors of all answers, each of which must be at most its limit."""
    found = errors(found, expected)
    for k, (error, limit) in enumerate(zip(found, limits, strict=True)):
        assert error <= limit, f"{impl}: answer {k}: error {error:.3g} of its rms, at most {limit:.3g}"
    return found


def measure(benchmark, cell, device, shape, dtype, impl, graph, backward, options=None, peak=None):
    """Check a row's answers, then time it; if the clock is off, only compile its kernels."""
    with scheduled(impl):
        if benchmark.disabled:
            benchmark.pedantic(run_once, (cell, device, shape, dtype, impl, graph, backward, options or {}))
            return
        _measure(benchmark, cell, device, shape, dtype, impl, graph, backward, options, peak)


def run_once(cell, device, shape, dtype, impl, graph, backward, options):
    b, t, h, layers = shape
    module = build(cell, impl, h, layers, options, device=device, dtype=getattr(torch, dtype))
    x = torch.randn(t, b, h, device=device, dtype=getattr(torch, dtype), requires_grad=backward)
    extra = {"capture": captures(cell)} if impl.endswith("capture") else {}
    call = partial(answers, module, x, torch.randn_like(x), backward, **extra)
    # A graph may launch other kernels.
    (captured(call) if graph else call)()


def _measure(benchmark, cell, device, shape, dtype, impl, graph, backward, options, peak):
    b, t, h, layers = shape
    options = options or {}
    dtype = getattr(torch, dtype)
    key = tuple((name, value) for name, value in options.items() if name != "backend")
    values, x, dy, expected = oracle(cell, device, shape, backward, key)
    limits = allowed(cell, device, shape, dtype, backward, key)
    module = filled(build(cell, impl, h, layers, options, device=device, dtype=dtype), values)
    x, dy = x.detach().to(dtype).requires_grad_(backward), dy.to(dtype)
    extra = {"capture": captures(cell)} if impl.endswith("capture") else {}

    def call():
        if not backward:
            return answers(module, x, dy, False, **extra)
        for parameter in (x, *module.parameters()):
            parameter.grad = None
        y = module(x, **extra)[0]
        y.backward(dy)
        return [y, *(parameter.grad for parameter in (x, *module.parameters()))]

    timed = captured(call) if graph else call
    found = assert_within(impl, timed(), expected, limits)

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
        error=round(found[0], 8),
        schedule=SCHEDULES.get(impl, ("",))[0],
    )  # fmt: skip
    if peak:
        benchmark.extra_info["share_of_peak"] = round(flop / seconds / peak, 4)


def captured(call):
    """A CUDA graph of a call, as a function that replays it and returns the call's results."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), as_recorded():
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    # A graph of an earlier row that is garbage-collected during this capture would end it.
    gc.collect()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()

    def replay():
        graph.replay()
        return results

    return replay
