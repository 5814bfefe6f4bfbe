"""Rows of a large array in blocks: read once, in the precision of the computation, on all cores or on the GPU.

Every pass of the solver over X [N, H] has one shape: for each block of rows do a little work and add up a few small
results. `RowBlocks.totals` is that pass. The blocks are small enough to stay in the last cache between two products
(`gatescope.engine.sweep_host` has smaller parts of them in a core's own), and each core works on blocks of its own with
single-threaded BLAS: skinny products gain nothing from threads inside them, and the elementwise work between them is
shared out too. Sums are accumulated in float64 in an order that depends on the number of threads alone, so that a
repeated fit gives the same bits.

An array in a GPU's memory is worked on where it lies: the block function sees CuPy arrays and everything else is the
same. Products with 16-bit states take the blocks as they are stored, as torch tensors (`split_product`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from gatescope.engine.arrays import array_namespace, as_tensor, convert, to_host
from gatescope.engine.blas_threads import one_thread_each, thread_count
from gatescope.engine.device_memory import torch_memory
from gatescope.engine.errors import InputError
from gatescope.engine.processes import ALONE, Processes
from gatescope.engine.read_ahead import PIECE_BYTES, is_on_disk, read_ahead

# A block of about two megabytes in float32 is still in the last cache for its second product, and what is done between
# the two costs little beside them.
BLOCK_VALUES = 2**19
# Where rows are converted each core has a copy of a block, of so many bytes.
SCRATCH_BYTES = 2**20
# Sums of a column of more rows than this would lose too many bits to rounding.
BLOCK_ROWS = 2**11
# A GPU is kept busy by large blocks; this many values are 256 MB in float32.
DEVICE_BLOCK_VALUES = 2**26
# Rows of a block of 16-bit states that is not converted: a pass over a million is then some dozens of launches.
STORED_ROWS = 2**18
# Bytes that a pass computes from such a row, for 128 problems.
STORED_ROW_BYTES = 2**13
# Bytes of the rows that a compiled pass works on at a time: they stay in a core's own cache.
CACHED_BYTES = 2**19
FEWEST_CACHED = 32

BlockFunction = Callable[[Any, int, int], tuple[Any, ...]]


def cached_rows(n_rows: int, n_units: int, itemsize: int) -> int:
    """Return how many of some rows a compiled pass works on at a time."""
    return min(n_rows, max(FEWEST_CACHED, CACHED_BYTES // (itemsize * n_units)))


class RowBlocks:
    """The rows of X, to be passed over many times inside a `with` statement.

    >>> with RowBlocks(X, np.float32) as rows:
    ...     (column_sums,) = rows.totals(lambda block, start, stop: (block.sum(axis=0),))

    Args:
        X: [N, H], as `as_rows` returns it.
        dtype: float32 or float64, of the blocks that the functions see.
        memory_limit: bytes that the work on X may take beside X, or None; a quarter of it serves reading ahead where X
            is on disk.
        processes: those that hold the other rows, if X is a shard; totals are over all of them.
    """

    def __init__(self, X: Any, dtype: type, memory_limit: int | None = None, processes: Processes = ALONE):
        self.source, self.memory_limit, self.processes = X, memory_limit, processes
        self.shape: tuple[int, int] = tuple(X.shape)
        self.dtype = np.dtype(dtype)
        self.xp = array_namespace(X)
        values = BLOCK_VALUES if self.xp is np else DEVICE_BLOCK_VALUES
        if memory_limit is not None:
            # Blocks on each core and what is computed from them, in float64 at most.
            values = min(values, memory_limit // 256)
        longest = BLOCK_ROWS if self.xp is np else self.shape[0]
        self.block_rows = max(64, min(values // self.shape[1], longest, self.shape[0]))
        self.n_threads = thread_count() if self.xp is np else 1
        self.stored_rows = self._stored_rows()
        self.stored_dtype = torch.bfloat16 if X.dtype == torch.bfloat16 else torch.float16
        piece_bytes = PIECE_BYTES if memory_limit is None else min(PIECE_BYTES, memory_limit // 8)
        piece_blocks = piece_bytes // (self.shape[1] * X.dtype.itemsize * self.block_rows)
        # A piece has at least one block for each core.
        self.piece_rows = max(piece_blocks, self.n_threads) * self.block_rows if is_on_disk(X) else None
        self._pool: ThreadPoolExecutor | None = None
        self._open = ExitStack()

    def _stored_rows(self) -> int:
        """Return the rows of a block that products take as it is stored; 0 where all blocks are converted."""
        is_half = self.source.dtype in (np.float16, torch.bfloat16)
        if self.xp is np or not is_half or self.dtype != np.float32:
            return 0
        limited = self.shape[0] if self.memory_limit is None else self.memory_limit // STORED_ROW_BYTES
        return max(64, min(STORED_ROWS, limited, self.shape[0]))

    def rows_at_once(self, shift: Any = None) -> int:
        """Return the rows of a block of `totals`."""
        if self.xp is not np or not self._copies(self.source, shift):
            return self.block_rows
        return max(64, min(SCRATCH_BYTES // (self.dtype.itemsize * self.shape[1]), self.block_rows))

    def __enter__(self) -> RowBlocks:
        if self.xp is not np:
            self._open.enter_context(torch_memory(self.source))
        else:
            self._open.enter_context(one_thread_each)
        if self.n_threads > 1:
            self._pool = self._open.enter_context(ThreadPoolExecutor(self.n_threads))
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool = None
        self._open.close()

    def stored_totals(self, function: BlockFunction) -> list[Any]:
        """Do as `totals`, where `stored_rows` is not 0, with blocks that are torch tensors of the dtype of X."""
        sums: list[Any] = []
        for start in range(0, self.shape[0], self.stored_rows):
            stop = min(start + self.stored_rows, self.shape[0])
            sums = _added(sums, function(as_tensor(self.source[start:stop]), start, stop))
        return self.processes.totals(sums)

    def totals(self, function: BlockFunction, shift: Any = None) -> list[Any]:
        """Call a function on each block of rows and add up what it returns.

        Args:
            function: called as `function(block, start, stop)` with the rows start..stop of X [b, H] that it must
                not change, from several threads at once for different rows; returns a tuple of arrays.
            shift: [H], subtracted from each row; None subtracts nothing.

        Returns:
            The sums of the returned arrays over all blocks, float64.
        """
        if self.piece_rows is None:
            return self.processes.totals(self._piece_totals(function, shift, self.source, 0))
        totals: list[Any] = []
        for first, piece in read_ahead(self.source, self.piece_rows):
            totals = _added(totals, self._piece_totals(function, shift, piece, first))
        return self.processes.totals(totals)

    def _piece_totals(self, function: BlockFunction, shift: Any, piece: Any, first: int) -> list[Any]:
        """Return the totals of a piece, whose first row has the number `first`."""
        stop = first + len(piece)
        starts = range(first, stop, self.rows_at_once(shift))
        if self._pool is None:
            return self._range_totals(function, shift, piece, first, starts)
        n_shares = min(self.n_threads, len(starts))
        shares = [starts[len(starts) * i // n_shares : len(starts) * (i + 1) // n_shares] for i in range(n_shares)]
        # The last share ends with the rows, not with a whole block.
        shares[-1] = range(shares[-1].start, stop, starts.step)
        tasks = [self._pool.submit(self._range_totals, function, shift, piece, first, share) for share in shares]
        return functools.reduce(_added, [task.result() for task in tasks], [])

    def each(self, function: Callable[[Any], None], items: Iterable[Any]) -> None:
        """Call a function on each item, on all cores where the arrays are in the computer's memory."""
        for _ in map(function, items) if self._pool is None else self._pool.map(function, items):
            pass

    def _range_totals(self, function: BlockFunction, shift: Any, piece: Any, first: int, starts: range) -> list[Any]:
        copies = self._copies(piece, shift)
        scratch = self.xp.empty((starts.step, self.shape[1]), self.dtype) if copies else None
        sums: list[Any] = []
        # Overflow and NaN are results here: they are looked for in the sums.
        with np.errstate(all="ignore"):
            for start in starts:
                stop = min(start + starts.step, starts.stop)
                block = self._block(piece[start - first : stop - first], scratch, shift)
                sums = _added(sums, function(block, start, stop))
        return sums

    def gather(self, index: Any, shift: Any = None) -> Any:
        """Return a copy of some rows [n, H] in the precision of the blocks, `shift` [H] subtracted."""
        if not isinstance(index, slice) and not len(index):
            # CuPy's array of nothing has no memory that torch could be given.
            return self.xp.empty((0, self.shape[1]), self.dtype)
        if isinstance(self.source, torch.Tensor) and not isinstance(index, slice):
            index = torch.as_tensor(index) if self.xp is np else as_tensor(index)
        piece = self.source[index]
        if type(piece) is self.xp.ndarray and piece.dtype == self.dtype and not isinstance(index, slice):
            if shift is not None:
                piece -= shift
            return piece
        out = self.xp.empty(tuple(piece.shape), self.dtype)
        self._convert(piece, out, shift)
        return out

    def _copies(self, piece: Any, shift: Any) -> bool:
        plain = getattr(piece, "flags", None) is not None and piece.flags.c_contiguous
        return shift is not None or piece.dtype != self.dtype or not plain

    def _block(self, values: Any, scratch: Any, shift: Any) -> Any:
        if scratch is None:
            return values
        block = scratch[: len(values)]
        self._convert(values, block, shift)
        return block

    def _convert(self, values: Any, out: Any, shift: Any) -> None:
        if self.xp is np:
            convert(values, out, shift)
            return
        if isinstance(values, torch.Tensor):
            as_tensor(out).copy_(values)
        else:
            out[...] = values
        if shift is not None:
            out -= shift


def _added(totals: list[Any], values: Iterable[Any]) -> list[Any]:
    """Add arrays to float64 totals in place; the first arrays are copied."""
    if not totals:
        return [array_namespace(value).array(value, dtype=np.float64) for value in values]
    for total, value in zip(totals, values, strict=True):
        total += value
    return totals


def check_finite(rows: RowBlocks) -> None:
    """Raise the InputError that names the first value of X that is NaN or infinite; pass if there is none.

    Processes that share their sums all come here, and all raise.
    """
    for start in range(0, rows.shape[0], rows.block_rows):
        piece = rows.source[start : start + rows.block_rows]
        finite = torch.isfinite(piece) if isinstance(piece, torch.Tensor) else rows.xp.isfinite(piece)
        if not finite.all():
            row, column = (int(axis[0]) for axis in np.nonzero(~to_host(finite)))
            value = float(piece[row, column])
            word = "NaN" if np.isnan(value) else "inf" if value > 0 else "-inf"
            raise InputError(f"X contains {word} at row {start + row}, column {column}: remove or replace that value")
    if rows.processes.size > 1:
        raise InputError("X contains NaN or infinity in the rows of another process: see its message")
