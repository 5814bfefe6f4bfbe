"""The compiled kernels on a GPU: right, deterministic, safe under graphs, streams, delays and non-finite values."""

import importlib

import pytest
import torch

from gatescope.kernels import wavefront_walk

pytest.importorskip("triton")

import triton

from gatescope.kernels.gpu import current_device
from gatescope.kernels.plan import STEPS
from gatescope.kernels.schedule import cell_plan

pytestmark = pytest.mark.cuda

SHAPES = [
    (128, 12, 512, 512),
    (128, 12, 128, 128),
    (33, 9, 70, 100),
    (1100, 5, 64, 64),
    (16, 9, 768, 768),
    (600, 5, 64, 512),
    (5, 4, 64, 2048),
]


def on_gpu(tensors):
    return [tensor.detach().cuda().requires_grad_() for tensor in tensors]


def draw(cell, shape, dtype, seed, **options):
    """The kernels, torch's own operators storing as they do, and the oracle in float64, on one draw of the inputs."""
    tensors = on_gpu(cell.layer(*shape, dtype=dtype, seed=seed))
    plain = cell.results(cell.reference, [x.detach().clone().requires_grad_() for x in tensors], **options)
    mine = cell.results(cell.function, tensors, backend="triton", **options)
    return cell.judged(mine, plain, tensors, **options)


def kernels_of(cell):
    return importlib.import_module(f"gatescope.kernels.{cell.name}_kernels")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


# A kernel takes about three seconds to compile: one dtype runs over all shapes, the others over the main ones.
CASES = [(shape, torch.float16) for shape in SHAPES] + [
    (shape, dtype) for shape in SHAPES[:2] for dtype in (torch.float32, torch.bfloat16)
]
CASES += [((13, 9, 20, 21), torch.bfloat16)]


@pytest.mark.parametrize(
    ("shape", "dtype"), CASES, ids=[f"B{b}-T{t}-I{i}-H{h}-{str(d)[6:]}" for (b, t, i, h), d in CASES]
)
def test_within_rule(cell, shape, dtype, within_rule, resets):
    assert isinstance(kernels_of(cell).forward_kernel, triton.runtime.JITFunction)
    mask = resets(shape[0], shape[1]).cuda()
    within_rule([draw(cell, shape, dtype, seed, reset=mask) for seed in range(2)])


@pytest.fixture
def products_in_tf32():
    """Let plain products multiply in TF32; monkeypatch would delete a switch that torch computes, which is an error."""
    before, torch.backends.cuda.matmul.fp32_precision = torch.backends.cuda.matmul.fp32_precision, "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("shape", [*SHAPES[:2], (16, 9, 512, 512)], ids=["B128-H512", "B128-H128", "B16-H512"])
