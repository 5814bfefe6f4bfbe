"""Memory that stays with the process while the same work is done again and again.

glibc gives a large array back to the system when it is freed, and takes fresh memory for the next, which the system
has to clear page by page. A step of training asks for the same hundreds of megabytes every time: two LSTM layers of 128
units (B=128, T=200, two cores of a virtual machine, in turn) trained on 118,000 characters/s so, and on 199,000 with
memory that is kept.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER = -1
# What glibc has by default, but for the thresholds, which it raises up to these while a program runs.
MOST_MAPPED, MAPPED_FROM = 65_536, 32 << 20


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let freed memory stay with the process for the time of the block, and give it back after it.

    For a loop that asks for the same large arrays again and again, in training on a CPU above all. It may take half as
    much memory again. Allocators other than glibc's are left as they are.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, MOST_MAPPED)
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MAPPED_FROM)
        libc.malloc_trim(0)
