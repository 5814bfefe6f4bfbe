"""The log of a run: one JSON object a line, appended, never read back by gatescope."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any


def log(path: Path, stage: str, **values: Any) -> None:
    """Append a line with the stage, the time (seconds since 1970) and the values given; null for what is not finite."""
    line = _finite({"stage": stage, "time": round(time.time(), 3), **values})
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Return a value with None for every number that JSON cannot say."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
