"""How many logistic problems a pass may take, so that a fit stays within its memory."""

from __future__ import annotations

from gatescope.engine.arrays import RowBlocks
from gatescope.engine.precondition import SAMPLE_ROWS
from gatescope.engine.quasi_newton import MEMORY

# Problems in one pass: beyond about this many a matrix product gains nothing. Each holds a factor [H, H], pairs of
# steps and arrays of N rows: fewer where they would need more memory than this, or than a byte for each value of X.
TILE = 128
TILE_BYTES = 2**26
# With a limit the problems of a pass may take this share of it: the rest is for reading ahead and arrays of N rows.
TILE_SHARE = 0.4
# Hessians that are made at a time: one leaves cores idle while it is drawn and factorised.
AT_ONCE = 2


def tile_width(rows: RowBlocks, n_targets: int, itemsize: int) -> tuple[int, int]:
    """Return how many of K problems may be in one pass, and how many of their Hessians may be made at a time.

    Processes add up the rows of a Hessian, and so make one after another, all in the same order; so does a fit whose
    memory is limited.

    Args:
        rows: X [N, H], in the precision of this pass.
        n_targets: K.
        itemsize: bytes of a value in the precision of the first pass, in which memory is counted.
    """
    n_rows, n_units, size = int(rows.processes.largest(rows.shape[0])), rows.shape[1], rows.dtype.itemsize
    # A factor, arrays of all rows and of the blocks that are worked on, the steps remembered and the point.
    of_each = size * (n_units**2 // 2 + 2 * n_rows + 6 * rows.n_threads * rows.block_rows) + 16 * (MEMORY + 4) * n_units
    if rows.memory_limit is not None:
        return min(TILE, max(1, int(TILE_SHARE * rows.memory_limit) // of_each)), 1

    def width(at_once: int) -> int:
        # Without a limit a fit takes at most 6 arrays [N, K] and 4 [H, H] beside X, or what one problem needs. A matrix
        # and its factor are shared, and more are made from pieces of a sample.
        of_all = size * ((1.5 + at_once) * n_units + 2 * rows.n_threads * SAMPLE_ROWS) * n_units
        ceiling = itemsize * (6 * n_rows * n_targets + 4 * n_units**2) - of_all
        return min(TILE, max(1, int(min(ceiling, max(TILE_BYTES, n_rows * n_units)) // of_each)))

    most = min(AT_ONCE, rows.n_threads) if rows.processes.size == 1 else 1
    # A pass over more problems saves more than a second Hessian.
    return width(1), most if min(width(most), n_targets) == min(width(1), n_targets) else 1
