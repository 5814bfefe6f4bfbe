"""Choices, random numbers and scores inside kernels, in Triton's interpreter, against the CPU's and the softmax."""

import pytest
import torch
from scipy import stats

pytest.importorskip("triton")

import triton
import triton.language as tl

from gatescope.kernels.choice import LEAST_TEMPERATURE, choose, distribution
from gatescope.kernels.philox import uniform
from gatescope.kernels.sample_choice import choose as choose_in_kernel
from gatescope.kernels.sample_choice import scores as scores_in_kernel
from gatescope.kernels.sample_choice import uniform as uniform_in_kernel

ROWS = 4096


@triton.jit
def _choose_kernel(
    logits_ptr,
    u_ptr,
    out_ptr,
    temperature,
    top_k,
    top_p,
    V: tl.constexpr,
    BLOCK_V: tl.constexpr,
    ROWS: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o_v = tl.arange(0, BLOCK_V)[None, :]
    logits = tl.load(logits_ptr + row[:, None] * V + o_v, mask=o_v < V, other=-float("inf"))
    drawn = choose_in_kernel(logits, tl.load(u_ptr + row), temperature, top_k, top_p, V, TOP_K, TOP_P)
    tl.store(out_ptr + row, drawn)


@triton.jit
def _uniform_kernel(seed, sequence_ptr, out_ptr, step, ROWS: tl.constexpr):
    row = tl.arange(0, ROWS)
    tl.store(out_ptr + row, uniform_in_kernel(seed, tl.load(sequence_ptr + row), step))


@triton.jit
def _scores_kernel(logits_ptr, token_ptr, p_ptr, e_ptr, V: tl.constexpr, BLOCK_V: tl.constexpr, ROWS: tl.constexpr):
    row, o_v = tl.arange(0, ROWS), tl.arange(0, BLOCK_V)[None, :]
    logits = tl.load(logits_ptr + row[:, None] * V + o_v, mask=o_v < V, other=-float("inf"))
    log_probability, entropy = scores_in_kernel(logits, tl.load(token_ptr + row))
    tl.store(p_ptr + row, log_probability)
    tl.store(e_ptr + row, entropy)


def drawn_in_kernel(logits, u, temperature, top_k=0, top_p=1.0, rows=ROWS):
    n, V = logits.shape
    out = torch.zeros(n, dtype=torch.int32)
    arguments = (logits.contiguous(), u, out, temperature, top_k, top_p, V, triton.next_power_of_2(V), rows)
    _choose_kernel[(n // rows,)](*arguments, TOP_K=top_k > 0, TOP_P=top_p < 1)
    return out.long()


def test_choices_follow_the_softmax():
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0))
    n = 25 * ROWS  # 102,400
    drawn = drawn_in_kernel(logits.expand(n, -1), uniform(1, torch.arange(n), torch.arange(1))[0], 0.7)
    expected = torch.softmax(logits.double() / 0.7, dim=0) * n
    assert stats.chisquare(torch.bincount(drawn, minlength=12).numpy(), expected.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("spread", [1.0, 6.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (1, 1.0), (0, 0.7), (5, 0.53), (0, 1e-9)])
def test_choices_equal_the_cpu_up_to_rounding(top_k, top_p, spread):
    generator = torch.Generator().manual_seed(1)
    logits = spread * torch.randn(ROWS, 23, generator=generator)
    logits[: ROWS // 2] = logits[: ROWS // 2].round()  # with many equals among them
    u = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    drawn, expected = drawn_in_kernel(logits, u, 0.9, top_k, top_p), choose(logits, u, 0.9, top_k, top_p)
    p = distribution(logits, 0.9, top_k, top_p).double()
    borders = p.cumsum(1) / p.sum(1, keepdim=True)
    clear = (borders - u[:, None]).abs().min(dim=1).values > 1e-6
    if top_p < 1:
        # Nor may the set of kept characters depend on the last bits of a sum.
        ordered = distribution(logits, 0.9, top_k).double().sort(dim=1, descending=True).values
        share = ordered.cumsum(1) / ordered.sum(1, keepdim=True)
        clear &= (share - top_p).abs().min(dim=1).values > 1e-6
    assert clear.double().mean() > 0.99
    assert torch.equal(drawn[clear], expected[clear])


def test_a_number_on_a_boundary_takes_the_later_character():
    u = torch.tensor([1e-12, 0.25 - 1e-12, 0.25, 0.5, 1 - 1e-12, 0.75, 0.75 - 1e-12, 0.1], dtype=torch.float64)
    assert drawn_in_kernel(torch.zeros(8, 4), u, 1.0, rows=8).tolist() == [0, 0, 1, 2, 3, 3, 2, 0]


def test_truncated_characters_are_never_chosen():
    logits = torch.zeros(16, 8)
    logits[:, 5:] = -30.0
    u = torch.full((16,), 1 - 2.0**-33, dtype=torch.float64)
    assert drawn_in_kernel(logits, u, 1.0, top_k=4, rows=16).tolist() == [4] * 16
    assert drawn_in_kernel(logits, u, 1.0, top_p=0.5, rows=16).tolist() == [2] * 16
    never = torch.full((16, 3), -float("inf"))
    never[:, 1] = 0
    assert drawn_in_kernel(never, u, 1.0, rows=16).tolist() == [1] * 16


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_logits_draw_no_character(value):
    logits = torch.zeros(16, 8)
    logits[3, 2] = logits[7, 0] = value
    u = torch.full((16,), 0.99, dtype=torch.float64)
    wrong = torch.zeros(16, dtype=torch.bool)
    wrong[[3, 7]] = True
    assert torch.equal(drawn_in_kernel(logits, u, 1.0, rows=16) == -1, wrong)
    assert torch.equal(drawn_in_kernel(logits, u, 1.0, top_k=3, top_p=0.5, rows=16) == -1, wrong)
    assert torch.equal(choose(logits, u, 1.0) == 8, wrong)


def test_the_lowest_temperature_picks_the_most_probable():
    logits = torch.randn(64, 23, generator=torch.Generator().manual_seed(3))
    u = torch.rand(64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(drawn_in_kernel(logits, u, LEAST_TEMPERATURE, rows=64), logits.argmax(dim=1))
    assert torch.equal(choose(logits, u, 1e-40), logits.argmax(dim=1))


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**63 + 11])
def test_numbers_equal_philox(seed):
    sequences = torch.tensor([0, 1, 2**31, 2**32 + 3, 2**40 + 2**33, 99, 5, 2**32 - 1])
    out, signed = torch.zeros(8, dtype=torch.float64), seed - (seed >> 63 << 64)
    for step in (0, 3, 2**31 - 1):
        _uniform_kernel[(1,)](signed, sequences, out, step, ROWS=8)
        assert torch.equal(out, uniform(seed, sequences, torch.tensor([step]))[0])


def test_scores_are_log_probabilities_of_the_softmax_in_nats():
    generator = torch.Generator().manual_seed(2)
    logits = 8 * torch.randn(64, 23, generator=generator)
    token = torch.randint(23, (64,), generator=generator, dtype=torch.int32)
    found = [torch.zeros(64) for _ in range(2)]
    _scores_kernel[(1,)](logits, token, *found, V=23, BLOCK_V=32, ROWS=64)
    p = logits.double().log_softmax(1)
    torch.testing.assert_close(found[0].double(), p.gather(1, token[:, None].long())[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1].double(), -(p * p.exp()).sum(1), rtol=1e-5, atol=1e-6)
