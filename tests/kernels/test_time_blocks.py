"""time_blocks.py and the time loops built on it: every cell's functional form against its reference."""

import pytest
import torch

SHAPES = [(2, 63, 7, 100), (64, 32, 8, 8), (1, 1, 3, 4), (1, 17, 5, 6), (3, 1, 2, 5), (5, 16, 8, 8), (4, 33, 1, 2)]
IDS = [f"B{b}-T{t}-I{i}-H{h}" for b, t, i, h in SHAPES]


def draw(cell, shape, dtype, seed, **options):
    """The results of the loop, of a plain program of its precision and of the oracle, for one draw of the inputs."""
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


def test_whole_and_partial_blocks_equal_the_reference(cell, equal_but_for_rounding):
    """T on either side of a whole number of blocks of steps, with and without saving for backward."""
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


def test_only_needed_gradients_are_computed(cell):
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


def test_gradient_of_a_single_output_equals_the_reference(cell, equal_but_for_rounding):
    tensors = cell.layer(2, 6, 3, 4)
    for k, name in enumerate(cell.outputs):
        mine, expected = (run(*tensors, **cell.options) for run in (cell.function, cell.reference))
        mine, expected = (o if isinstance(o, tuple) else (o,) for o in (mine, expected))
        gradients = [torch.autograd.grad(o[k].square().sum(), tensors, allow_unused=True) for o in (mine, expected)]
        for gradient, other in zip(*gradients, strict=True):
            zero = torch.zeros(())
            equal_but_for_rounding(name, gradient, zero.expand_as(gradient).double() if other is None else other, 500)


def test_strided_and_expanded_inputs_give_the_same_results(cell, equal_but_for_rounding):
    x, *rest = cell.layer(2, 9, 3, 4)
    expected = cell.results(cell.function, [x, *rest])
    strided = [torch.stack((a.detach(), a.detach()), dim=-1)[..., 0].requires_grad_() for a in (x, *rest)]
    for name, value in cell.results(cell.function, strided).items():
        equal_but_for_rounding(name, value, expected[name], 9 * 7)
    # The gradient of a sum reaches the layer as one number expanded to every entry.
    h = cell.function(x, *rest, **cell.options)
    h = h[0] if isinstance(h, tuple) else h
    (summed,) = torch.autograd.grad(h.sum(), [x], retain_graph=True)
    (expected_sum,) = torch.autograd.grad(h, [x], torch.ones_like(h))
    assert torch.equal(summed, expected_sum)


def test_nan_propagates_until_a_reset(cell, equal_but_for_rounding):
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


def test_an_infinite_state_leaves_other_rows_finite(cell):
    x, h0, *rest = (tensor.detach() for tensor in cell.layer(3, 8, 3, 4))
    h0[2] = torch.inf
    h = cell.function(x, h0, *rest, **cell.options)
    h = h[0] if isinstance(h, tuple) else h
    assert h[:, :2].isfinite().all()
    assert h.shape == (8, 3, 4)


@pytest.mark.parametrize("steps", [5, 40])
@pytest.mark.parametrize(("width", "hidden"), [(0, 4), (3, 0)], ids=["no-features", "no-units"])
def test_dimensions_of_size_zero_equal_the_reference(cell, width, hidden, steps, equal_but_for_rounding):
    """If the input has no features, the biases and the recurrence remain."""
    tensors = cell.layer(2, steps, width, hidden)
    expected = cell.results(cell.reference, tensors)
    for name, value in cell.results(cell.function, tensors).items():
        assert value.shape == expected[name].shape
        if value.numel():
            equal_but_for_rounding(name, value, expected[name], 200)
