"""Modules on a GPU in every form: values, captures and gradients against plain torch and the oracle in float64."""

from contextlib import nullcontext

import pytest
import torch
from rectifier import SlopesOf, steps_of
from torch.nn.utils.rnn import pack_padded_sequence

pytestmark = pytest.mark.cuda

B, T, I, H = 24, 60, 20, 96
LENGTHS = [T, *range(1, B)]
FORMS = {
    "plain": {},
    "3-layers": {"num_layers": 3},
    "no-bias": {"num_layers": 2, "bias": False},
    "batch-first": {"num_layers": 2, "batch_first": True},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "wide": {"num_layers": 2, "hidden_size": 256},
}


def results(cell, form, backend, dtype, seed, packs, autocast=None):
    """Outputs, final states, captures and all gradients, for one draw of numbers that 16 bits represent exactly."""
    options = {"input_size": I, "hidden_size": H, "num_layers": 1} | form
    torch.manual_seed(seed)
    module = cell.module(**options, **cell.options, backend=backend)
    hidden, n_states = module.hidden_size, module.num_layers * (2 if module.bidirectional else 1)
    x = torch.randn((B, T, I) if module.batch_first else (T, B, I))
    states = [torch.randn(n_states, B, hidden) for _ in cell.states]
    reset = torch.rand(T, B) < 0.1
    module.load_state_dict({name: p.bfloat16().float() for name, p in module.state_dict().items()})
    module.to("cuda", dtype)
    leaves = [t.bfloat16().to("cuda", dtype).requires_grad_() for t in (x, *states)]
    given = pack_padded_sequence(leaves[0], LENGTHS, module.batch_first, enforce_sorted=False) if packs else leaves[0]
    with torch.autocast("cuda", autocast, enabled=autocast is not None):
        state = tuple(leaves[1:]) if len(states) > 1 else leaves[1]
        y, final, captures = module(given, state, capture=cell.outputs, reset=reset.cuda())
    outputs = {"y": y.data if packs else y} | captures
    outputs |= dict(zip(("last h", "last c"), final if isinstance(final, tuple) else (final,), strict=False))
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs.values()]
    gradients = torch.autograd.grad(list(outputs.values()), [*leaves, *module.parameters()], weights)
    return outputs | {f"gradient {k}": gradient for k, gradient in enumerate(gradients)}


def judged(cell, form, seed, packs, mine, plain):
    """Results and those of a yardstick, with the oracle in float64; for a rectifier, an oracle for each."""
    oracles = []
    for found in (mine, plain)[: 1 + cell.jumps]:
        steps = steps_of(found["h"], form.get("bidirectional"), LENGTHS if packs else None)
        with SlopesOf(steps) if cell.jumps else nullcontext():
            oracles.append(results(cell, form, "reference", torch.float64, seed, packs))
    return mine, plain, *oracles


def draw(cell, form, dtype, seed, packs):
    mine, plain = (results(cell, form, backend, dtype, seed, packs) for backend in (None, "reference"))
    return judged(cell, form, seed, packs, mine, plain)


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("packs", [False, True], ids=["whole", "packed"])
@pytest.mark.parametrize("form", FORMS)
def test_within_rule(cell, form, packs, within_rule):
    within_rule([draw(cell, FORMS[form], torch.float16, seed, packs) for seed in range(2)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_other_dtypes_within_rule(cell, dtype, within_rule):
    within_rule([draw(cell, FORMS["3-layers"], dtype, seed, False) for seed in range(2)])


@pytest.mark.parametrize("form", ["3-layers", "bidirectional"])
def test_autocast_within_rule(cell, form, within_rule):
    """Layers in float32 under autocast give the results of layers in bfloat16, with gradients in float32."""
    draws = []
    for seed in range(2):
        mine = results(cell, FORMS[form], None, torch.float32, seed, False, torch.bfloat16)
        plain = results(cell, FORMS[form], "reference", torch.bfloat16, seed, False)
        assert mine["y"].dtype == torch.bfloat16
        assert all(value.dtype == torch.float32 for name, value in mine.items() if name.startswith("gradient"))
        plain = {name: value.to(mine[name].dtype) for name, value in plain.items()}
        draws.append(judged(cell, FORMS[form], seed, False, mine, plain))
    # Gradients are sums of values rounded to bfloat16, whatever dtype they are returned in.
    for mine, plain, *_ in draws:
        for part in (mine, plain):
            part.update({name: value.bfloat16() for name, value in part.items()})
    within_rule(draws)
