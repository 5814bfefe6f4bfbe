"""Whether torchrun has started several processes, said without importing torch."""

from __future__ import annotations

import os


def started_processes() -> int:
    """Return how many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))