def test_float32_in_tf32_within_rule(cell, shape, within_rule, resets, monkeypatch, products_in_tf32):
    """The yardstick is plain torch, whose products are in TF32, too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    b, t, _, h = shape
    for backward in (False, True):
        assert cell_plan(cell.name, backward, b, h, torch.float32, current_device()) != STEPS
    mask = resets(b, t).cuda()
    within_rule([draw(cell, shape, torch.float32, seed, reset=mask) for seed in range(2)])


def test_a_module_on_a_gpu_takes_the_kernels(cell, monkeypatch):
    module = cell.module(64, 128, 2, **cell.options).cuda().half()
    target, runs = importlib.import_module(f"gatescope.kernels.{cell.name}_fused"), []
    real = target.layer_plan
    monkeypatch.setattr(target, "layer_plan", lambda *a, **k: runs.append(1) or real(*a, **k))
    module(torch.randn(5, 16, 64, device="cuda", dtype=torch.half))[0].sum().backward()
    assert len(runs) == 4


def layer(cell, b=128, t=8, h=512, dtype=torch.float16):
    return [x.detach().cuda() for x in cell.layer(b, t, h, h, dtype=dtype)]


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("shape", [(40, 3, 7, 96), (16, 2, 5, 20)], ids=["columns", "one-column"])
def test_small_shapes_in_both_directions(cell, shape, resets):
    """The cases of `make sanitize`: 192 units take several columns, 40 one."""
    b, t, i, h = shape
    tensors = on_gpu(cell.layer(b, t, i, 2 * h, dtype=torch.float16))
    results = cell.results(cell.function, tensors, backend="triton", reset=resets(b, t).cuda())
    torch.cuda.synchronize()
    assert all(value.isfinite().all() for value in results.values())


def both_directions(cell, tensors):
    """Outputs and gradients, without a synchronisation with the host."""
    outputs = cell.function(*tensors, **cell.options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return [*outputs, *torch.autograd.grad(outputs, tensors, [torch.ones_like(o) for o in outputs])]


def replayed(run):
    """The results of 100 replays of a graph of a call, and of the call by itself."""
    expected = [value.detach().clone() for value in run()]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        values = [value.detach() for value in run()]
    for _ in range(100):
        for value in values:
            value.zero_()
        graph.replay()
        yield values, expected


def test_one_graph_replayed_100_times_in_both_directions(cell):
    tensors = on_gpu(cell.layer(128, 8, 64, 512, dtype=torch.float16))
    for values, expected in replayed(lambda: both_directions(cell, tensors)):
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_graph_of_stacked_layers(cell, side_by_side, monkeypatch):
    monkeypatch.setattr(wavefront_walk, "waves", lambda *args: side_by_side)
    module = cell.module(64, 512, 3, device="cuda", dtype=torch.bfloat16, **cell.options)
    x = torch.randn(60, 128, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)

    def run():
        y = module(x)[0]
        return [y, *torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y))]

    for values, expected in replayed(run):
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("hidden", [512, 2048], ids=["persistent", "steps"])
def test_a_graph_of_either_form(cell, hidden):
    """A product and a pointwise kernel a step can be recorded, too."""
    tensors = on_gpu(cell.layer(64, 4, 64, hidden, dtype=torch.float16))
    if hidden == 2048:
        assert cell_plan(cell.name, False, 64, hidden, torch.float16, current_device()) == STEPS or cell.name == "rnn"
    for values, expected in replayed(lambda: both_directions(cell, tensors)):
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("allowed", [False, True], ids=["ieee", "tf32"])
def test_a_graph_of_float32(cell, allowed, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    tensors = on_gpu(cell.layer(16, 4, 64, 128, dtype=torch.float32))
    assert (cell_plan(cell.name, False, 16, 128, torch.float32, current_device()) == STEPS) != allowed
    for values, expected in replayed(lambda: both_directions(cell, tensors)):
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


def test_two_streams_at_once_in_both_directions(cell):
    inputs = [on_gpu(cell.layer(b, 8, 512, 512, dtype=torch.float16)) for b in (128, 64)]
    expected = [[value.clone() for value in both_directions(cell, tensors)] for tensors in inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in inputs]
    for _ in range(50):
        results = []
        for stream, tensors in zip(streams, inputs, strict=True):
            with torch.cuda.stream(stream):
                results.append(both_directions(cell, tensors))
        torch.cuda.synchronize()
        for mine, other in zip(results, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_nonfinite_values_do_not_hang_the_kernel(cell):
    x, *rest = layer(cell)
    x[2, 1, 0], x[3, 40, 5] = torch.nan, torch.inf
    y = first(cell.function(x, *rest, **cell.options))
    torch.cuda.synchronize()
    assert y[2:, 1].isnan().all()
    assert y[:, 0].isfinite().all()
    # Infinity has the same results as in plain torch: the limits of the activations, or NaN.
    expected = first(cell.reference(*(tensor.float() for tensor in (x, *rest)), **cell.options))
    torch.testing.assert_close(y[:, 40].float(), expected[:, 40], rtol=2e-2, atol=2e-2, equal_nan=True)


def test_gradients_of_nonfinite_values_do_not_hang_the_kernel(cell):
    x, *rest = on_gpu(cell.layer(128, 8, 512, 512, dtype=torch.float16))
    with torch.no_grad():
        x[2, 1, 0], x[3, 40, 5] = torch.nan, torch.inf
    y = first(cell.function(x, *rest, **cell.options))
    dx, *_ = torch.autograd.grad(y.float().square().sum(), [x, *rest])
    torch.cuda.synchronize()
    others = [row for row in range(128) if row not in (1, 40)]
    assert dx[:, others].isfinite().all() and not dx[:3, 1].isfinite().all()


def test_ten_thousand_launches_with_random_delays_are_bit_identical(cell, monkeypatch):
    """5,000 forward and 5,000 backward; the GRU of Cho et al. has two barriers a step in both."""
    from delayed_wait import delay

    tensors = on_gpu(cell.layer(128, 4, 64, 512, dtype=torch.float16))
    expected = [value.detach().clone() for value in both_directions(cell, tensors)]
    delay(monkeypatch, cell.name)
    wrong = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(5_000):
        for value, other in zip(both_directions(cell, tensors), expected, strict=True):
            wrong += (value != other).sum()
    assert wrong.item() == 0


def test_gradients_are_bit_identical_every_time(cell):
    tensors = on_gpu(cell.layer(128, 6, 64, 512, dtype=torch.bfloat16))
    results = [cell.results(cell.function, tensors, backend="triton") for _ in range(3)]
    for name, expected in results[0].items():
        for other in results[1:]:
            assert torch.equal(other[name], expected), name
