"""The fused time loops in Triton's interpreter: every cell, layout, output and gradient against the float64 oracle.

The interpreter runs the programs of a launch one after another and the launches step by step, so that the split over
columns and groups, and the addresses of exchanged data, are executed; the barrier itself is tested in test_grid. A
program that takes all units is also launched for several steps at once.
"""

import importlib
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

pytest.importorskip("triton")

from gatescope.kernels import fused
from gatescope.kernels.grid import Launch
from gatescope.kernels.plan import STEPS, Plan

ONE = Plan("persistent", 16, 32, 32, 1, 1, 1)  # all units in one program, no exchange
SPLIT = Plan("persistent", 16, 16, 16, 3, 1, 3, 2)  # three columns, three parts of the product, two in flight
HALVES = Plan("persistent", 16, 16, 16, 2, 1, 2, 1)
GROUPS = Plan("persistent", 16, 16, 16, 2, 2, 2, 1, True)  # two groups of rows at once, products as of warp groups
SLICES = Plan("persistent", 16, 16, 16, 5, 1, 3, 2, warps=4, slices=2)  # of a sum of tiles going back: 5 x 16 of 4 x 40
NARROW = Plan(
    "persistent", 4, 32, 32, 1, 2, 1, resident=1
)  # the same, weights first and in registers: two groups of rows
EIGHT = Plan("persistent", 8, 32, 32, 1, 1, 1, resident=1)
RESIDENT = Plan("persistent", 16, 16, 16, 3, 1, 3, 3, resident=2)  # weights first: two parts of three in registers
# The time of an interpreted program does not depend on its rows and units: use few programs and few steps.
LAYOUTS = {
    "one-column": (ONE, 5, 21, torch.float32),
    "one-column-float16": (ONE, 5, 21, torch.float16),
    "narrow": (NARROW, 5, 21, torch.float32),
    "narrow-float16": (EIGHT, 5, 21, torch.float16),
    "columns": (SPLIT, 5, 40, torch.float32),
    "columns-float16": (HALVES, 5, 24, torch.float16),
    "slices": (SLICES, 5, 40, torch.float32),
    "resident": (RESIDENT, 5, 40, torch.float32),
    "steps": (STEPS, 3, 21, torch.float32),
    "wide-steps-float16": (STEPS, 2, 300, torch.float16),
}


@pytest.fixture
def lay_out(cell, monkeypatch):
    """Make a cell's kernels run in a given layout."""

    def choose(layout):
        module = importlib.import_module(f"gatescope.kernels.{cell.name}_fused")
        monkeypatch.setattr(module, "layer_plan", lambda *args, **options: layout)

    return choose


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to(ctx.dtype).to(gradient.dtype), None


class Storage(TorchFunctionMode):
    """Runs plain torch in float32 and rounds what is stored between steps: products, their factors, activations."""

    ROUNDED = (torch.sigmoid, torch.tanh, torch.relu, functional.linear)

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is functional.linear:
            args = (_Rounded.apply(args[0], self.dtype), *args[1:])
        result = function(*args, **(kwargs or {}))
        return _Rounded.apply(result, self.dtype) if function in self.ROUNDED else result


def draw(cell, shape, dtype, seed, **options):
    """The results of the kernels, a plain program that stores as they do, and the oracle, on one draw of the inputs."""
    tensors = cell.layer(*shape, dtype=dtype, seed=seed, bias=options.pop("bias", True))
    with Storage(dtype):
        plain = cell.results(cell.reference, [x.detach().float().requires_grad_() for x in tensors], **options)
    mine = cell.results(cell.function, tensors, backend="triton", **options)
    return cell.judged(mine, {name: value.to(dtype) for name, value in plain.items()}, tensors, **options)


@pytest.mark.parametrize("name", LAYOUTS)
def test_within_rule(cell, name, lay_out, within_rule, resets):
    layout, b, h, dtype = LAYOUTS[name]
    lay_out(layout)
    within_rule([draw(cell, (b, 3, 6, h), dtype, seed, reset=resets(b, 3)) for seed in range(2)])


TALL = {
    "one-column": (ONE, 5, 21),
    "narrow": (NARROW, 5, 32),
    "narrow-eight": (replace(EIGHT, groups=2), 9, 24),
    "columns": (replace(SPLIT, groups=2), 37, 40),
    "slices": (replace(SLICES, groups=2), 37, 40),
    "resident": (replace(RESIDENT, groups=2), 37, 40),
    "steps": (STEPS, 5, 21),
    # More than three rows: MKL may sum fewer in one running total, which has nothing to do with the kernels.
    "wide-steps": (STEPS, 5, 300),
}


