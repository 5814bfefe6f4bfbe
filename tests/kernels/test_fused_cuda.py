"""The compiled kernels on a GPU: right, deterministic, safe under graphs, streams, delays and non-finite values."""

import importlib

import pytest
import torch

pytestmark = pytest.mark.cuda

triton = pytest.importorskip("triton")

SHAPES = [
    (128, 12, 512, 512),
    (128, 12, 128, 128),
    (33, 9, 70, 100),
    (16, 9, 768, 768),
    (600, 5, 64, 512),
    (5, 4, 64, 2048),
]


def on_gpu(tensors):
    return [tensor.detach().cuda().requires_grad_() for tensor in tensors]


def draw(cell, shape, dtype, seed, **options):
    """The kernels, torch's own operators storing as they do, and the oracle in float64, on one draw of the inputs."""
    tensors = on_gpu(cell.layer(*shape, dtype=dtype, seed=seed))
    oracle = cell.results(cell.reference, [x.detach().double().requires_grad_() for x in tensors], **options)
    plain = cell.results(cell.reference, [x.detach().clone().requires_grad_() for x in tensors], **options)
    mine = cell.results(cell.function, tensors, backend="triton", **options)
    return mine, plain, oracle


def kernels_of(cell):
    return importlib.import_module(f"gatescope.kernels.{cell.name}_kernels")


@pytest.fixture(autouse=True)
def exact_products():
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = allowed


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["float32", "float16", "bfloat16"]
)
@pytest.mark.parametrize("shape", SHAPES, ids=[f"B{b}-T{t}-I{i}-H{h}" for b, t, i, h in SHAPES])
def test_within_rule(cell, shape, dtype, within_rule, resets):
    assert isinstance(kernels_of(cell).forward_kernel, triton.runtime.JITFunction)
    mask = resets(shape[0], shape[1]).cuda()
    within_rule([draw(cell, shape, dtype, seed, reset=mask) for seed in range(2)])


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


def test_one_graph_replayed_100_times(cell):
    x, *rest = layer(cell)
    expected = first(cell.function(x, *rest, **cell.options)).clone()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        cell.function(x, *rest, **cell.options)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = first(cell.function(x, *rest, **cell.options))
    for _ in range(100):
        y.zero_()
        graph.replay()
        assert torch.equal(y, expected)


def test_two_streams_at_once(cell):
    inputs = [layer(cell), layer(cell, b=64)]
    expected = [first(cell.function(*tensors, **cell.options)).clone() for tensors in inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in inputs]
    for _ in range(50):
        results = []
        for stream, tensors in zip(streams, inputs, strict=True):
            with torch.cuda.stream(stream):
                results.append(first(cell.function(*tensors, **cell.options)))
        torch.cuda.synchronize()
        for mine, other in zip(results, expected, strict=True):
            assert torch.equal(mine, other)


def test_values_that_are_not_finite_terminate(cell):
    x, *rest = layer(cell)
    x[2, 1, 0], x[3, 40, 5] = torch.nan, torch.inf
    y = first(cell.function(x, *rest, **cell.options))
    torch.cuda.synchronize()
    assert y[2:, 1].isnan().all()
    assert y[:, 0].isfinite().all()


def test_ten_thousand_launches_with_random_delays_are_bit_identical(cell, monkeypatch):
    from delayed_wait import delayed_wait

    tensors = layer(cell, t=4)
    expected = first(cell.function(*tensors, **cell.options)).clone()
    module, target = kernels_of(cell), importlib.import_module(f"gatescope.kernels.{cell.name}_fused")
    monkeypatch.setattr(module, "wait", delayed_wait)
    delayed = triton.jit(module.forward_kernel.fn, do_not_specialize=module.RUNTIME)
    monkeypatch.setattr(target, "forward_kernel", delayed)
    wrong = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(10_000):
        wrong += (first(cell.function(*tensors, **cell.options)) != expected).sum()
    assert wrong.item() == 0


def test_gradients_are_the_same_bits_every_time(cell):
    tensors = on_gpu(cell.layer(128, 6, 64, 512, dtype=torch.bfloat16))
    results = [cell.results(cell.function, tensors, backend="triton") for _ in range(3)]
    for name, expected in results[0].items():
        for other in results[1:]:
            assert torch.equal(other[name], expected), name
