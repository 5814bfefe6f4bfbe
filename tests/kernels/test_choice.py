"""Drawing characters against the softmax, in torch and compiled for the CPU."""

import pytest
import torch
from scipy import stats

from gatescope.kernels.choice import LEAST_TEMPERATURE, choose, distribution, keep_likely
from gatescope.kernels.choice_host import cut_rows, pick_rows, weigh_rows
from gatescope.kernels.philox import uniform


def chosen(logits, random, temperature, top_k=0, top_p=1.0):
    """The characters that the compiled passes draw."""
    weights, ids = torch.empty_like(logits), torch.full((len(logits),), -1)
    values = logits.contiguous().numpy()
    weigh_rows(values, values.dtype.type(temperature), weights.numpy())
    cut_rows(weights.numpy(), top_k, float(top_p))
    pick_rows(weights.numpy(), random.numpy(), ids.numpy())
    return ids


either = pytest.mark.parametrize("draw", [choose, chosen], ids=["torch", "compiled"])


@either
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_choices_follow_the_softmax(draw, temperature):
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0))
    n = 100_000
    drawn = draw(logits.expand(n, -1), uniform(1, torch.arange(n), torch.arange(1))[0], temperature)
    expected = torch.softmax(logits.double() / temperature, dim=0) * n
    assert stats.chisquare(torch.bincount(drawn, minlength=12).numpy(), expected.numpy()).pvalue > 1e-3


@either
def test_a_number_on_a_boundary_takes_the_later_character(draw):
    logits = torch.zeros(5, 4)  # cumulative probabilities .25 .5 .75 1
    random = torch.tensor([1e-12, 0.25 - 1e-12, 0.25, 0.5, 1 - 1e-12], dtype=torch.float64)
    assert draw(logits, random, 1.0).tolist() == [0, 0, 1, 2, 3]
    never = torch.tensor([[0.0, -float("inf"), 0.0]]).expand(2, -1)
    assert draw(never, torch.tensor([0.5, 0.4999], dtype=torch.float64), 1.0).tolist() == [2, 0]


@either
def test_truncated_characters_are_never_chosen(draw):
    logits = torch.zeros(3, 8)
    logits[:, 5:] = -30.0
    random = torch.full((3,), 1 - 2.0**-33, dtype=torch.float64)
    assert draw(logits, random, 1.0, top_k=4).tolist() == [4] * 3
    assert draw(logits, random, 1.0, top_p=0.5).tolist() == [2] * 3
    assert draw(logits, random, 1.0, top_k=8, top_p=1.0).tolist() == [4] * 3
    assert draw(logits, random, 1.0, top_p=5e-324).tolist() == [0] * 3


@either
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_logits_draw_no_character(draw, value):
    logits = torch.zeros(4, 8)
    logits[1, 2] = logits[3, 0] = value
    random = torch.full((4,), 0.99, dtype=torch.float64)
    for cut in ({}, {"top_k": 3, "top_p": 0.5}):
        assert ((draw(logits, random, 1.0, **cut) == 8) == torch.tensor([False, True, False, True])).all()


@either
def test_the_lowest_temperature_picks_the_most_probable(draw):
    logits = torch.randn(64, 23, generator=torch.Generator().manual_seed(3))
    random = torch.rand(64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(draw(logits, random, LEAST_TEMPERATURE), logits.argmax(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 6.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (1, 1.0), (0, 0.7), (5, 0.53), (0, 1e-9)])
def test_compiled_choices_equal_torch_up_to_rounding(dtype, spread, top_k, top_p):
    generator = torch.Generator().manual_seed(1)
    logits = spread * torch.randn(4096, 23, generator=generator).to(dtype)
    logits[:2048] = logits[:2048].round()  # with many equals among them
    random = torch.rand(4096, generator=generator, dtype=torch.float64)
    drawn, expected = chosen(logits, random, 0.9, top_k, top_p), choose(logits, random, 0.9, top_k, top_p)
    p = distribution(logits.double(), 0.9, top_k, top_p)
    clear = (p.cumsum(1) / p.sum(1, keepdim=True) - random[:, None]).abs().min(dim=1).values > 1e-6
    if top_p < 1:
        # Nor may the set of kept characters depend on the last bits of a sum.
        ordered = distribution(logits.double(), 0.9, top_k).sort(dim=1, descending=True).values
        clear &= (ordered.cumsum(1) / ordered.sum(1, keepdim=True) - top_p).abs().min(dim=1).values > 1e-6
    assert clear.double().mean() > 0.99
    assert torch.equal(drawn[clear], expected[clear])


@pytest.mark.parametrize("top_p", [1.0, 0.999, 0.5, 0.25, 1e-9])
@pytest.mark.parametrize("top_k", [0, 1, 3, 20])
def test_in_place_truncation_matches_torch(top_k, top_p):
    weights = torch.rand(200, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights[:50] = (weights[:50] * 4).ceil() / 4  # some are equal
    weights[50:60, 3] = float("nan")
    expected = keep_likely(weights, top_k, top_p)
    found = weights.clone()
    cut_rows(found.numpy(), top_k, top_p)
    # A row with a NaN has no characters to draw, whatever is cut from it.
    assert torch.equal(found[:50], expected[:50]) and torch.equal(found[60:], expected[60:])
    assert found[50:60].isnan().any(dim=1).all()
