"""Hypotheses that a user defines: by a regular expression, or by the functions of a Python file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

import numpy as np
import regex

from gatescope.analysis.hypotheses import known_names, registered_by
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.analysis.lines import fill_between
from gatescope.analysis.user_code import user_code
from gatescope.engine.errors import InputError
from gatescope.engine.location import local_path

# Seconds of processor time that a regular expression may take for any text, and characters per second beyond that; most
# expressions read millions.
SECONDS = 10.0
CHARACTERS_PER_SECOND = 200_000.0


def pattern(specification: str) -> Hypothesis:
    r"""Make a hypothesis of a regular expression: positive at every character that a match covers.

    Args:
        specification: "NAME=REGEX": the name of letters, digits and underscores, the expression in the syntax of
            Python's `re` with the additions of the package `regex`, such as \p{Lu} for a capital letter. Matches are
            found from left to right and do not overlap.

    Raises:
        InputError: a bad name, or a bad expression, with the position. Later, from `label`: the expression took more
            than ten seconds, as one that backtracks may.

    Example:
        >>> pattern(r"number=\d+").label("a 42")[0].tolist()
        [False, False, True, True]
    """
    name, equals, expression = specification.partition("=")
    if not equals:
        raise InputError(f"pattern {specification!r} has no '='; expected NAME=REGEX, such as number=[0-9]+")
    bad = re.search(r"^[^A-Za-z_]|\W", name, re.ASCII)
    if bad or not name:
        place = bad.start() if bad else 0
        raise InputError(
            f"pattern {specification!r}: the name is invalid at position {place}; expected letters, digits and _ only, "
            "and no digit first"
        )
    if name in known_names():
        raise InputError(
            f"pattern {specification!r}: a hypothesis or set named {name!r} already exists; choose another name"
        )
    if not expression:
        raise InputError(f"pattern {specification!r}: the regular expression is empty at position {len(name) + 1}")
    try:
        compiled = regex.compile(expression)
    except (regex.error, OverflowError, RecursionError) as error:
        place = len(name) + 1 + (getattr(error, "pos", None) or 0)
        reason = getattr(error, "msg", str(error))
        raise InputError(
            f"pattern {specification!r}: {reason} at position {place}; expected a regular expression"
        ) from None
    description = f"Covered by a match of {expression}"
    return Hypothesis(name, "any", "boolean", "future", description, _covered_by(name, compiled))


def _covered_by(name: str, expression: regex.Pattern[str]) -> Callable[[str], np.ndarray]:
    """Return a function that marks the characters of a text that matches cover, bool [n]."""

    def covered(text: str) -> np.ndarray:
        limit = SECONDS + len(text) / CHARACTERS_PER_SECOND
        try:
            spans = [match.span() for match in expression.finditer(text, timeout=limit)]
        except TimeoutError:
            raise InputError(
                f"pattern {name!r} took longer than {limit:.0f} s on {len(text)} characters; a repetition within a "
                "repetition, such as (a+)+, makes it backtrack: rewrite it without one"
            ) from None
        # Matches are in order and do not overlap, so the value changes at each start and end.
        return fill_between(np.array(spans, dtype=np.int64).ravel(), False, len(text))

    return covered


def load_functions(path: str | os.PathLike[str]) -> list[Hypothesis]:
    """Run a Python file and return the hypotheses that it registers with the decorator `hypothesis`.

    Args:
        path: the file. It can import modules in its folder, as a script can.

    Raises:
        InputError: the file is missing, raises (with the line), or registers nothing.
    """
    path = local_path(path)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a Python file that registers hypotheses") from None
    folder = str(path.resolve().parent)
    module = ModuleType(f"functions of {path.resolve()}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    sys.path.insert(0, folder)
    try:
        with registered_by(module.__name__) as found, user_code(str(path), str(path)):
            exec(compile(source, str(path), "exec"), module.__dict__)
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
        # For imports that a function makes when it is called; at the front it would hide our own libraries.
        if folder not in sys.path:
            sys.path.append(folder)
    if not found:
        raise InputError(f"{path} registers no hypothesis; put @hypothesis(language=...) above its functions")
    return found
