"""Hypotheses about a text: what a reader might know after each character.

A hypothesis maps a text of n characters to n values and says where they are defined. A value is a statement about the
reader who has just read the character; a hypothesis that sees the "past" needs nothing but the characters up to and
including it, one that sees the "future" needs later ones. Built-in hypotheses come in sets, one for each language;
others are registered with the decorator `hypothesis` or come as a regular expression
(`gatescope.analysis.own_hypotheses`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gatescope.analysis.language import LANGUAGES
from gatescope.analysis.user_code import CodeOfUser
from gatescope.engine.errors import InputError
from gatescope.engine.vocabulary import code_points

# The modules of the built-in sets, in the order in which their hypotheses are listed. Each names its default set.
SETS = {
    "c": "gatescope.analysis.c_code",
    "python": "gatescope.analysis.python_code",
    "english": "gatescope.analysis.english",
    "any": "gatescope.analysis.any_text",
    "legacy": "gatescope.analysis.legacy",
}
VALUES = ("boolean", "continuous")
SEES = ("past", "future")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Hypothesis:
    """A named statement about every character of a text.

    Args:
        name: what tables and files call it.
        language: "c", "python", "english", or "any" for texts of every kind.
        values: "boolean" or "continuous".
        sees: "past" if a value follows from the characters up to and including its own, else "future".
        description: one line.
        function: takes a text of n characters, returns n values or the pair (values, defined); what a masked array
            masks is undefined.
    """

    name: str
    language: str
    values: str
    sees: str
    description: str
    function: Callable[[str], Any]

    def label(self, text: str, prime: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return the values of a text, and where they are defined.

        Args:
            text: n characters.
            prime: characters that stand before the text; they are read with it, and have no values.

        Returns:
            values [n], bool or float64, False or 0 where undefined, and defined [n], bool.

        Raises:
            InputError: the function raised, or returned values that are too few or too many, not numbers, or not
                finite where they are defined.
        """
        whole = prime + text
        # The built-in ones know lines that end with \n. A \r before it takes the value of the character before; so does
        # every \r where only the past is seen, for what follows is not known yet.
        places = _without_returns(whole, self.sees) if is_built_in(self.function) and "\r" in whole else None
        read = whole if places is None else whole.replace("\r\n", "\n")
        with self._code_of_user():
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

    def _code_of_user(self) -> CodeOfUser:
        code = getattr(self.function, "__code__", None)
        return CodeOfUser(f"hypothesis {self.name!r}", code.co_filename if code else "")

    def _array(self, given: Any, what: str) -> np.ndarray:
        with self._code_of_user():
            array = np.asarray(given)
        if array.dtype.kind not in "buif" and array.size:
            raise InputError(
                f"hypothesis {self.name!r} returned {what} of type {array.dtype}; return numbers, and the positions "
                "without a value as False in a second array (values, defined)"
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


_registry: dict[tuple[str, str], Hypothesis] = {}


def hypothesis(*, language: str, values: str = "boolean", sees: str = "past") -> Callable[[F], F]:
    """Register a function as a hypothesis under its own name, and leave the function as it is.

    Args:
        language: "c", "python", "english" or "any".
        values: "boolean" or "continuous".
        sees: "past" if a value follows from the characters up to and including its own, else "future".

    Raises:
        InputError: an argument that is none of these, a name that another function has, or a callable object without
            a `__name__`.

    Example:
        >>> @hypothesis(language="any")
        ... def after_comma(text):
        ...     "The last character but blanks is a comma."
        ...     return [text[: i + 1].rstrip(" ").endswith(",") for i in range(len(text))]
    """
    for what, given, allowed in (("language", language, LANGUAGES), ("values", values, VALUES), ("sees", sees, SEES)):
        if given not in allowed:
            raise InputError(f"{what}={given!r}; expected one of {', '.join(allowed)}")

    def register(function: F) -> F:
        built_in = is_built_in(function)
        if not built_in:
            _import_sets()
        name = getattr(function, "__name__", None)
        if name is None:
            raise InputError(f"a {type(function).__name__} has no name: set its __name__, or wrap it in a function")
        for key, other in list(_registry.items()):
            if other.name != name:
                continue
            if _redefines(function, other.function):
                del _registry[key]
            elif not built_in or other.language == language:
                raise InputError(
                    f"a hypothesis named {name!r} exists already, for {other.language}; choose another name"
                )
        described = function.func if isinstance(function, functools.partial) else function
        description = (described.__doc__ or "").strip().split("\n")[0]
        _registry[name, language] = Hypothesis(name, language, values, sees, description, function)
        return function

    return register


def library() -> list[Hypothesis]:
    """Return every registered hypothesis: the built-in sets in their order, then the user's."""
    _import_sets()
    order = {module: place for place, module in enumerate(SETS.values())}
    return sorted(_registry.values(), key=lambda each: order.get(each.function.__module__, len(order)))


def known_names() -> set[str]:
    """Return what a selection may name: hypotheses, sets and "auto"."""
    return {each.name for each in library()} | {"auto", *SETS}


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return which known names one that is unknown may stand for, or what else is to be said of it."""
    close = difflib.get_close_matches(name, sorted(known), n=3)
    return f"did you mean {' or '.join(close)}?" if close else otherwise


def select(names: Sequence[str], language: str) -> list[Hypothesis]:
    """Return the hypotheses that a selection names, each once, in the order of the library.

    Args:
        names: any mixture of "auto" (the default set of the language, and that for any text), the names of sets ("c",
            "python", "english", "any", "legacy"), and the names of single hypotheses.
        language: of the text; it also decides between hypotheses of one name, such as the comments of C and of Python.

    Raises:
        InputError: a language or name that nothing has.
    """
    if language not in LANGUAGES:
        raise InputError(f"language={language!r}; expected one of {', '.join(LANGUAGES)}")
    chosen: set[tuple[str, str]] = set()
    for name in names:
        if name == "auto":
            chosen |= _default_set(language) | _default_set("any")
        elif name in SETS:
            chosen |= _default_set(name)
        else:
            chosen.add(_single(name, language))
    return [each for each in library() if (each.name, each.language) in chosen]


@contextmanager
def registered_by(module: str) -> Iterator[list[Hypothesis]]:
    """Let a module register anew what it has; behind the block the list holds that, after an error nothing changed."""
    _import_sets()
    before = dict(_registry)
    found: list[Hypothesis] = []
    for key, each in before.items():
        if each.function.__module__ == module:
            del _registry[key]
    try:
        yield found
    except BaseException:
        _registry.clear()
        _registry.update(before)
        raise
    found += [each for key, each in _registry.items() if before.get(key) is not each]


def _without_returns(text: str, sees: str) -> np.ndarray:
    """Return the place of each character when every \\r before a \\n is left out; its own is its predecessor's.

    For a hypothesis that sees the past, that of any other \\r is its predecessor's too; -1 where there is none.
    """
    codes = code_points(text)
    returns = codes == ord("\r")
    left_out = returns & (np.append(codes[1:], 0) == ord("\n"))
    follows = returns if sees == "past" else left_out
    return np.maximum.accumulate(np.where(follows, -1, np.arange(len(codes)) - np.cumsum(left_out)))


def is_built_in(function: Callable[..., Any]) -> bool:
    """Whether a function is one of the built-in sets."""
    return function.__module__ in SETS.values()


def _redefines(function: Callable[..., Any], earlier: Callable[..., Any]) -> bool:
    """Return whether a function is an earlier one again, as from a notebook's cell run twice; not its namesake."""
    if (function.__module__, _path_of(function)) != (earlier.__module__, _path_of(earlier)):
        return False
    new, old = getattr(function, "__code__", None), getattr(earlier, "__code__", None)
    if new is None or old is None:
        return new is old
    return new.co_filename != old.co_filename or new.co_firstlineno == old.co_firstlineno


def _path_of(function: Callable[..., Any]) -> str:
    """Return a function's name in its module; a callable object may have a plain one only."""
    return getattr(function, "__qualname__", function.__name__)


def _import_sets() -> None:
    for module in SETS.values():
        importlib.import_module(module)


def _default_set(name: str) -> set[tuple[str, str]]:
    module = importlib.import_module(SETS[name])
    return {
        (each.name, each.language)
        for each in library()
        if each.function.__module__ == module.__name__ and each.name in module.DEFAULT
    }


def _single(name: str, language: str) -> tuple[str, str]:
    found = {each.language: each for each in library() if each.name == name}
    if not found:
        hint = did_you_mean(name, known_names(), "`gatescope hypotheses` lists them")
        raise InputError(f"no hypothesis or set is named {name!r}; {hint}")
    for candidate in (language, "any", *found):
        if candidate in found:
            return name, candidate
    raise AssertionError("unreachable: found is not empty")
