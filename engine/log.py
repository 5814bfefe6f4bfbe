"""The log of a run: one JSON object a line, appended, never read back by gatescope."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


def log(path: Path, stage: str, **values: Any) -> None:
    """Append a line with the stage, the time (seconds since 1970) and the values given."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"stage": stage, "time": round(time.time(), 3), **values}) + "\n")
