"""operators.py: every cell's operators as torch sees them, and what their functional forms refuse."""

import pytest
import torch


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
def test_gradients_have_the_strides_compiled_programs_expect(cell, sizes):
    width, hidden = sizes
    # Few rows and steps, and enough for a compiled walk.
    for n_rows, n_steps in ((2, 5), (9, 40)):
        tensors = cell.layer(n_rows, n_steps, width, hidden, dtype=torch.float32)
        outputs = cell.function(*tensors, **cell.options, backend="loop")
        y = outputs[0] if isinstance(outputs, tuple) else outputs
        turned = torch.ones(y.shape[::-1]).permute(2, 1, 0)
        for gradient, tensor in zip(torch.autograd.grad(y, tensors, turned), tensors, strict=True):
            assert gradient.shape == tensor.shape and gradient.is_contiguous()


def test_second_derivative_error_recommends_the_reference(cell):
    tensors = cell.layer(2, 4, 3, 4)

    def first(**options):
        y = cell.function(*tensors, **cell.options, **options)
        y = y[0] if isinstance(y, tuple) else y
        return torch.autograd.grad(y.pow(3).sum(), tensors[:1], create_graph=True)[0]

    with pytest.raises(RuntimeError, match=f"gatescope::{cell.name} has no second derivative.*{cell.name}_reference"):
        first().sum().backward()
    first(backend="reference").sum().backward()
    assert tensors[0].grad.isfinite().all()


def test_backward_without_saved_tensors_is_refused(gated):
    tail = (False, "loop") if gated.name == "lstm" else (True, False, "loop")
    with pytest.raises(RuntimeError, match="expected save=True"):
        gated.operator(*gated.layer(2, 4, 3, 4), None, *tail)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_autocast_runs_in_the_autocast_dtype(cell, dtype):
    tensors = cell.layer(2, 5, 3, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        outputs = cell.function(*tensors, **cell.options)
    expected = cell.function(*(x.to(dtype) for x in tensors), **cell.options)
    outputs, expected = (o if isinstance(o, tuple) else (o,) for o in (outputs, expected))
    for mine, other in zip(outputs, expected, strict=True):
        # A GRU's state stays in float32, as in torch.nn on a CPU.
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


def test_integers_are_refused(cell):
    with pytest.raises(ValueError, match="expected a float dtype on cpu, as x"):
        cell.function(*(x.long() for x in cell.layer(2, 5, 3, 4)), **cell.options)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(cell, name, resets):
    names = ("x", *(f"{s}0" for s in cell.states), "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    arguments = dict(zip(names, cell.layer(2, 5, 3, 4), strict=True)) | {"reset": resets(2, 5), "backend": None}
    which, change, message = BAD[name]
    arguments[which] = change(arguments[which])
    with pytest.raises(ValueError, match=message):
        cell.function(**arguments, **cell.options)
