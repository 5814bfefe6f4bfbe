"""The sampler's kernel in Triton for models small enough for a multiprocessor: all weights stay on chip.

A program runs all layers of a few sequences by itself, and waits for no other. Two LSTM layers of 128 units have 384 KB
of weights in 16 bits, more than the 227 KB of its shared memory. The weights are the first factors of its products:
tiles [HP, HP] of one gate each, some in registers (`gatescope.kernels.resident`) and the others in shared memory. The
sums [HP, rows] of a unit's gates are then in one thread, and so are its states, which stay there for all steps.

Shared memory is nearly full of weights: on their way to a product, the states of only one of two layers may be there at
a time, and nothing beside them. Therefore the characters' rows of the table, the logits and float32 captures do not
pass through it (`gatescope.kernels.unstaged`); the top layer's recurrent product is computed together with the output
layer, which reads the same states; and what is kept of a layer is stored once the next one has read its states.

Memory, numbers and equations are those of `gatescope.kernels.sample_kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.lstm_kernels import step
from gatescope.kernels.pointwise import sigmoid, tanh
from gatescope.kernels.resident import in_registers
from gatescope.kernels.rnn_kernels import activate
from gatescope.kernels.sample_choice import draw_or_read
from gatescope.kernels.sample_kernels import CAPTURED, CHANGING, GRU, GRU_BEFORE, LSTM, RNN, RNN_RELU
from gatescope.kernels.tiles import add_product, product
from gatescope.kernels.unstaged import known_alike, load_unstaged, store_unstaged


@triton.jit
def _tile(at, HP: tl.constexpr, STRIDE: tl.constexpr, RESIDENT: tl.constexpr):
    """The weights of a gate [HP, HP], with a row stride of STRIDE."""
    o_h = tl.arange(0, HP)
    tile = tl.load(at + o_h[:, None] * STRIDE + o_h[None, :])
    if RESIDENT:
        tile = in_registers(tile, tl.float16)
    return tile


@triton.jit
def _load_recurrent(
    w_ptr,
    w_n_ptr,
    CELL: tl.constexpr,
    LAYERS: tl.constexpr,
    GATES: tl.constexpr,
    SLOTS: tl.constexpr,
    HP: tl.constexpr,
    RESIDENT: tl.constexpr,
):
    """W_hh of all layers, a tile for each gate (for a gru's n the part of h); the first RESIDENT stay in registers."""
    tiles = ()
    for layer in tl.static_range(LAYERS):
        for k in tl.static_range(GATES):
            stays = layer * GATES + k < RESIDENT
            if CELL == GRU_BEFORE and k == 2:
                tiles += (_tile(w_n_ptr + layer * (HP * HP), HP, HP, stays),)  # type: ignore[assignment]
            else:
                at = w_ptr + (2 * layer * SLOTS * HP + k) * HP
                tiles += (_tile(at, HP, SLOTS * HP, stays),)  # type: ignore[assignment]
    return tiles


@triton.jit
def _load_input(
    w_ptr,
    LAYERS: tl.constexpr,
    GATES: tl.constexpr,
    SLOTS: tl.constexpr,
    HP: tl.constexpr,
    RESIDENT: tl.constexpr,
):
    """W_ih of the layers above the first, a tile for each gate (a gru's n: the part of x); the first RESIDENT stay."""
    tiles = ()
    for layer in tl.static_range(1, LAYERS):
        for k in tl.static_range(GATES):
            slot = 3 if GATES == 3 and k == 2 else k
            at = w_ptr + ((2 * layer - 1) * SLOTS * HP + slot) * HP
            stays = (layer - 1) * GATES + k < RESIDENT
            tiles += (_tile(at, HP, SLOTS * HP, stays),)  # type: ignore[assignment]
    return tiles


@triton.jit
def _recurrent(w_hh, layer: tl.constexpr, COUNT: tl.constexpr, GATES: tl.constexpr, h):
    """The products of a layer's W_hh with its states, for COUNT of the gates."""
    sums = ()
    for k in tl.static_range(COUNT):
        sums += (product(w_hh[layer * GATES + k], h),)  # type: ignore[assignment]
    return sums


@triton.jit
def _added(at, layer: tl.constexpr):
    """The table's addition to a sum: the character's part in the first layer, only biases in the others."""
    return load_unstaged(at) if layer == 0 else tl.load(at)


@triton.jit
def _sums(
    recurrent,
    w_ih,
    below,
    x_at,
    layer: tl.constexpr,
    GATES: tl.constexpr,
    RECURRENT: tl.constexpr,
    HP: tl.constexpr,
):
    """The sums before the activations of each gate; for a gru's n that of x comes last, separate from that of h.

    Args:
        recurrent: the finished products of W_hh.
        below: the layer's input states, if it is not the first.
        x_at: pointers to the table's additions.
    """
    sums = ()
    for k in tl.static_range(RECURRENT):
        total = recurrent[k]
        if layer > 0 and (GATES != 3 or k < 2):
            total = add_product(total, w_ih[(layer - 1) * GATES + k], below)
        sums += (total + _added(x_at + k * HP, layer),)  # type: ignore[assignment]
    if GATES == 3:
        x = _added(x_at + 3 * HP, layer)
        if layer > 0:
            x += product(w_ih[(layer - 1) * GATES + 2], below)
        sums += (x,)  # type: ignore[assignment]
    return sums


@triton.jit
def _cell(sums, before, c, w_n, begun, dtype: tl.constexpr, CELL: tl.constexpr):
    """The hidden state, and c and the gates of an lstm, or the gates of a gru after an unused value.

    Args:
        before, c: the states of the previous step.
        w_n: W_hn of a gru whose reset gate comes before the product.
        begun: mask of the rows that have begun.
    """
    if CELL == LSTM:
        i, f, g, o, c, h = step(sums[0], sums[1], sums[2], sums[3], c, dtype)
        others = (tl.where(begun, c, 0.0), i, f, g, o)
    elif CELL >= RNN:
        h = activate(sums[0], dtype, CELL == RNN_RELU)
        others = (h,) * 5
    else:
        r, z, h = sigmoid(sums[0]), sigmoid(sums[1]), before.to(tl.float32)
        if CELL == GRU:
            n = tanh(sums[3] + r * sums[2], dtype)
        else:
            n = tanh(sums[2] + product(w_n, (r * h).to(dtype)), dtype)
        h = n + z * (h - n)
        others = (h, r, z, n, n)
    return h, others


@triton.jit
def _keep(captured, h, others, at, own, layer: tl.constexpr):
    """Store a layer's captures; float32 is not staged in shared memory, which has no room for it."""
    for place in tl.static_range(CAPTURED):
        if captured[layer * CAPTURED + place] is not None:
            values = h.to(tl.float32) if place == 0 else others[place - 1]
            place_at = captured[layer * CAPTURED + place] + at
            if place_at.dtype.element_ty == tl.float32:
                store_unstaged(place_at, values, own)
            else:
                tl.store(place_at, values, mask=own)


@triton.jit(do_not_specialize=CHANGING)
def resident_kernel(
    table_ptr,
    w_ptr,
    w_n_ptr,
    output_ptr,
    bias_ptr,
    logits_ptr,
    states_ptr,
    cells_ptr,
    tokens_ptr,
    lengths_ptr,
    captured,
    log_probability_ptr,
    entropy_ptr,
    n_rows,
    n_padded,
    n_tokens,
    taken,
    first_step,
    first_sequence,
    stride,
    seed,
    temperature,
    top_k,
    top_p,
    CELL: tl.constexpr,
    LAYERS: tl.constexpr,
    H: tl.constexpr,
    HP: tl.constexpr,
    V: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_B: tl.constexpr,
    RESIDENT: tl.constexpr,
    GIVEN: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    """Take every sequence through the steps of a block, as many as tokens_ptr has columns.

    Args:
        RESIDENT: tiles of the weights that stay in registers.
        others: see `gatescope.kernels.sample_kernels.sample_kernel`.
    """
    GATES: tl.constexpr = 4 if CELL == LSTM else 1 if CELL >= RNN else 3
    SLOTS: tl.constexpr = 1 if CELL >= RNN else 4
    # Products of a layer with its own states; without reset_after the third waits for the reset gate.
    RECURRENT: tl.constexpr = 2 if CELL == GRU_BEFORE else GATES
    OUTPUT: tl.constexpr = not GIVEN or log_probability_ptr is not None or entropy_ptr is not None
    row = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    in_b, wide = row < n_rows, row.to(tl.int64)
    length = tl.load(lengths_ptr + row, mask=in_b, other=0)
    o_h, o_v = tl.arange(0, HP)[:, None], tl.arange(0, BLOCK_V)
    size = n_padded.to(tl.int64) * HP
    dtype = states_ptr.dtype.element_ty
    at_state = row[None, :] * HP + o_h

    h, c = (), ()
    for layer in tl.static_range(LAYERS):
        h += (tl.load(states_ptr + (layer * 2 + taken % 2) * size + at_state),)  # type: ignore[assignment]
        if CELL == LSTM:
            c += (tl.load(cells_ptr + layer * size + at_state),)  # type: ignore[assignment]
    w_hh = _load_recurrent(w_ptr, w_n_ptr, CELL, LAYERS, GATES, SLOTS, HP, RESIDENT)
    w_ih = _load_input(w_ptr, LAYERS, GATES, SLOTS, HP, RESIDENT - LAYERS * GATES)
    w_out = tl.load(output_ptr + o_v[:, None] * HP + tl.arange(0, HP)[None, :])

    longest = known_alike(tl.minimum(n_tokens, tl.max(length, axis=0)))
    for t in range(longest):
        of_top = _recurrent(w_hh, LAYERS - 1, RECURRENT, GATES, h[LAYERS - 1])
        if OUTPUT:
            # Stored and loaded again, a row lies in one warp, whose sums and scan need no barrier. No warp still reads
            # the logits of the previous step: all warps have met since then, when the states passed through shared
            # memory.
            store_unstaged(logits_ptr + (row[None, :] * BLOCK_V + o_v[:, None]), product(w_out, h[LAYERS - 1]))
            tl.debug_barrier()
            logits = tl.load(logits_ptr + (row[:, None] * BLOCK_V + o_v[None, :])) + tl.load(bias_ptr + o_v)[None, :]
        else:
            logits = None
        token = draw_or_read(
            logits, tokens_ptr, log_probability_ptr, entropy_ptr, row, n_rows, length, t, n_tokens, first_step + t,
            first_sequence, stride, seed, temperature, top_k, top_p, V, GIVEN, TOP_K, TOP_P,
        )  # fmt: skip
        # A row whose character could not be drawn has NaN from then on.
        begun = (token >= 0)[None, :] if GIVEN else True
        own = (t < length)[None, :] & (o_h < H)
        at = (wide * stride * H)[None, :] + (t * H + o_h)

        h_new, c_new, others = (), (), ()
        for layer in tl.static_range(LAYERS):
            if layer == 0:
                x_at = table_ptr + tl.maximum(token, 0)[None, :] * (SLOTS * HP) + o_h
            else:
                x_at = table_ptr + (V + layer - 1) * (SLOTS * HP) + o_h
            below = h_new[layer - 1] if layer > 0 else None
            recurrent = _recurrent(w_hh, layer, RECURRENT, GATES, h[layer]) if layer < LAYERS - 1 else of_top
            sums = _sums(recurrent, w_ih, below, x_at, layer, GATES, RECURRENT, HP)
            if layer > 0:
                # Only now have its states left the shared memory that this passes through.
                _keep(captured, below, others, at, own, layer - 1)
            cell = c[layer] if CELL == LSTM else None
            w_n = w_hh[layer * GATES + GATES - 1]
            hidden, others = _cell(sums, h[layer], cell, w_n, begun, dtype, CELL)
            # The kept state is the one that the next step reads.
            h_new += (tl.where(begun, hidden, 0.0).to(dtype),)  # type: ignore[assignment]
            if CELL == LSTM:
                c_new += (others[0],)  # type: ignore[assignment]
        _keep(captured, h_new[LAYERS - 1], others, at, own, LAYERS - 1)
        h, c = h_new, c_new

    for layer in tl.static_range(LAYERS):
        tl.store(states_ptr + (layer * 2 + (taken + n_tokens) % 2) * size + at_state, h[layer])
        if CELL == LSTM:
            tl.store(cells_ptr + layer * size + at_state, c[layer])
