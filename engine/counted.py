"""Numbers of things, as messages say them."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number and what is counted: "1 row", "2,000 rows".

    Args:
        number: how many there are.
        one: what one is called.
        several: what others are called; default: one with an s at its end.
    """
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"
