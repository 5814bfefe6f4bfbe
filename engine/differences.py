"""Where two sets of settings differ first, and how a message says so."""

from __future__ import annotations

from typing import Any

LONGEST = 60  # characters of a value in a message


class _Unset:
    """What stands for the value of a setting that only the other side has."""

    def __repr__(self) -> str:
        return "unset"


UNSET = _Unset()


def first_difference(before: Any, now: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Return the name of the first setting on which two JSON values differ, and what it is in both.

    Args:
        before, now: dictionaries and lists of any depth.
        name: what both are called, if they are a part of something.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(key for key in before if key not in now)]
        inner = [(f"{name}.{key}".lstrip("."), before.get(key, UNSET), now.get(key, UNSET)) for key in keys]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        inner = [(f"{name}[{place}]", *pair) for place, pair in enumerate(zip(before, now, strict=True))]
    else:
        return None if before == now else (name, before, now)
    found = (first_difference(there, here, place) for place, there, here in inner)
    return next((each for each in found if each), None)


def shortened(value: Any) -> str:
    """Return a value as a message shows it."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
