"""How many logistic problems a pass may take, so that a fit stays within its memory."""

from __future__ import annotations

import numpy as np

from gatescope.engine.hessian_sampler import SAMPLE_ROWS
from gatescope.engine.inverse_hessian import MEMORY
from gatescope.engine.row_blocks import RowBlocks, cached_rows
from gatescope.engine.shared_factor import KEPT_FACTORS

# Problems in one pass: beyond about this many a matrix product gains nothing. Each holds a factor [H, H], pairs of
# steps and arrays of N rows: fewer where they would need more memory than this, or than a byte for each value of X.
TILE = 128
TILE_BYTES = 2**26
# Of Python's objects for a problem, which few units notice.
OBJECTS_BYTES = 2**11
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
    # For each block in work a CPU keeps sums and arrays of the rows in its cache, a GPU arrays of all the block's rows.
    in_work = rows.block_rows
    if rows.xp is np:
        in_work = rows.n_threads * (n_units + cached_rows(rows.block_rows, n_units, size))
    # A factor, arrays of all rows, the work, the steps remembered and the point, and Python's objects.
    of_each = size * (n_units**2 // 2 + 2 * n_rows + 6 * in_work) + 16 * (MEMORY + 3) * n_units + OBJECTS_BYTES
    # Processes may hold different numbers of rows and cores: the one with the least room decides.
    if rows.memory_limit is not None:
        return int(rows.processes.smallest(min(TILE, max(1, int(TILE_SHARE * rows.memory_limit) // of_each)))), 1

    # Without a limit a fit takes at most 6 arrays [N, K] and 4 [H, H] beside X, or what one problem needs.
    ceiling = itemsize * (6 * n_rows * n_targets + 4 * n_units**2)

    def width(at_once: int) -> int:
        # While problems wait a matrix and some factors of it are shared, of hypotheses with weights of their own more
        # than one. One is made from pieces of a sample, as matrix and as factor.
        for shared in (0.0, 1 + 0.5 * KEPT_FACTORS):
            of_all = size * ((shared + 1.5 * at_once) * n_units + 2 * rows.n_threads * SAMPLE_ROWS) * n_units
            room = min(ceiling - of_all, max(TILE_BYTES, n_rows * n_units))
            found = min(TILE, max(1, int(room // of_each)))
            if found >= n_targets:
                break
        return found

    most = min(AT_ONCE, rows.n_threads) if rows.processes.size == 1 else 1
    # A pass over more problems saves more than a second Hessian.
    at_once = most if min(width(most), n_targets) == min(width(1), n_targets) else 1
    return int(rows.processes.smallest(width(1))), at_once
