"""A hypothesis about a text: a statement about each character that a reader might know after reading it.

It maps a text of n characters to n values, and to where they are defined. A value is a statement about the moment at
which the reader has just read the character. A hypothesis that sees the "past" needs only the characters up to and
including this one; one that sees the "future" needs later ones.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from gatescope.analysis.user_code import user_code
from gatescope.engine.differences import shortened
from gatescope.engine.errors import InputError
from gatescope.engine.vocabulary import code_points

# The modules of the built-in sets, in the order in which their hypotheses are listed; each has a DEFAULT.
SETS = {
    "c": "gatescope.analysis.c_code",
    "python": "gatescope.analysis.python_code",
    "english": "gatescope.analysis.english",
    "any": "gatescope.analysis.any_text",
    "legacy": "gatescope.analysis.legacy",
}
VALUES = ("boolean", "continuous")
SEES = ("past", "future")


@dataclass(frozen=True)
class Hypothesis:
    """A named statement about every character of a text.

    Args:
        name: its name in tables and files.
        language: "c", "python", "english", or "any" for texts of every kind.
        values: "boolean" or "continuous".
        sees: "past" if a value follows from the characters up to and including its own, else "future".
        description: one line.
        function: takes a text of n characters, returns n values or the pair (values, defined); masked entries of a
            masked array are undefined.
    """

    name: str
    language: str
    values: str
    sees: str
    description: str
    function: Callable[[str], Any]

    def label(self, text: str, prime: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return the values at the characters of a text, and where they are defined.

        Args:
            text: n characters.
            prime: characters that stand before the text; the function reads them too, but their values are dropped.

        Returns:
            values [n], bool or float64, False or 0 where undefined, and defined [n], bool.

        Raises:
            InputError: the function raised, or returned too few or too many values, or values that are not numbers, or
                not finite where defined.
        """
        whole = prime + text
        # The built-in ones expect lines to end with \n. A \r before it takes the value of the preceding character; so
        # does every \r if only the past is seen, since it is not known yet what follows.
        places = _without_returns(whole, self.sees) if is_built_in(self.function) and "\r" in whole else None
        read = whole if places is None else whole.replace("\r\n", "\n")
        with self._running():
            result = self.function(read)
            # A text of two characters may have a plain tuple of two values.
            pair = isinstance(result, tuple) and len(result) == 2 and np.ndim(result[0]) == 1
        values, defined = result if pair else (result, True)
        n = len(read)
        mask = self._array(defined, "defined") if pair else np.ones(n, bool)
        array = self._array(values, "values")
        masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else np.zeros(n, bool)
        for what, given in (("values", array), ("defined", mask)):
            if given.shape != (n,):
                raise InputError(
                    f"hypothesis {self.name!r} returned {what} of shape {given.shape} for a text of {n} characters; "
                    "return one per character"
                )
        mask = mask.astype(bool) & ~masked
        if places is not None:
            array, mask = array[places], mask[places] & (places >= 0)
        array, mask = array[len(prime) :], mask[len(prime) :]
        return self._checked(array, mask), mask

    def _running(self) -> AbstractContextManager[None]:
        code = getattr(self.function, "__code__", None)
        return user_code(f"hypothesis {self.name!r}", code.co_filename if code else "")

    def _array(self, given: Any, what: str) -> np.ndarray:
        with self._running():
            array = np.asarray(given)
        if array.dtype.kind not in "buif" and array.size:
            found = f"{what} of type {array.dtype}" if array.ndim else f"a {type(given).__name__}"
            if array.ndim and array.dtype == object:
                odd = next((each for each in array.flat if not isinstance(each, Real)), array.flat[0])
                found = f"{what} such as {shortened(odd)}"
            raise InputError(
                f"hypothesis {self.name!r} returned {found}; return a list or array of numbers, one per character, and "
                "the positions without a value as False in a second one (values, defined)"
            )
        return array

    def _checked(self, array: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if self.values == "boolean":
            if array.dtype != bool:
                wrong = np.flatnonzero(mask & (array != 0) & (array != 1))
                if len(wrong):
                    raise InputError(
                        f"hypothesis {self.name!r} returned {array[wrong[0]]} at character {wrong[0]}; a boolean one "
                        'returns True and False (declare values="continuous" for others)'
                    )
                array = array == 1
            return array & mask
        numbers = np.where(mask, array, 0).astype(np.float64)
        with np.errstate(over="ignore"):
            wrong = np.flatnonzero(~np.isfinite(numbers.astype(np.float32)))
        if len(wrong):
            raise InputError(
                f"hypothesis {self.name!r} returned {array[wrong[0]]} at character {wrong[0]}; return finite numbers, "
                "and the positions without a value as False in a second array (values, defined)"
            )
        return numbers


def is_built_in(function: Callable[..., Any]) -> bool:
    """Whether a function is one of the built-in sets."""
    return function.__module__ in SETS.values()


def _without_returns(text: str, sees: str) -> np.ndarray:
    """Return the place of each character after every \\r before a \\n is removed; such a \\r takes its predecessor's.

    For a hypothesis that sees the past, any other \\r takes its predecessor's too; -1 where there is none.
    """
    codes = code_points(text)
    returns = codes == ord("\r")
    left_out = returns & (np.append(codes[1:], 0) == ord("\n"))
    follows = returns if sees == "past" else left_out
    return np.maximum.accumulate(np.where(follows, -1, np.arange(len(codes)) - np.cumsum(left_out)))
