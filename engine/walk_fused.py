"""Walking a model over many sequences at once with the sampler's kernel (`gatescope.kernels.sample_fused`).

Where `gatescope.engine.walk` has one tile of sequences on each core, the kernel has hundreds of tiles in one launch,
each launch a block of steps, and writes states straight into their place. What a sequence gives does not depend on what
runs beside it: the kernel sums its rows in one order in whatever tile they stand.

Two pieces exist at a time: one is copied, checked and delivered while the next is computed
(`gatescope.engine.fused_pieces`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gatescope.engine.fused_pieces import FusedPieces, Underway, shape_of
from gatescope.engine.journey import Buffers, Deliver, Journey, Piece
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.trained_model import TrainedModel
from gatescope.kernels.backend import FUSED_DTYPES, has_triton

if TYPE_CHECKING:
    from gatescope.kernels.sample_plan import SamplePlan

# States of one piece: on a GPU, where a launch should have many steps and many sequences.
PIECE_BYTES = 512 << 20
MOST_SEQUENCES = 4096  # side by side
# More sequences are rounded to a multiple of this, so that launches are full: on an H200, of 512 or 1,024 sequences.
LAUNCH_SEQUENCES = 512
MOST_STEPS = 512  # of one launch, so that the first of a long text comes out soon
# Characters of a piece whose states have a place already: few, so that the host has little to do after the last piece;
# but a piece has at least LEAST_STEPS.
CHARACTERS = 128 << 10
LEAST_STEPS = 64


def sampler_plan(trained: TrainedModel) -> SamplePlan | None:
    """Return how the sampler's kernel would work on a model; None on a CPU, in float64, or where it has no room."""
    weight = trained.model.output.weight
    if not (weight.is_cuda and has_triton() and weight.dtype in FUSED_DTYPES):
        return None
    from gatescope.kernels.gpu import device_of
    from gatescope.kernels.sample_plan import STEPS, plan

    found = plan(shape_of(trained), device_of(weight))
    return None if found == STEPS else found


def walk_fused(
    journey: Journey,
    layout: SamplePlan,
    *,
    first: int = 0,
    begun: Sequence[ResumePoint] = (),
    buffers: Buffers | None = None,
    deliver: Deliver | None = None,
    to_host: bool = True,
) -> Generator[Piece, None, None]:
    """Compute sequences and yield their pieces, as `gatescope.engine.walk.walk` does.

    Args:
        journey, buffers, deliver: as `walk` has them; buffers are on the model's device, and the thread that asks for
            a piece delivers it.
        layout: how the kernel works on the model.
        first: the sequence to begin with, a multiple of the plan's block_b.
        begun: whole tiles that are not to begin at their first step; the first of them begins at `first`.
        to_host: bring states to the CPU, unless `buffers` has a place for them.

    Yields:
        Pieces with states on the CPU, or where `buffers` has put them, or on the model's device: there they stay as
        they are for what is put into the current stream before the next piece is asked for. Rows after the end of a
        sequence are not written.
    """
    lengths = journey.lengths
    pieces = FusedPieces(journey, layout, to_host and buffers is None)
    # States that have a place already take no memory of a piece's own.
    row_bytes = 0 if buffers else sum(journey.arrays.values()) * journey.dtype.itemsize
    height, size = _cut(layout, len(lengths) - first, int(lengths[first:].max()), row_bytes)
    points = {point.first: point for point in begun}
    behind: Underway | None = None
    for turn, (start, stop, begin, end) in enumerate(_pieces(lengths, first, height, size, points)):
        point = points.get(start)
        state = point.state if point and point.step == begin else ()
        ahead = pieces.submit(start, stop, begin, end, turn % 2, buffers, state)
        if behind is not None:
            yield behind.piece(deliver)
        behind = ahead
    if behind is not None:
        yield behind.piece(deliver)


def _cut(layout: SamplePlan, n_sequences: int, longest: int, row_bytes: int) -> tuple[int, int]:
    """Return how many sequences, whole tiles, run side by side, and how many steps of them make a piece."""
    tile, most = layout.block_b, MOST_SEQUENCES
    if row_bytes:
        # Whole sequences, if they fit: they go into the dump as they come.
        most = min(most, PIECE_BYTES // (row_bytes * min(longest, MOST_STEPS)))
    if most > LAUNCH_SEQUENCES:
        most -= most % LAUNCH_SEQUENCES
    height = min(max(tile, most // tile * tile), -(-n_sequences // tile) * tile)
    if not row_bytes:
        return height, min(MOST_STEPS, max(LEAST_STEPS, CHARACTERS // height))
    return height, max(1, min(MOST_STEPS, PIECE_BYTES // (row_bytes * height)))


def _pieces(
    lengths: np.ndarray, first: int, height: int, size: int, points: Mapping[int, ResumePoint]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the first sequence of each piece, the one after its last, its first step and the one after its last."""
    start = first
    while start < len(lengths):
        point = points.get(start)
        step, stop = 0, min([start + height, len(lengths), *(each for each in points if each > start)])
        if point is not None:
            step, stop = point.step, start + point.n
        longest = int(lengths[start:stop].max())
        yield from ((start, stop, begin, min(begin + size, longest)) for begin in range(step, longest, size))
        start = stop