# The first of two columns has all units and so waits for no other: the interpreter can run all its steps at once.
IDLE = {
    "one-column": (ONE, 21),
    "narrow": (NARROW, 21),
    "narrow-eight": (EIGHT, 24),
    "columns": (replace(SPLIT, block_h=64, columns=2), 40),
    "slices": (replace(SLICES, block_h=64, columns=2), 40),
    "resident": (replace(RESIDENT, block_h=64, columns=2), 40),
}


@pytest.mark.parametrize("name", IDLE)
def test_one_launch_of_many_steps_equals_many_launches(cell, name, lay_out, resets, monkeypatch):
    """What a step loads or keeps for the next one is what a launch of the next one would load itself."""
    layout, h = IDLE[name]
    lay_out(layout)
    # In two phases, a reset before the product rounds its gates to the dtype of x on the way; in one it does not.
    phases = layout.columns > 1 and not cell.options.get("reset_after", True)
    dtype = torch.float32 if phases else torch.float16
    tensors, mask = cell.layer(5, 4, 6, h, dtype=dtype), resets(5, 4)
    expected = cell.results(cell.function, tensors, backend="triton", reset=mask)
    launches, run = [], Launch.__call__
    monkeypatch.setattr(Launch, "__call__", lambda self, **given: launches.append(given) or run(self, **given))
    monkeypatch.setattr(fused, "interpreting", lambda: False)
    found = cell.results(cell.function, tensors, backend="triton", reset=mask)
    assert [(each["t0"], each["t1"]) for each in launches if "t0" in each] == [(0, 4)] * 2
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", TALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_every_layout_within_rule(cell, name, dtype, lay_out, within_rule, resets):
    layout, b, h = TALL[name]
    lay_out(layout)
    within_rule([draw(cell, (b, 4, 6, h), dtype, seed, reset=resets(b, 4)) for seed in range(2)])


