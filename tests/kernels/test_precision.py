"""precision.py: layers in float32 multiply as torch.nn's do, whichever switch is used."""

from types import SimpleNamespace

import pytest
import torch

from gatescope.kernels.precision import (
    float32_products,
    float32_products_as_cudnn,
    recurrent_float32,
    recurrent_precision,
)

ON_A_GPU = SimpleNamespace(is_cuda=True, dtype=torch.float32)


@pytest.fixture(autouse=True)
def as_it_was():
    products, allowed = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.fp32_precision = products
    # The older switch sets the newer ones, too; if they differed, torch would refuse to read it.
    torch.backends.cudnn.allow_tf32 = allowed
    assert torch.backends.cudnn.allow_tf32 == allowed and torch.backends.cuda.matmul.allow_tf32 == (products == "tf32")


def test_tf32_by_default_as_torch_nn():
    assert torch.backends.cudnn.allow_tf32
    assert recurrent_precision() == "tf32"


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("of_products", ["tf32", "ieee"])
def test_the_switch_of_recurrent_layers_decides(allowed, of_products):
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.fp32_precision = of_products
    assert recurrent_precision() == ("tf32" if allowed else "ieee")
    with pytest.raises(KeyError), float32_products_as_cudnn(ON_A_GPU):
        assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if allowed else "ieee")
        raise KeyError
    assert torch.backends.cuda.matmul.fp32_precision == of_products


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_the_newer_switch_has_the_same_effect(precision):
    torch.backends.cudnn.rnn.fp32_precision = precision
    assert recurrent_precision() == precision


@pytest.mark.parametrize("x", [torch.zeros(1), SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)])
def test_other_products_keep_their_precision(x):
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    with float32_products_as_cudnn(x):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_products_have_the_requested_precision_inside_the_block_only(precision):
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    with pytest.raises(KeyError), float32_products(precision):
        assert torch.backends.cuda.matmul.fp32_precision == precision
        raise KeyError
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


@pytest.mark.cuda
@pytest.mark.parametrize("layers", [1, 2])
def test_errors_match_the_precision_of_the_switch(cell, layers):
    """TF32 keeps 10 bits of a factor's fraction, float32 23."""
    torch.manual_seed(0)
    module = cell.module(64, 128, layers, device="cuda", **cell.options)
    oracle = cell.module(64, 128, layers, device="cuda", dtype=torch.float64, backend="loop", **cell.options)
    oracle.load_state_dict(module.state_dict())
    x, errors = torch.randn(20, 32, 64, device="cuda"), []
    for allowed in (True, False):
        torch.backends.cudnn.allow_tf32 = allowed
        leaf = x.clone().requires_grad_()
        expected = oracle(x.double().requires_grad_())[0]
        y = module(leaf)[0]
        found = [y, *torch.autograd.grad(y.sum(), [leaf, *module.parameters()])]
        assert all(value.isfinite().all() for value in found)
        errors.append((y.double() - expected).abs().max().item())
    assert errors[1] < 2e-5 < errors[0] < 2e-2


def test_a_layer_inside_the_switch_does_not_deadlock():
    with float32_products("ieee"), float32_products_as_cudnn(ON_A_GPU):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_layers_multiply_in_full_float32_inside_the_block():
    before = torch.backends.cudnn.rnn.fp32_precision
    with pytest.raises(KeyError), recurrent_float32():
        assert recurrent_precision() == "ieee"
        with recurrent_float32():
            assert recurrent_precision() == "ieee"
        assert recurrent_precision() == "ieee"
        raise KeyError
    assert torch.backends.cudnn.rnn.fp32_precision == before and recurrent_precision() == "tf32"
