"""The arithmetic of one step inside Triton kernels, in float32 registers.

sigmoid(x) = 1 / (1 + exp(-x)) takes the two instructions that a GPU has for it. `tl.exp` and a division take five more
each to produce subnormal results, which are 0 here, as good as 1e-39. tanh(x) = 1 - 2 sigmoid(-2x) is off by 1e-7 at
most. In 16 bits that does not show unless the state is small: it changes the last bit of float16 below 1e-4 and of
bfloat16 below 3e-5. For float32 tanh is sign(x) (1 - 2 sigmoid(-2|x|)), or an odd polynomial if |x| < 0.625 (the
coefficients of Cephes' tanhf): with these a float32 LSTM has 1.3 times torch's error, without them twice as much.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import INTERPRETED


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return _falling(x * -1.4426950408889634)


@triton.jit
def _falling(power):
    """1 / (1 + 2^power)."""
    shifted = 1.0 + exp2(power)
    if INTERPRETED:
        return 1.0 / shifted
    else:
        return _instruction(shifted, "rcp.approx.ftz.f32 $0, $1;")


@triton.jit
def exp2(x):
    """2^x, or 0 where that is subnormal."""
    if INTERPRETED:
        return tl.exp2(x)
    else:
        return _instruction(x, "ex2.approx.ftz.f32 $0, $1;")


@triton.jit
def _instruction(x, NAME: tl.constexpr):
    return tl.inline_asm_elementwise(NAME, "=f,f", [x], tl.float32, is_pure=True, pack=1)


@triton.jit
def tanh(x, dtype: tl.constexpr):
    """tanh(x), as exactly as the dtype of the states can show."""
    if dtype.primitive_bitwidth == 16:
        return 1.0 - 2.0 * _falling(x * 2.8853900817779268)
    else:
        square = x * x
        series = -5.70498872745e-3 * square + 2.06390887954e-2
        series = series * square - 5.37397155531e-2
        series = series * square + 1.33314422036e-1
        series = series * square - 3.33332819422e-1
        near = x + x * square * series
        size = tl.abs(x)
        far = 1.0 - 2.0 * _falling(size * 2.8853900817779268)
        return tl.where(size < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def sigmoid_back(gradient, s):
    """The gradient of x from that of s = sigmoid(x)."""
    return gradient * s * (1.0 - s)


@triton.jit
def tanh_back(gradient, s):
    """The gradient of x from that of s = tanh(x)."""
    return gradient * (1.0 - s * s)


@triton.jit
def load_blocks(at, own, H: tl.constexpr, COUNT: tl.constexpr):
    """Load consecutive blocks of A, H apart, in their stored dtype.

    Converting a tile to float32 takes it to the layout of the products through shared memory, and waits for its load.
    A kernel therefore loads all that a step reads, and converts it once the loads that it waits for are in flight.
    """
    tiles = ()
    for k in tl.static_range(COUNT):
        tiles += (tl.load(at + k * H, mask=own, other=0.0),)  # type: ignore[assignment]
    return tiles


@triton.jit
def store_blocks(at, own, tiles, H: tl.constexpr):
    """Store consecutive blocks of A."""
    for k in tl.static_range(len(tiles)):
        tl.store(at + k * H, tiles[k], mask=own)


@triton.jit
def as_float32(tiles):
    """The same tiles in float32."""
    wide = ()
    for k in tl.static_range(len(tiles)):
        wide += (tiles[k].to(tl.float32),)  # type: ignore[assignment]
    return wide


@triton.jit
def passed_on(through_ptr, reset_ptr, row, at, o_h, later, n_rows, H: tl.constexpr):
    """The gradient that the next step passes to the state it read, in float32; 0 if it began with a cleared state.

    Args:
        through_ptr: the product of its gradients and the weights, [B, H].
        reset_ptr: [T, B] or None.
        row, at: index of the row within the batch, and within the rows of all steps, at this step.
        o_h: units.
        later: whether there is a next step.
        n_rows: B.
    """
    through = tl.load(through_ptr + row * H + o_h, mask=(o_h < H) & later, other=0.0).to(tl.float32)
    if reset_ptr is not None:
        through = tl.where(tl.load(reset_ptr + at + n_rows, mask=later, other=0) != 0, 0.0, through)
    return through
