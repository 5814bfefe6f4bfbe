"""The registry of hypotheses, and selection from it by name.

Built-in hypotheses come in sets, one for each language; others are registered with the decorator `hypothesis` or given
as a regular expression (`gatescope.analysis.own_hypotheses`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gatescope.analysis.hypothesis import SEES, SETS, VALUES, Hypothesis, is_built_in
from gatescope.analysis.language import LANGUAGES
from gatescope.engine.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])
# Names that a selection may contain besides single hypotheses.
SET_NAMES = frozenset({"auto", *SETS})

_registry: dict[tuple[str, str], Hypothesis] = {}


def hypothesis(*, language: str, values: str = "boolean", sees: str = "past") -> Callable[[F], F]:
    """Register a function as a hypothesis under its own name, and return the function unchanged.

    Args:
        language: "c", "python", "english" or "any".
        values: "boolean" or "continuous".
        sees: "past" if a value follows from the characters up to and including its own, else "future".

    Raises:
        InputError: an argument that is none of these, a name that another hypothesis or a set has, or a callable
            object without a `__name__`.

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
        if name in SET_NAMES:
            raise InputError(f"a set of hypotheses is already named {name!r}; choose another name")
        for key, other in list(_registry.items()):
            if other.name != name:
                continue
            if _redefines(function, other.function):
                del _registry[key]
            elif not built_in or other.language == language:
                raise InputError(
                    f"a hypothesis named {name!r} already exists, for {other.language}; choose another name"
                )
        described = function.func if isinstance(function, functools.partial) else function
        description = (described.__doc__ or "").strip().split("\n")[0]
        _registry[name, language] = Hypothesis(name, language, values, sees, description, function)
        return function

    return register


def register_as(
    name: str, description: str, function: Callable[..., Any], *, language: str, sees: str = "past"
) -> None:
    """Register a function made in a loop under the given name and description."""
    function.__name__, function.__doc__ = name, description
    hypothesis(language=language, sees=sees)(function)


def library() -> list[Hypothesis]:
    """Return every registered hypothesis: the built-in sets in order, then the user's."""
    _import_sets()
    order = {module: place for place, module in enumerate(SETS.values())}
    return sorted(_registry.values(), key=lambda each: order.get(each.function.__module__, len(order)))


def known_names() -> set[str]:
    """Return all names that a selection may contain: hypotheses, sets and "auto"."""
    return {each.name for each in library()} | SET_NAMES


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a suggestion of the known names nearest to an unknown one, or `otherwise` if there are none."""
    close = difflib.get_close_matches(name, sorted(known), n=3)
    return f"did you mean {' or '.join(close)}?" if close else otherwise


def select(names: Sequence[str], language: str) -> list[Hypothesis]:
    """Return the hypotheses that a selection names, each once, in the order of the library.

    Args:
        names: any mixture of "auto" (the default sets of the language and of "any"), the names of sets ("c",
            "python", "english", "any", "legacy"), and the names of single hypotheses.
        language: of the text; it also decides between hypotheses of the same name, such as comments in C and in Python.

    Raises:
        InputError: an unknown language or name.
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
    """Let a module register its hypotheses anew; after the block the list holds them, or an error undoes the change."""
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


def _redefines(function: Callable[..., Any], earlier: Callable[..., Any]) -> bool:
    """Return whether a function redefines an earlier one, as if a notebook cell is run twice, not just its name."""
    if (function.__module__, _path_of(function)) != (earlier.__module__, _path_of(earlier)):
        return False
    new, old = getattr(function, "__code__", None), getattr(earlier, "__code__", None)
    if new is None or old is None:
        return new is old
    return new.co_filename != old.co_filename or new.co_firstlineno == old.co_firstlineno


def _path_of(function: Callable[..., Any]) -> str:
    """Return a function's name in its module; a callable object may only have a plain name."""
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
