"""products.py: layers in bfloat16 as they run on a processor with native bfloat16 products."""

from contextlib import nullcontext

import pytest
import torch
from rectifier import SlopesOf, steps_of
from torch.utils._python_dispatch import TorchDispatchMode

from gatescope.kernels import gru_loop, lstm_loop, products, rnn_loop, steps_host

PRODUCTS = ("mm", "addmm", "addmm_", "bmm")
ACTIVATIONS = ("sigmoid_", "tanh_", "tanh", "relu_", "lerp", "addcmul", "addcmul_")


@pytest.fixture
def native(monkeypatch):
    """Make products run in bfloat16 here; this processor lacks only the speed."""
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: True)


class Dtypes(TorchDispatchMode):
    """The dtypes of the first factors of all products, and of the activations' arguments."""

    def __init__(self):
        super().__init__()
        self.multiplied, self.activated = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            self.multiplied.append(args[1 if name.startswith("addmm") else 0].dtype)
        if name in ACTIVATIONS:
            self.activated.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def seen(monkeypatch):
    """The operations of the time loops, which their operators hide."""
    seen = Dtypes()

    def watched(real):
        def run(*args):
            with seen:
                return real(*args)

        return run

    for name, module in (("lstm", lstm_loop), ("gru", gru_loop), ("rnn", rnn_loop)):
        for function in (f"{name}_forward", f"{name}_backward"):
            monkeypatch.setattr(module, function, watched(getattr(module, function)))
    for name in ("gru_state", "lstm_state"):
        monkeypatch.setattr(steps_host, name, noted(seen, getattr(steps_host, name)))
    return seen


def noted(seen, real):
    """A compiled pass that records the dtype of what it activates."""

    def run(a, *rest):
        seen.activated.append(torch.from_numpy(a).dtype)
        real(a, *rest)

    return run


def draw(cell, shape, seed, **options):
    """The results of the loop, of a plain program in bfloat16 and of the oracle, for one draw of the inputs."""
    tensors = cell.layer(*shape, dtype=torch.bfloat16, seed=seed)
    plain = cell.results(cell.reference, tensors, **options)
    return cell.judged(cell.results(cell.function, tensors, **options), plain, tensors, **options)


@pytest.mark.parametrize("shape", [(3, 21, 6, 10), (2, 33, 7, 100), (1, 1, 3, 4)], ids=["small", "wide", "one-step"])
def test_bfloat16_within_rule(cell, shape, native, within_rule, resets):
    within_rule([draw(cell, shape, seed, reset=resets(*shape[:2])) for seed in range(4)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
def test_only_products_are_bfloat16(cell, dtype, native, seen, resets, monkeypatch):
    # In float32, too, these count as few rows, whose products are operators.
    monkeypatch.setattr(products, "FEW_ROWS", 1000)
    cell.results(cell.function, cell.layer(3, 20, 6, 10, dtype=dtype), reset=resets(3, 20))
    # Products of the input, of every step forward and backward, and of a block's gradients.
    assert len(seen.multiplied) >= 2 * 20 + 4 and set(seen.multiplied) == {dtype}
    assert len(seen.activated) >= 20 and set(seen.activated) == {torch.float32}


def test_products_are_float32_without_bfloat16_hardware(cell, seen, monkeypatch):
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: False)
    cell.results(cell.function, cell.layer(3, 5, 6, 10, dtype=torch.bfloat16))
    assert set(seen.multiplied) == {torch.float32}


def test_autocast_and_captures_of_modules(cell, native, seen, within_rule):
    """Two layers in both directions under autocast: outputs, every capture, and the gradients of x and all weights."""

    def results(backend, dtype, autocast, seed):
        torch.manual_seed(seed)
        module = cell.module(5, 8, 2, bidirectional=True, backend=backend, **cell.options)
        module.load_state_dict({name: p.bfloat16().float() for name, p in module.state_dict().items()})
        x = torch.randn(19, 3, 5).bfloat16().to(dtype).requires_grad_()
        module.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, _, captures = module(x, capture=cell.outputs)
        outputs = [y, *captures.values()]
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
        gradients = torch.autograd.grad(outputs, [x, *module.parameters()], weights)
        return {str(k): value.detach() for k, value in enumerate((*outputs, *gradients))}

    def oracle(seed, found):
        with SlopesOf(steps_of(found["1"], bidirectional=True)) if cell.jumps else nullcontext():
            return results("reference", torch.float64, False, seed)

    draws = []
    for seed in range(4):
        mine = results("loop", torch.float32, True, seed)
        plain = results("reference", torch.bfloat16, False, seed)
        plain = {name: value.to(mine[name].dtype) for name, value in plain.items()}
        draws.append((mine, plain, *(oracle(seed, each) for each in (mine, plain)[: 1 + cell.jumps])))
    assert set(seen.multiplied) == {torch.bfloat16}
    within_rule(draws)


def test_blocks_are_summed_in_float32(native):
    """A sum in bfloat16 would stay at 256."""
    x, weight, one = (torch.ones(shape, dtype=torch.bfloat16) for shape in ((300, 1, 1), (1, 1), (1, 1, 1)))
    gradients = products.Gradients(*products.factors(x, weight, weight), (True,) * 4, 1)
    for t in range(300):
        gradients.of_input(slice(t, t + 1), one.float())
        gradients.of_recurrence(one.float(), one.float())
        gradients.of_biases(one.float())
    assert (gradients.w_ih, gradients.w_hh, gradients.sums) == (300, 300, 300)
    assert gradients.x.dtype == torch.bfloat16 and gradients.x.eq(1).all()


def test_onednn_is_not_called_if_torch_lacks_it(cell, monkeypatch):
    module, x = cell.module(5, 6, dtype=torch.bfloat16, **cell.options), torch.randn(4, 3, 5).bfloat16()
    expected = module(x)[0]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    # The operators that it registers are missing, too.
    monkeypatch.setitem(vars(torch.ops), "mkldnn", None)
    torch.testing.assert_close(module(x)[0], expected, rtol=2**-6, atol=2**-6)


def test_processor_support_is_a_constant_under_torch_compile():
    """The compiler cannot trace the check."""
    answer = products.onednn_multiplies_bfloat16
    assert torch.compile(lambda x: x + answer(), fullgraph=True, backend="aot_eager")(torch.zeros(1)) == answer()
