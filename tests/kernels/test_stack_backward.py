"""stack.py: what backward keeps of a sequence, and what may change before it."""

import pytest
import torch
from stacks import B, H, I, T, as_state, captured, flat, inputs


@pytest.mark.parametrize("backend", ["loop", "triton"])
def test_captures_of_one_layer_share_storage_with_saved_tensors(cell, backend):
    """Not copies: the storage of a capture is among those that autograd keeps."""
    if backend == "triton":
        pytest.importorskip("triton")
    kept = set()
    module = cell.module(I, H, backend=backend, **cell.options)
    x = torch.randn(T, B, I, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.add(t.untyped_storage().data_ptr()) or t, lambda t: t):
        y, _, states = captured(cell, module, x)
    for name in cell.outputs:
        assert states[name].untyped_storage().data_ptr() in kept, name
    assert states["h"].data_ptr() == y.data_ptr()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("backend", ["loop", "triton"])
def test_an_input_is_saved_only_if_its_weight_is_trained(cell, backend, layers):
    if backend == "triton":
        pytest.importorskip("triton")
    module = cell.module(I, H, layers, backend=backend, **cell.options)
    # Enough steps for a compiled walk on the CPU.
    x = torch.randn(20, 2, I)

    def run():
        kept = set()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: kept.add(t.untyped_storage().data_ptr()) or t, lambda t: t
        ):
            y, _ = module(x)
        gradients = torch.autograd.grad(y.square().sum(), [module.weight_hh_l0, module.bias_ih_l0])
        return x.data_ptr() in kept, gradients

    trained, expected = run()
    module.weight_ih_l0.requires_grad_(False)
    frozen, gradients = run()
    assert trained and not frozen
    assert all(map(torch.equal, gradients, expected))


@pytest.mark.parametrize("steps", [T, 20], ids=["few-rows", "many-rows"])
def test_memory_can_be_resized_afterwards(cell, steps):
    """That of inputs, as FSDP resizes weights, and that of results; a NumPy view of it would forbid it."""
    module = cell.module(I, H, 2, backend="loop", **cell.options)
    x, *states = inputs(cell, module.double(), batch=2)
    x = x.detach()[:1].repeat(steps, 1, 1)
    given = [x, *states, torch.rand(steps, 2) < 0.2]
    y, state, captures = module(x, as_state(states), cell.outputs, given[-1])
    upstream = torch.ones_like(y)
    y.backward(upstream)
    for each in (*given, *module.parameters(), *flat((y, state)), *captures.values(), upstream):
        assert each.untyped_storage().resizable()


@pytest.mark.parametrize("steps", [2, 20])
def test_tensors_that_backward_does_not_read_may_change(peered, steps):
    if peered.name == "lstm":
        pytest.skip("torch.nn's refuses it, too")
    theirs, x = peered.peer(I, H, **peered.options), torch.randn(steps, B, I)
    mine = peered.module(I, H, **peered.options)
    mine.load_state_dict(theirs.state_dict())
    for module in (mine, theirs):
        y = module(x)[0]
        with torch.no_grad():
            module.weight_ih_l0.mul_(0.9)
        y.sum().backward()
    for module in (mine, theirs):
        given = x.clone()
        module.weight_ih_l0.requires_grad_(False)
        y = module(given)[0]
        given.zero_()
        y.sum().backward()
    for name, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(theirs, name).grad)
    x.requires_grad_()
    y = mine(x)[0]
    with torch.no_grad():
        mine.weight_ih_l0.mul_(0.9)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("backend", [None, "loop"])
def test_the_gradient_of_an_output_leaves_out_that_of_the_final_state(peered, form, backend):
    """As torch.nn's, so that a hook on an output, or its kept gradient, is about the output alone."""
    module, x = peered.module(I, H, backend=backend, **peered.options, **form), torch.randn(T, B, I)
    y, *states = flat(module(x))
    dy = torch.randn(y.shape)
    (found,) = torch.autograd.grad([y, *states], y, [dy, *map(torch.ones_like, states)])
    assert torch.equal(found, dy)


def test_outputs_may_be_changed_in_place(peered):
    """As torch.nn's: if they carry no gradients, they are detached, and changed by later operations."""
    module, x = peered.module(I, H, backend="loop", **peered.options), torch.randn(T, B, I)
    with torch.no_grad():
        y = module(x)[0].detach_()
        assert torch.equal(y.clone().neg_(), y.neg_())
