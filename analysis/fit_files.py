"""The finished fits of a probe that has not ended, a file for each: one that was stopped goes on behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gatescope.analysis.excerpts import Prediction
from gatescope.engine.errors import InputError
from gatescope.engine.files import write_atomic

# What `gatescope.analysis.study.Study.fit` returns: records, coefficients, and predictions by hypothesis.
Fit = tuple[list[dict[str, Any]], dict[str, np.ndarray], dict[str, Prediction]]


def save_fit(path: Path, fit: Fit) -> None:
    """Write a fit, in one step; the folder is made if it is absent."""
    records, weights, predictions = fit
    arrays = {f"weights/{name}": values for name, values in weights.items()}
    arrays |= {f"prediction/{name}": each.values for name, each in predictions.items()}
    about = {"records": records, "predictions": {n: [p.states, p.weighting, p.unit] for n, p in predictions.items()}}
    path.parent.mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    write_atomic(path, save(contiguous, {"gatescope": json.dumps(about)}))


def holds_fit(path: Path, hypotheses: list[str]) -> bool:
    """Whether a file has the fit of these hypotheses: one that could not be evaluated before may be there now."""
    return path.exists() and [record["hypothesis"] for record in _about(path)["records"]] == hypotheses


def load_fit(path: Path, test_rows: np.ndarray) -> Fit:
    """Return a fit as it was saved.

    Args:
        path: its file.
        test_rows: [n], those that were predicted.

    Raises:
        InputError: the file is damaged.
    """
    about = _about(path)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights = {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith("weights/")}
    predictions = {
        name: Prediction(states, weighting, arrays[f"prediction/{name}"], test_rows, unit)
        for name, (states, weighting, unit) in about["predictions"].items()
    }
    return about["records"], weights, predictions


def _about(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["gatescope"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): probe anew with --overwrite") from None
