"""Limits of memory as people write them."""

from __future__ import annotations

import re

from gatescope.engine.errors import InputError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def bytes_of(memory_limit: str | int | None) -> int | None:
    """Return a limit such as "1GB", "500 MB" or 10**9 in bytes; None for no limit.

    Raises:
        InputError: it is not a positive size.
    """
    if memory_limit is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", str(memory_limit).upper())
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if size <= 0:
        raise InputError(
            f"memory_limit is {memory_limit!r}: expected a size such as '1GB' or '500MB', or a number of bytes"
        )
    return size
