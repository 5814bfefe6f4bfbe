"""sequence.py and the time loops built on it: every cell's functional form against its reference."""

from types import SimpleNamespace

import pytest
import torch

from gatescope.kernels import sequence
from gatescope.kernels.sequence import as_recorded, recording

SHAPES = [(2, 63, 7, 100), (64, 32, 8, 8), (1, 1, 3, 4), (1, 17, 5, 6), (3, 1, 2, 5), (5, 16, 8, 8), (4, 33, 1, 2)]
IDS = [f"B{b}-T{t}-I{i}-H{h}" for b, t, i, h in SHAPES]


def draw(cell, shape, dtype, seed, **options):
    """What the loop, a plain program of its precision and the oracle make of one draw of the inputs."""
    tensors = cell.layer(*shape, dtype=dtype, seed=seed)
    plain = cell.results(cell.reference, [x.detach().float().requires_grad_() for x in tensors], **options)
    mine = cell.results(cell.function, tensors, **options)
    return cell.judged(mine, {name: value.to(dtype) for name, value in plain.items()}, tensors, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_loop_within_rule(cell, shape, within_rule, resets):
    mask = resets(*shape[:2])
    within_rule([draw(cell, shape, torch.float32, seed, reset=mask) for seed in range(8)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_16_bit_within_rule(cell, dtype, within_rule):
    within_rule([draw(cell, (3, 21, 6, 10), dtype, seed) for seed in range(4)])


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_gradcheck(cell, bias, resets):
    tensors = cell.layer(2, 5, 3, 4, bias=bias)
    mask = resets(2, 5)
    assert torch.autograd.gradcheck(lambda *a: cell.function(*a, reset=mask, **cell.options), tensors)


def test_whole_and_part_blocks(cell, equal_but_for_rounding):
    """T on either side of a whole number of blocks of steps, saving for backward and not."""
    for t in (15, 16, 17, 32, 37):
        tensors = cell.layer(2, t, 3, 5)
        expected = cell.results(cell.reference, tensors)
        for name, value in cell.results(cell.function, tensors).items():
            equal_but_for_rounding(f"{name}, T={t}", value, expected[name], t * 8 * 2)
        options = cell.options | ({"gates": False} if cell.gated else {})
        with torch.no_grad():
            result = cell.function(*tensors, **options)
        h = result[0] if isinstance(result, tuple) else result
        equal_but_for_rounding(f"h without saving, T={t}", h, expected["h"], t * 8)


def test_only_needed_gradients(cell):
    tensors = cell.layer(2, 6, 3, 4)
    expected = cell.results(cell.function, tensors)
    names = [name for name in expected if name.startswith("d")]
    for k, name in enumerate(names):
        frozen = [x if j == k else x.detach() for j, x in enumerate(tensors)]
        outputs = cell.function(*frozen, **cell.options)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in outputs]
        (gradient,) = torch.autograd.grad(outputs, [tensors[k]], weights)
        assert torch.equal(gradient, expected[name]), name


def test_gradient_of_one_output_alone(cell, equal_but_for_rounding):
    tensors = cell.layer(2, 6, 3, 4)
    for k, name in enumerate(cell.outputs):
        mine, expected = (run(*tensors, **cell.options) for run in (cell.function, cell.reference))
        mine, expected = (o if isinstance(o, tuple) else (o,) for o in (mine, expected))
        gradients = [torch.autograd.grad(o[k].square().sum(), tensors, allow_unused=True) for o in (mine, expected)]
        for gradient, other in zip(*gradients, strict=True):
            zero = torch.zeros(())
            equal_but_for_rounding(name, gradient, zero.expand_as(gradient).double() if other is None else other, 500)


def test_strided_and_expanded(cell, equal_but_for_rounding):
    x, *rest = cell.layer(2, 9, 3, 4)
    expected = cell.results(cell.function, [x, *rest])
    strided = [torch.stack((a.detach(), a.detach()), dim=-1)[..., 0].requires_grad_() for a in (x, *rest)]
    for name, value in cell.results(cell.function, strided).items():
        equal_but_for_rounding(name, value, expected[name], 9 * 7)
    # A sum's gradient reaches the layer as one number expanded to every entry.
    h = cell.function(x, *rest, **cell.options)
    h = h[0] if isinstance(h, tuple) else h
    (summed,) = torch.autograd.grad(h.sum(), [x], retain_graph=True)
    (expected_sum,) = torch.autograd.grad(h, [x], torch.ones_like(h))
    assert torch.equal(summed, expected_sum)


def test_nan_passes_and_a_reset_stops_it(cell, equal_but_for_rounding):
    x, *rest = (tensor.detach() for tensor in cell.layer(3, 8, 3, 4))
    x[2, 1, 0] = torch.nan
    mask = torch.zeros(8, 3, dtype=torch.bool)
    mask[5, 1] = True
    n_states = len(cell.states)
    clean = [torch.zeros_like(state) for state in rest[:n_states]]
    outputs = cell.function(x, *rest, reset=mask, **cell.options)
    again = cell.function(x[5:], *clean, *rest[n_states:], **cell.options)
    outputs, again = (o if isinstance(o, tuple) else (o,) for o in (outputs, again))
    for name, o, expected in zip(cell.outputs, outputs, again, strict=True):
        assert o[:2].isfinite().all(), name
        assert o[2:5, 1].isnan().all(), name
        assert o[:, [0, 2]].isfinite().all(), name
        equal_but_for_rounding(name, o[5:, 1], expected[:, 1], 8 * 7)


def test_infinite_state_ends(cell):
    x, h0, *rest = (tensor.detach() for tensor in cell.layer(3, 8, 3, 4))
    h0[2] = torch.inf
    h = cell.function(x, h0, *rest, **cell.options)
    h = h[0] if isinstance(h, tuple) else h
    assert h[:, :2].isfinite().all()
    assert h.shape == (8, 3, 4)


def test_opcheck(cell, resets):
    tail = {"lstm": (True,), "gru": (cell.options.get("reset_after", True), True), "rnn": ()}[cell.name] + ("loop",)
    if cell.name == "rnn":
        tail = (cell.options.get("nonlinearity", "tanh"), "loop")
    # In the first shape a compiled walk pads rows of seven and five.
    for n_rows, n_steps, width, hidden in ((4, 9, 5, 7), (2, 5, 3, 4)):
        tensors = cell.layer(n_rows, n_steps, width, hidden)
        torch.library.opcheck(cell.operator, (*tensors, resets(n_rows, n_steps), *tail))
    tensors = [x.detach() for x in tensors[:-2]]
    quick = ("test_schema", "test_faketensor")
    torch.library.opcheck(cell.operator, (*tensors, None, None, None, *tail), test_utils=quick)
    if cell.gated:
        torch.library.opcheck(cell.operator, (*tensors, None, None, None, *tail[:-2], False, "loop"), test_utils=quick)


def test_compiles_without_a_graph_break(cell, resets):
    module = cell.module(3, 4, 2, bidirectional=True, **cell.options)
    x = torch.randn(6, 2, 3, requires_grad=True)
    mask = resets(2, 6)

    def run(x):
        return module(x, capture=cell.outputs, reset=mask)

    y, _, states = torch.compile(run, fullgraph=True, backend="aot_eager")(x)
    expected, _, expected_states = run(x)
    assert torch.equal(y, expected)
    for name in cell.outputs:
        assert torch.equal(states[name], expected_states[name]), name
    gradients = [torch.autograd.grad(o.square().sum(), [x, *module.parameters()]) for o in (y, expected)]
    for mine, other in zip(*gradients, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("sizes", [(5, 7), (8, 16)], ids=["padded", "whole"])
def test_gradients_have_the_strides_that_compiled_programs_expect(cell, sizes):
    width, hidden = sizes
    # Few rows and steps, and enough for a compiled walk.
    for n_rows, n_steps in ((2, 5), (9, 40)):
        tensors = cell.layer(n_rows, n_steps, width, hidden, dtype=torch.float32)
        outputs = cell.function(*tensors, **cell.options, backend="loop")
        y = outputs[0] if isinstance(outputs, tuple) else outputs
        turned = torch.ones(y.shape[::-1]).permute(2, 1, 0)
        for gradient, tensor in zip(torch.autograd.grad(y, tensors, turned), tensors, strict=True):
            assert gradient.shape == tensor.shape and gradient.is_contiguous()


def test_second_derivative_names_the_reference(cell):
    tensors = cell.layer(2, 4, 3, 4)

    def first(**options):
        y = cell.function(*tensors, **cell.options, **options)
        y = y[0] if isinstance(y, tuple) else y
        return torch.autograd.grad(y.pow(3).sum(), tensors[:1], create_graph=True)[0]

    with pytest.raises(RuntimeError, match=f"gatescope::{cell.name} has no second derivative.*{cell.name}_reference"):
        first().sum().backward()
    first(backend="reference").sum().backward()
    assert tensors[0].grad.isfinite().all()


def test_gradient_without_saving_is_refused(gated):
    tail = (False, "loop") if gated.name == "lstm" else (True, False, "loop")
    with pytest.raises(RuntimeError, match="expected save=True"):
        gated.operator(*gated.layer(2, 4, 3, 4), None, *tail)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_autocast_runs_in_its_dtype(cell, dtype):
    tensors = cell.layer(2, 5, 3, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        outputs = cell.function(*tensors, **cell.options)
    expected = cell.function(*(x.to(dtype) for x in tensors), **cell.options)
    outputs, expected = (o if isinstance(o, tuple) else (o,) for o in (outputs, expected))
    for mine, other in zip(outputs, expected, strict=True):
        # A GRU's state stays in float32, as torch.nn's does on a CPU.
        assert mine.dtype == (torch.float32 if cell.name.startswith("gru") else dtype)
        if mine.dtype == dtype:
            assert torch.equal(mine, other)
        else:
            torch.testing.assert_close(mine, other.float(), rtol=0, atol=2 * torch.finfo(dtype).eps)
    for gradient in torch.autograd.grad(outputs[0].float().sum(), tensors):
        assert gradient.dtype == torch.float32
        assert gradient.isfinite().all()


def short(tensor):
    return tensor[..., 1:] if tensor.dim() == 1 else tensor[1:]


BAD = {
    "x of one step": ("x", lambda x: x[0], r"x: expected \[T, B, I\] with at least one step, got \[2, 3\]"),
    "no steps": ("x", lambda x: x[:0], r"with at least one step, got \[0, 2, 3\]"),
    "another batch": ("h0", short, r"h0: expected shape \[2, 4\], got \[1, 4\]"),
    "another input size": ("weight_ih", lambda w: w[:, 1:], r"weight_ih: expected shape \[\d+, 3\], got \[\d+, 2\]"),
    "no weight": ("weight_hh", lambda w: None, "weight_hh: expected a tensor, got NoneType None"),
    "a number for a weight": ("weight_hh", lambda w: w[0, 0], r"weight_hh: expected shape \[\d H, H\], got \[\]"),
    "a list": ("x", lambda x: x.tolist(), "x: expected a tensor, got list"),
    "a list of resets": ("reset", lambda r: r.tolist(), "reset: expected a tensor, got list"),
    "rows missing": ("weight_hh", short, r"weight_hh: expected shape \[\d+, 4\]"),
    "short bias": ("bias_hh", short, r"bias_hh: expected shape \[\d+\]"),
    "one bias": ("bias_ih", lambda b: None, "expected both biases or none, got one"),
    "another dtype": (
        "weight_hh",
        lambda w: w.float(),
        "weight_hh: expected torch.float64 on cpu, as x, got torch.float32",
    ),
    "another device": (
        "h0",
        lambda h: h.to("meta"),
        "h0: expected torch.float64 on cpu, as x, got torch.float64 on meta",
    ),
    "transposed reset": (
        "reset",
        lambda r: r.t(),
        r"reset: expected bool \[5, 2\] on cpu, time first, got torch.bool \[2, 5\]",
    ),
    "reset of numbers": ("reset", lambda r: r.float(), "reset: expected bool .* got torch.float32"),
    "unknown backend": (
        "backend",
        lambda b: "cudnn",
        "backend: expected None or one of reference, loop, triton, got 'cudnn'",
    ),
}


def test_whole_numbers_are_refused(cell):
    with pytest.raises(ValueError, match="expected a float dtype on cpu, as x"):
        cell.function(*(x.long() for x in cell.layer(2, 5, 3, 4)), **cell.options)


@pytest.mark.parametrize("steps", [5, 40])
@pytest.mark.parametrize(("width", "hidden"), [(0, 4), (3, 0)], ids=["no-features", "no-units"])
def test_nothing_in_a_dimension(cell, width, hidden, steps, equal_but_for_rounding):
    """An input without features leaves the biases and the recurrence."""
    tensors = cell.layer(2, steps, width, hidden)
    expected = cell.results(cell.reference, tensors)
    for name, value in cell.results(cell.function, tensors).items():
        assert value.shape == expected[name].shape
        if value.numel():
            equal_but_for_rounding(name, value, expected[name], 200)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(cell, name, resets):
    names = ("x", *(f"{s}0" for s in cell.states), "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arguments = dict(zip(names, cell.layer(2, 5, 3, 4), strict=True)) | {"reset": resets(2, 5), "backend": None}
    which, change, message = BAD[name]
    arguments[which] = change(arguments[which])
    with pytest.raises(ValueError, match=message):
        cell.function(**arguments, **cell.options)


def test_warming_up_runs_what_a_graph_will(monkeypatch):
    on_gpu, on_cpu = SimpleNamespace(is_cuda=True), SimpleNamespace(is_cuda=False)
    for capturing in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda capturing=capturing: capturing)
        assert recording(on_gpu) == capturing
        with pytest.raises(KeyError), as_recorded(), as_recorded():
            assert recording(on_gpu) and not recording(on_cpu)
            raise KeyError
        assert recording(on_gpu) == capturing


def test_a_gpu_without_triton_runs_the_loop(monkeypatch):
    on_gpu = SimpleNamespace(is_cuda=True, dtype=torch.float16, shape=(1, 1, 1), device="cuda")
    monkeypatch.setattr(sequence, "interpreting", lambda: False)
    for there in (True, False):
        monkeypatch.setattr(sequence, "has_triton", lambda there=there: there)
        assert sequence.choose_backend(None, on_gpu) == ("triton" if there else "loop")
    with pytest.raises(ValueError, match="backend 'triton': expected"):
        sequence.choose_backend("triton", on_gpu)


@pytest.mark.filterwarnings("error")
def test_the_search_for_triton_is_not_traced(monkeypatch):
    """By no torch: the later ones are made to refuse it as the oldest that the package runs on does."""
    known = SimpleNamespace(util=SimpleNamespace(find_spec=object()), metadata=SimpleNamespace(version=object()))
    monkeypatch.setattr("torch._dynamo.variables.functions.importlib", known, raising=False)
    compiled = torch.compile(lambda x: x + sequence.has_triton(), fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1)) == sequence.has_triton()
