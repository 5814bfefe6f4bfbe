"""Files of the finished fits of a running probe, one for each, so that a stopped one continues after them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gatescope.engine.errors import InputError
from gatescope.engine.files import write_atomic

# The records, the coefficients, and the texts to paint.
Fit = tuple[list[dict[str, Any]], dict[str, np.ndarray], list[dict[str, Any]]]


def save_fit(path: Path, fit: Fit) -> None:
    """Write a fit, in one step; the folder is made if it is absent."""
    records, weights, painted = fit
    path.parent.mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(values) for name, values in weights.items()}
    about = json.dumps({"records": records, "painted": painted})
    write_atomic(path, save(contiguous, {"gatescope": about}))


def holds_fit(path: Path, hypotheses: list[str]) -> bool:
    """Whether a file has the fit of just these hypotheses: some may not have been evaluable before."""
    return path.exists() and [record["hypothesis"] for record in _about(path)["records"]] == hypotheses


def load_fit(path: Path) -> Fit:
    """Return a saved fit.

    Raises:
        InputError: the file is damaged.
    """
    about = _about(path)
    with safe_open(path, framework="numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return about["records"], weights, about["painted"]


def _about(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["gatescope"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): probe again with --overwrite") from None
