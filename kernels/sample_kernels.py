"""The sampler's kernel in Triton whose programs read their weights from memory in every step.

`gatescope.kernels.sample_fused` launches either this kernel or that of `gatescope.kernels.sample_resident`, whose
weights stay on chip.

One launch takes every sequence through a block of steps: in each, a character is drawn, or a given one read, all layers
run, and the states that are asked for are kept. A program has BLOCK_B rows (sequences) and BLOCK_H units of every
layer. The state of the network is kept in memory, where the other programs of a group of rows, and the next launch,
find it:

    states [L, 2, rows, HP]   h before and after a step, alternating, in the weights' dtype
    cells  [L, rows, HP]      c of an lstm, float32

HP is H padded with zeros to whole blocks: padded units have no weights and stay at zero, and no load needs a mask.

The weights are the matrices W_hh of layer 0, W_ih and W_hh of layer 1, ..., [2 L - 1, SLOTS * HP, HP]. The slots of a
unit are adjacent, so that their sums are split within a thread: i, f, g, o of an lstm; r, z and n's two parts, of h and
of x, of a gru, each of whose matrices is zero in the other's slot; one slot in an Elman network. The table
[V + L - 1, SLOTS, HP] holds the input product and the biases of each character, followed by the biases of the layers
above.

If several programs share a group of rows, every layer ends with the group's barrier (`gatescope.kernels.grid`), and so
does the choice: the first programs of the group compute the output layer, each for BLOCK_C of its rows, while the
others compute the recurrent product of the first layer, which needs no character.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gatescope.kernels.grid import COUNTER_STRIDE, arrive, wait
from gatescope.kernels.lstm_kernels import step as lstm_step
from gatescope.kernels.pointwise import sigmoid, tanh
from gatescope.kernels.rnn_kernels import activate
from gatescope.kernels.sample_choice import draw_or_read
from gatescope.kernels.tiles import add_product

LSTM, GRU, GRU_BEFORE, RNN, RNN_RELU = (tl.constexpr(cell) for cell in range(5))
WHOLE = tl.constexpr(-1)  # all parts of a step; else a single part: the choice, then the layers, or the halves of each
CAPTURED = tl.constexpr(6)  # places of a layer among the outputs: h, c and up to four gates
# Arguments on whose values the kernel is not specialised.
CHANGING = ["t0", "t1", "row0", "n_rows", "n_padded", "n_tokens", "taken", "first_step", "first_sequence", "stride"]
CHANGING += ["seed", "temperature", "top_k", "top_p"]


@triton.jit
def _meet(counter, arrivals, COLUMNS: tl.constexpr):
    """Wait until the group's states of the last exchange are in memory."""
    if COLUMNS == 1:
        tl.debug_barrier()
    else:
        wait(counter, arrivals)


