"""Whether a device's memory or a disk has room for what is to be stored there."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from gatescope.engine.errors import InputError


def require_memory(n_bytes: int, device: torch.device, what: str, remedy: str) -> None:
    """Do what `require_room` does for the memory of a device, where something says how much is free."""
    free = free_bytes(device, n_bytes)
    if free is not None:
        require_room(n_bytes, free, what, str(device), remedy)


def require_room(n_bytes: int, free: int, what: str, where: str, remedy: str) -> None:
    """Refuse what there is no room for.

    Args:
        n_bytes, free: that it takes, and that there are.
        what: takes them, in the plural.
        where: of the device or disk.
        remedy: what to do.

    Raises:
        InputError: more is needed than is free.
    """
    if n_bytes > free:
        raise InputError(f"{what} take {size(n_bytes)} and {where} has {size(free)} free: {remedy}")


def size(n_bytes: int) -> str:
    """Return a number of bytes in the largest unit of which there is one."""
    units = {"GB": 10**9, "MB": 10**6, "kB": 10**3}
    unit = next((name for name, each in units.items() if n_bytes >= each), None)
    return f"{n_bytes / units[unit]:,.2f} {unit}" if unit else f"{n_bytes} bytes"


def free_bytes(device: torch.device, enough: int) -> int | None:
    """Return the memory that a device can still give, what torch has reserved included; None where that is not known.

    Args:
        enough: of which no more need be known than that there is as much.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if free >= enough:
            return free
        held = torch.cuda.memory_stats_as_nested_dict(device)
        return free + held["reserved_bytes"]["all"]["current"] - held["allocated_bytes"]["all"]["current"]
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        return None
    return int(found[1]) << 10 if found else None
