"""Drawing characters inside Triton kernels, and scoring them under their distribution, from logits in registers.

The random numbers, the distribution and the rule of the choice are those of `gatescope.kernels.philox` and
`gatescope.kernels.choice`, except that probabilities are not divided by their sum, and are added up in another order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.pointwise import exp2

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def uniform(seed, sequence, step):
    """The random number of each sequence at a step, float64 [rows].

    Args:
        seed: 64 bits.
        sequence: sequence numbers, int64 [rows].
        step: step number.
    """
    o = tl.zeros(sequence.shape, tl.uint32)
    low, high = (sequence & 0xFFFFFFFF).to(tl.uint32), (sequence >> 32).to(tl.uint32)
    # Loops in the interpreter count in plain integers, which have no dtype to convert.
    word, _, _, _ = tl.philox(seed, (o + step).to(tl.uint32), low, high, o)
    return (word.to(tl.float64) + 0.5) * (1.0 / 4294967296.0)


@triton.jit
def _least_with(p, weight, need):
    """The largest threshold for which the entries of p at or above it weigh at least `need`, found bit by bit.

    Args:
        p: [rows, columns], not negative, so that their bits are in the same order.
        weight: of each entry, [rows, columns].
        need: the weight needed, [rows, 1] or a number.

    Returns:
        Its bits, int32 [rows, 1].
    """
    bits = p.to(tl.int32, bitcast=True)
    found = tl.zeros((p.shape[0], 1), tl.int32)
    for k in range(31):
        candidate = found | (1 << (30 - k))
        enough = tl.sum(tl.where(bits >= candidate, weight, 0), axis=1)[:, None] >= need
        found = tl.where(enough, candidate, found)
    return found


@triton.jit
def _last(x):
    """The last column of float64 [rows, columns], word by word: a warp sums integers in one instruction."""
    bits, there = x.to(tl.int64, bitcast=True), tl.arange(0, x.shape[1])[None, :] == x.shape[1] - 1
    high = tl.sum(tl.where(there, (bits >> 32).to(tl.int32), 0), axis=1)
    low = tl.sum(tl.where(there, bits.to(tl.int32), 0), axis=1)
    return ((high.to(tl.int64) << 32) | (low.to(tl.int64) & 0xFFFFFFFF)).to(tl.float64, bitcast=True)


@triton.jit
def choose(logits, u, temperature, top_k, top_p, V: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr):
    """Draw one character a row from softmax(logits / temperature): `gatescope.kernels.choice.choose`.

    Args:
        logits: [rows, columns], -inf beyond the V characters.
        u: random numbers, float64 [rows].
        temperature, top_k, top_p: as in `choice.choose`; TOP_K and TOP_P say whether the last two cut anything.

    Returns:
        ids int32 [rows]; -1, which is no character, if logits are NaN or infinite.
    """
    o_v = tl.arange(0, logits.shape[1])[None, :]
    # Relative to the most likely character, so at most 1: the rule needs only ratios.
    p = exp2((logits - tl.max(logits, axis=1)[:, None]) * (LOG2_E / temperature))
    if TOP_K:
        # A warp sums integers in one instruction.
        ones = tl.where(p > 0.0, 1, 0)
        p = tl.where(p.to(tl.int32, bitcast=True) >= _least_with(p, ones, top_k), p, 0.0)
    if TOP_P:
        bits, wide = p.to(tl.int32, bitcast=True), p.to(tl.float64)
        need = top_p * tl.sum(wide, axis=1)[:, None]
        least = _least_with(p, wide, need)
        # Of equal probabilities, in id order, only as many as are still needed.
        above, equal = tl.sum(tl.where(bits > least, wide, 0.0), axis=1)[:, None], bits == least
        earlier = tl.cumsum(tl.where(equal, 1, 0), axis=1) - 1
        p = tl.where((bits > least) | (equal & (above + earlier * wide < need)), p, 0.0)
    cumulative = tl.cumsum(p.to(tl.float64), axis=1)
    total = _last(cumulative)
    target = u * total
    # A character of probability zero is never drawn, however the sum is rounded.
    beyond = (cumulative > target[:, None]) & (p > 0.0)
    # The total is at least 1 for a finite distribution, and NaN for any other.
    return tl.where(total > 0.0, tl.min(tl.where(beyond, o_v, V - 1), axis=1), -1)


@triton.jit
def scores(logits, token):
    """The log-probability of a character, and the entropy, under softmax(logits), in nats, [rows] each."""
    o_v = tl.arange(0, logits.shape[1])[None, :]
    below = logits - tl.max(logits, axis=1)[:, None]
    e = exp2(below * LOG2_E)
    total = tl.sum(e, axis=1)
    chosen = tl.sum(tl.where(o_v == token[:, None], below, 0.0), axis=1)
    # The selection keeps the product from being fused into an addition across threads, which would then disagree.
    mean = tl.sum(tl.where(e > 0.0, e * below, 0.0), axis=1) / total
    return chosen - tl.log(total), tl.log(total) - mean


@triton.jit
def draw_or_read(
    logits,
    tokens_ptr,
    log_probability_ptr,
    entropy_ptr,
    row,
    n_rows,
    length,
    t,
    n_tokens,
    step,
    first_sequence,
    stride,
    seed,
    temperature,
    top_k,
    top_p,
    V: tl.constexpr,
    GIVEN: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    """Draw the characters of some rows, or take the given ones (negative: the row has not begun), and score them.

    Args:
        logits: [rows, columns], -inf beyond the V characters; None if characters are given and not scored.
        row: numbers of the rows, int32 [rows]; those from n_rows on do not exist.
        length: of each row within the block; from there on nothing is kept.
        step, first_sequence, seed: the arguments of the random numbers.
        others: see `gatescope.kernels.sample_kernels.sample_kernel`.

    Returns:
        ids int32 [rows].
    """
    wide, in_b = row.to(tl.int64), row < n_rows
    if GIVEN:
        token = tl.load(tokens_ptr + wide * n_tokens + t, mask=in_b, other=0)
    else:
        u = uniform(seed, first_sequence + wide, step)
        token = choose(logits, u, temperature, top_k, top_p, V, TOP_K, TOP_P)
        tl.store(tokens_ptr + wide * n_tokens + t, token, mask=in_b)
    if log_probability_ptr is not None or entropy_ptr is not None:
        log_probability, entropy = scores(logits, tl.maximum(token, 0))
        if log_probability_ptr is not None:
            tl.store(log_probability_ptr + wide * stride + t, log_probability, mask=in_b & (t < length))
        if entropy_ptr is not None:
            tl.store(entropy_ptr + wide * stride + t, entropy, mask=in_b & (t < length))
    return token