ODD = {
    "B1-T1": ((1, 1, 3, 4), (ONE, NARROW, STEPS)),
    "B1-T3": ((1, 3, 5, 33), (SPLIT, STEPS)),
    "B3-T1": ((3, 1, 2, 5), (ONE, STEPS)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_shapes_without_bias_and_reset_are_within_rule(cell, name, lay_out, within_rule):
    shape, layouts = ODD[name]
    # A small number of values has lucky and unlucky roundings.
    seeds = range(1 if shape[3] > 32 else 3)
    for layout in layouts:
        lay_out(layout)
        within_rule([draw(cell, shape, torch.float32, seed, bias=False) for seed in seeds])


@pytest.mark.parametrize("layout", [HALVES, EIGHT], ids=["columns", "narrow"])
def test_bfloat16_is_near(cell, layout, lay_out, resets):
    """The interpreter truncates float32 to bfloat16 where a GPU rounds, so only twice the error may be required."""
    lay_out(layout)
    mine, plain, *oracles = draw(cell, (5, 3, 6, 24), torch.bfloat16, 0, reset=resets(5, 3))
    for name, expected in oracles[0].items():
        scale, pairs = expected.square().mean().sqrt(), ((mine, oracles[0]), (plain, oracles[-1]))
        error, allowed = ((each[name].double() - exact[name]).abs().max() / scale for each, exact in pairs)
        assert error <= 4 * allowed + 8 * torch.finfo(torch.bfloat16).eps, name


def test_layouts_agree(cell, lay_out, resets):
    """Rows in groups or in separate launches, and units in columns, give the same results."""
    tensors, mask = cell.layer(20, 2, 5, 30, dtype=torch.float32), resets(20, 2)
    results = []
    for layout in (ONE, GROUPS):
        lay_out(layout)
        results.append(cell.results(cell.function, tensors, backend="triton", reset=mask))
    for other in results[1:]:
        for name, value in other.items():
            torch.testing.assert_close(value, results[0][name], rtol=2e-5, atol=2e-5, msg=name)


def test_only_needed_gradients_are_computed(cell, lay_out):
    lay_out(ONE)
    tensors = cell.layer(3, 2, 3, 5, dtype=torch.float32)
    expected = cell.results(cell.function, tensors, backend="triton")
    names = [name for name in expected if name.startswith("d")]
    for k, name in enumerate(names):
        frozen = [x if j == k else x.detach() for j, x in enumerate(tensors)]
        outputs = cell.function(*frozen, backend="triton", **cell.options)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]
        (gradient,) = torch.autograd.grad(outputs, [tensors[k]], weights)
        assert torch.equal(gradient, expected[name]), name


def test_nan_propagates_until_a_reset(cell, lay_out):
    for layout in (ONE, HALVES, STEPS):
        lay_out(layout)
        x, *rest = (tensor.detach() for tensor in cell.layer(3, 6, 3, 20, dtype=torch.float32))
        x[2, 1, 0], x[2, 2, 0] = torch.nan, torch.inf
        mask = torch.zeros(6, 3, dtype=torch.bool)
        mask[4, 1] = True
        outputs = cell.function(x, *rest, reset=mask, backend="triton", **cell.options)
        h = outputs[0] if isinstance(outputs, tuple) else outputs
        assert h[:2].isfinite().all() and h[4:, 1].isfinite().all() and h[:, 0].isfinite().all()
        assert h[2:4, 1].isnan().all()
        # Infinity has the same results as in plain torch: the limits of the activations, or NaN.
        expected = cell.reference(x, *rest, reset=mask, **cell.options)
        expected = expected[0] if isinstance(expected, tuple) else expected
        torch.testing.assert_close(h, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_gradients_of_unaffected_rows_stay_finite(cell, lay_out):
    """Backward terminates, and a row's NaN or infinity does not reach the gradients of any other row."""
    for layout in (ONE, STEPS):
        lay_out(layout)
        x, *rest = cell.layer(3, 3, 3, 20, dtype=torch.float32)
        gradients = []
        for spoilt in (False, True):
            given = x.detach().clone()
            if spoilt:
                given[1, 1, 0], given[2, 2, 0] = torch.nan, torch.inf
            given.requires_grad_()
            outputs = cell.function(given, *rest, backend="triton", **cell.options)
            h = outputs[0] if isinstance(outputs, tuple) else outputs
            gradients.append(torch.autograd.grad(h.square().sum(), [given, *rest[: len(cell.states)]]))
        (clean, *_), (dx, *of_states) = gradients
        torch.testing.assert_close(dx[:, 0], clean[:, 0])
        assert dx[:, 0].isfinite().all() and all(state[0].isfinite().all() for state in of_states)
        assert not dx[:2, 1].isfinite().all()


def test_noncontiguous_inputs_give_the_same_results(cell, lay_out):
    lay_out(ONE)
    x, *rest = cell.layer(3, 2, 3, 20, dtype=torch.float32)
    expected = cell.results(cell.function, [x, *rest], backend="triton")
    strided = [torch.stack((a.detach(), a.detach()), dim=-1)[..., 0].requires_grad_() for a in (x, *rest)]
    for name, value in cell.results(cell.function, strided, backend="triton").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_transposed_input_gives_the_same_gradients(cell, lay_out):
    """Inputs in batch-major layout, dense as they are, get the same gradients as time-major ones."""
    lay_out(ONE)
    x, *rest = cell.layer(3, 3, 5, 20, dtype=torch.float32)
    expected = cell.results(cell.function, [x, *rest], backend="triton")
    turned = x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    assert turned.stride() != x.stride()
    for name, value in cell.results(cell.function, [turned, *rest], backend="triton").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_batch_first_module(cell):
    turned = cell.module(3, 4, 2, batch_first=True, backend="triton", **cell.options)
    oracle = cell.module(3, 4, 2, batch_first=True, backend="reference", **cell.options)
    oracle.load_state_dict(turned.state_dict())
    x, dy = torch.randn(2, 5, 3), torch.randn(2, 5, 4)
    gradients = []
    for module in (turned, oracle):
        leaf = x.clone().requires_grad_()
        y = module(leaf)[0]
        gradients.append([y, *torch.autograd.grad(y, [leaf, *module.parameters()], dy)])
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_opcheck(cell, resets):
    tail = {"lstm": (True,), "gru": (cell.options.get("reset_after", True), True)}.get(cell.name)
    tail = tail or (cell.options.get("nonlinearity", "tanh"),)
    x, *rest = cell.layer(2, 3, 3, 4, dtype=torch.float32)
    x = x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    torch.library.opcheck(cell.operator, (x, *rest, resets(2, 3), *tail, "triton"))


def test_module_runs_the_kernels(cell, monkeypatch):
    module = cell.module(3, 4, 2, bidirectional=True, **cell.options)
    forced = cell.module(3, 4, 2, bidirectional=True, backend="triton", **cell.options)
    forced.load_state_dict(module.state_dict())
    runs = []
    real = fused.layer_plan
    target = importlib.import_module(f"gatescope.kernels.{cell.name}_fused")
    monkeypatch.setattr(target, "layer_plan", lambda *args, **options: runs.append(1) or real(*args, **options))
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(forced(x)[0], module(x)[0], rtol=1e-5, atol=1e-6)
    assert len(runs) == 4