@triton.jit
def _add_product(
    total,
    states,
    o_rows,
    weights,
    o_columns,
    HP: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Add the product of states and weights to a total [rows, columns] in float32, part by part as they are loaded.

    Offsets of 32 bits from one address are the same for all matrices; separate addresses would fill the registers.

    In float32 each part is summed by itself: in one running total over 512 units the states of a GRU were off by 5.4e-6
    of their rms on an H200, where the tests allow 2.0e-6.

    Args:
        states, weights: pointers to the first entry of each.
        o_rows: offsets from there to the first unit of each row, [rows, 1].
        o_columns: offsets from there to the first weight of each column, [1, columns].
    """
    o_k = tl.arange(0, BLOCK_K)
    o_state, o_weight = o_rows + o_k[None, :], o_columns + o_k[:, None]
    for k in tl.range(0, HP, BLOCK_K, num_stages=STAGES):
        # Bypass the first-level cache, which does not see other programs' stores.
        h = tl.load(states + k + o_state, cache_modifier=".cg")
        w = tl.load(weights + k + o_weight)
        if states.dtype.element_ty == tl.float32:
            # Separate from the total, for the reason that `gatescope.kernels.tiles.product` gives, and not in TF32.
            total += tl.dot(h, w, input_precision="ieee", max_num_imprecise_acc=1 << 20)
        else:
            total = add_product(total, h, w)
    return total


@triton.jit
def _output(
    top,
    output_ptr,
    bias_ptr,
    logits_ptr,
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
    HP: tl.constexpr,
    V: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    GIVEN: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
):
    """The output layer on the top layer's states of some rows, and the character of each row."""
    o_v = tl.arange(0, BLOCK_V)[None, :]
    logits = tl.zeros((row.shape[0], BLOCK_V), tl.float32) + tl.load(bias_ptr + o_v)
    logits = _add_product(logits, top, row[:, None] * HP, output_ptr, o_v * HP, HP, BLOCK_K, STAGES)
    # The product leaves every row spread over all warps. Stored and loaded again, a row of up to 128 characters lies in
    # one warp, whose sums and scan need no barrier.
    tl.store(logits_ptr + (row[:, None] * BLOCK_V + o_v), logits)
    tl.debug_barrier()
    logits = tl.load(logits_ptr + (row[:, None] * BLOCK_V + o_v))
    return draw_or_read(
        logits, tokens_ptr, log_probability_ptr, entropy_ptr, row, n_rows, length, t, n_tokens, step, first_sequence,
        stride, seed, temperature, top_k, top_p, V, GIVEN, TOP_K, TOP_P,
    )  # fmt: skip


@triton.jit
def _gates(sums, x_at, HP: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_H: tl.constexpr):
    """The sums before the activations of each unit's four slots, with the table's additions, [rows, units] each."""
    even, odd = tl.split(tl.reshape(sums, (BLOCK_B, BLOCK_H, 2, 2)))
    s0, s2 = tl.split(even)
    s1, s3 = tl.split(odd)
    s0, s1 = s0 + tl.load(x_at), s1 + tl.load(x_at + HP)
    s2, s3 = s2 + tl.load(x_at + 2 * HP), s3 + tl.load(x_at + 3 * HP)
    return s0, s1, s2, s3


@triton.jit
def _share(
    at,
    values,
    counter,
    arrivals,
    BEFORE: tl.constexpr,
    COLUMNS: tl.constexpr,
    PHASE: tl.constexpr,
):
    """Store what the group's other programs need within a layer, and wait until all of them have done so.

    Args:
        at, values: pointers, and what to store there.
        counter, arrivals: the group's counter, and its arrivals before the first layer.
        BEFORE: how many times the group has exchanged states in this step, for the layers below.
    """
    if PHASE == WHOLE or PHASE % 2 == 1:
        tl.store(at, values)
    if PHASE == WHOLE:
        if COLUMNS > 1:
            arrive(counter)
        _meet(counter, arrivals + (BEFORE + 1) * COLUMNS, COLUMNS)


@triton.jit
def _keep(captured, h, others, at, own, layer: tl.constexpr):
    """Store a layer's captures: its hidden state, its cell and its gates."""
    if captured[layer * CAPTURED] is not None:
        tl.store(captured[layer * CAPTURED] + at, h, mask=own)
    for place in tl.static_range(1, CAPTURED):
        if captured[layer * CAPTURED + place] is not None:
            tl.store(captured[layer * CAPTURED + place] + at, others[place - 1], mask=own)


@triton.jit(do_not_specialize=CHANGING)
def sample_kernel(
    table_ptr,
    w_ptr,
    w_n_ptr,
    output_ptr,
    bias_ptr,
    logits_ptr,
    states_ptr,
    cells_ptr,
    kept_ptr,
    tokens_ptr,
    lengths_ptr,
    captured,
    log_probability_ptr,
    entropy_ptr,
    counter_ptr,
    t0,
    t1,
    row0,
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
    BLOCK_C: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    COLUMNS: tl.constexpr,
    STAGES: tl.constexpr,
    OUTPUT_K: tl.constexpr,
    OUTPUT_STAGES: tl.constexpr,
    GIVEN: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_P: tl.constexpr,
    PHASE: tl.constexpr,
):
    """Take every sequence through the steps t0 to t1 of a block.

    Args:
        table_ptr, w_ptr, states_ptr, cells_ptr: see the module.
        w_n_ptr, kept_ptr: for a gru whose reset gate comes before the product: W_hn of each layer, [L, HP, HP], and
            `r * h` on its way to the other programs, [L, rows, HP].
        output_ptr, bias_ptr: the output layer, [BLOCK_V, HP], and in float32 [BLOCK_V], -inf beyond V.
        logits_ptr: float32 [rows, BLOCK_V].
        tokens_ptr: int32 [n_rows, n_tokens], given (negative: the row has not begun, its states stay zero) or drawn.
        lengths_ptr: of the sequences within the block, int32 [n_rows]; nothing is kept after their ends.
        captured: pointers or None, CAPTURED for each layer, to [n_rows, stride, H].
        log_probability_ptr, entropy_ptr: [n_rows, stride] or None.
        counter_ptr: counters of the groups of rows.
        taken: steps before this block, which determine which of the two states is the previous one.
        first_step, first_sequence, seed: the arguments of the random numbers.
        PHASE: the part of a step to do, for the interpreter, whose programs cannot wait for each other.
    """
    i_b, i_h = tl.program_id(0), tl.program_id(1)
    first = row0 + i_b * BLOCK_B
    row = first + tl.arange(0, BLOCK_B)
    in_b, rows, o_row = row < n_rows, row.to(tl.int64)[:, None], row[:, None] * HP
    length = tl.load(lengths_ptr + row, mask=in_b, other=0)
    o_h = (i_h * BLOCK_H + tl.arange(0, BLOCK_H))[None, :]
    PARTS: tl.constexpr = 2 if CELL == GRU_BEFORE else 1
    SLOTS: tl.constexpr = 1 if CELL >= RNN else 4
    OUTPUT: tl.constexpr = not GIVEN or log_probability_ptr is not None or entropy_ptr is not None
    CHOICE: tl.constexpr = 0 if GIVEN else 1
    o_w = (i_h * (SLOTS * BLOCK_H) + tl.arange(0, SLOTS * BLOCK_H))[None, :] * HP
    size = n_padded.to(tl.int64) * HP
    counter = counter_ptr + i_b * COUNTER_STRIDE
    dtype = states_ptr.dtype.element_ty
    # The rows whose output layer this program computes.
    c_row = first + i_h * BLOCK_C + tl.arange(0, BLOCK_C)
    c_length = tl.load(lengths_ptr + c_row, mask=c_row < n_rows, other=0)

    for t in range(t0, tl.minimum(t1, tl.max(length, axis=0))):
        old, new = (taken + t) % 2, (taken + t + 1) % 2
        arrivals = (t - t0) * ((CHOICE + LAYERS * PARTS) * COLUMNS)
        _meet(counter, arrivals, COLUMNS)
        if OUTPUT and (PHASE == WHOLE or PHASE == 0):
            top = states_ptr + ((LAYERS - 1) * 2 + old) * size
            asked = (
                c_row, n_rows, c_length, t, n_tokens, first_step + t, first_sequence, stride, seed,
                temperature, top_k, top_p,
            )  # fmt: skip
            if COLUMNS == 1:
                token = _output(
                    top, output_ptr, bias_ptr, logits_ptr, tokens_ptr, log_probability_ptr, entropy_ptr,
                    *asked, HP, V, BLOCK_V, OUTPUT_K, OUTPUT_STAGES, GIVEN, TOP_K, TOP_P,
                )  # fmt: skip
            elif i_h * BLOCK_C < BLOCK_B:
                _output(
                    top, output_ptr, bias_ptr, logits_ptr, tokens_ptr, log_probability_ptr, entropy_ptr,
                    *asked, HP, V, BLOCK_V, OUTPUT_K, OUTPUT_STAGES, GIVEN, TOP_K, TOP_P,
                )  # fmt: skip
            if COLUMNS > 1 and not GIVEN:
                arrive(counter)
        arrivals += CHOICE * COLUMNS
        own = (in_b & (t < length))[:, None] & (o_h < H)
        at = (rows * stride + t) * H + o_h

        for layer in tl.static_range(LAYERS):
            if PHASE == WHOLE or (PHASE > 0 and layer == (PHASE - 1) // PARTS):
                before = states_ptr + (layer * 2 + old) * size
                sums = tl.zeros((BLOCK_B, SLOTS * BLOCK_H), tl.float32)
                w_at = w_ptr + 2 * layer * (SLOTS * HP * HP)
                sums = _add_product(sums, before, o_row, w_at, o_w, HP, BLOCK_K, STAGES)
                if COLUMNS > 1 or GIVEN:
                    if layer == 0 and not GIVEN:
                        _meet(counter, arrivals, COLUMNS)
                    token_at = tokens_ptr + row.to(tl.int64) * n_tokens + t
                    token = tl.load(token_at, mask=in_b, other=0, cache_modifier=".cg")
                begun = (token >= 0)[:, None]
                if layer == 0:
                    x_at = table_ptr + tl.maximum(token, 0)[:, None] * (SLOTS * HP) + o_h
                else:
                    x_at = table_ptr + (V + layer - 1) * (SLOTS * HP) + o_h
                    below = states_ptr + ((layer - 1) * 2 + new) * size
                    _meet(counter, arrivals + layer * PARTS * COLUMNS, COLUMNS)
                    w_at = w_ptr + (2 * layer - 1) * (SLOTS * HP * HP)
                    sums = _add_product(sums, below, o_row, w_at, o_w, HP, BLOCK_K, STAGES)
                if CELL >= RNN:
                    h = activate(sums + tl.load(x_at), dtype, CELL == RNN_RELU)
                    others = (h,) * 5
                else:
                    s0, s1, s2, s3 = _gates(sums, x_at, HP, BLOCK_B, BLOCK_H)
                if CELL == LSTM:
                    c_at = cells_ptr + layer * size + (o_row + o_h)
                    i, f, g, o, c, h = lstm_step(s0, s1, s2, s3, tl.load(c_at), dtype)
                    c = tl.where(begun, c, 0.0)
                    tl.store(c_at, c)
                    others = (c, i, f, g, o)
                elif CELL < RNN:
                    r, z = sigmoid(s0), sigmoid(s1)
                    h = tl.load(before + (o_row + o_h)).to(tl.float32)
                    if CELL == GRU:
                        n = tanh(s3 + r * s2, dtype)
                    else:
                        shared, r_h = kept_ptr + layer * size, (r * h).to(dtype)
                        _share(shared + (o_row + o_h), r_h, counter, arrivals, 2 * layer, COLUMNS, PHASE)
                        n_at = w_n_ptr + layer * (HP * HP)
                        s3 = _add_product(s3, shared, o_row, n_at, o_h * HP, HP, BLOCK_K, STAGES)
                        n = tanh(s3, dtype)
                    h = n + z * (h - n)
                    others = (h, r, z, n, n)
                if PHASE == WHOLE or PHASE % PARTS == 0:
                    # The kept state is the one that the next step reads.
                    h = tl.where(begun, h, 0.0).to(dtype).to(tl.float32)
                    tl.store(states_ptr + (layer * 2 + new) * size + (o_row + o_h), h)
                    if COLUMNS > 1:
                        arrive(counter)
                    # Stores that no other program waits for come after the release.
                    _keep(captured, h, others, at, own, layer)
