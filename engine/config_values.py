"""The values of a config: whether they are what its fields say, and what they are as JSON."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gatescope.engine.differences import shortened
from gatescope.engine.errors import InputError

# What a field takes, by its annotation, and how a message says so.
EXPECTED: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: (str, "a text"),
    Path: (str | os.PathLike, "a path"),
}


def plain(value: Any) -> Any:
    """Return dataclasses, tuples, paths, NumPy's numbers and infinities as the JSON values that they come back as."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        value = float(value)
    infinite = isinstance(value, float) and not math.isfinite(value)
    return str(value) if infinite or isinstance(value, Path) else value


def whole_seed(seed: int, bits: int) -> int:
    """Return a seed, which may be NumPy's, as an int.

    Raises:
        InputError: it is no whole number of at least 0 that takes so many bits at most.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**bits:
        raise InputError(f"--seed {seed}: expected a whole number from 0 to 2^{bits} - 1")
    return int(seed)


def require_kind(name: str, given: Any, kind: type, returned_by: str = "") -> None:
    """Check that an argument is what a function takes, and not a path or a dictionary in its place.

    Args:
        name: of the argument.
        given: what the caller gave.
        kind: what it should be.
        returned_by: how a caller gets one, unless it is made by its name.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(given, kind):
        how = f", as {returned_by} returns it" if returned_by else ""
        raise InputError(f"{name} is of type {type(given).__name__}: expected {kind.__name__}{how}")


def require_values(config: Any) -> None:
    """Check that the fields of a dataclass are what their annotations say.

    Raises:
        InputError: a field has another value.
    """
    for name, hint in get_type_hints(type(config)).items():
        _require_value(f"--{name.replace('_', '-')}", getattr(config, name), hint)


def _require_value(flag: str, given: Any, hint: Any) -> None:
    """Check one value by its annotation: a key of `EXPECTED`, a Literal, an optional one, or a tuple of them."""
    inner, shown = get_args(hint), shortened(given)
    if get_origin(hint) is tuple:
        if not isinstance(given, tuple | list):
            what = "one word" if isinstance(given, str) else "not a tuple"
            raise InputError(f"{flag} {shown} is {what}: expected several values, such as ({shown},)")
        for each in given:
            _require_value(flag, each, inner[0])
    elif get_origin(hint) is Literal:
        if not isinstance(given, str) or given not in inner:
            raise InputError(f"{flag} {shown} is unknown: expected {' or '.join(map(str, inner))}")
    elif NoneType in inner:
        if given is not None:
            _require_value(flag, given, inner[0])
    elif not isinstance(given, EXPECTED[hint][0]) or isinstance(given, bool) != (hint is bool):
        raise InputError(f"{flag} {shown}: expected {EXPECTED[hint][1]}")
