"""Hypotheses about Python source, read from one scan of a text (`gatescope.analysis.python_scan`).

A value is the parser's state after the character: an opening quote or bracket is already inside, and a closing one is
no longer, except under the name with `+close`. The prefix of a literal is outside it. Of three opening quotes the
second is outside, because an empty literal is all that has been read by then. A header or condition begins after its
keyword and ends before its colon.
"""

from __future__ import annotations

import numpy as np

from gatescope.analysis.closings import register_closing
from gatescope.analysis.hypotheses import hypothesis, register_as
from gatescope.analysis.lines import remembered
from gatescope.analysis.python_lexer import COMMENT, STRING
from gatescope.analysis.python_scan import CONDITION, DECORATOR, DOCSTRING, HEADER, MODE, PythonScan, scan

DEFAULT = (
    "inside_string",
    "inside_docstring",
    "inside_comment",
    "inside_brackets",
    "bracket_depth_ge_2",
    "indent_gt_0",
    "indent_gt_1",
    "indent_gt_2",
    "indent_gt_3",
    "inside_condition",
    "inside_header",
    "inside_decorator",
    "bracket_depth",
    "indent_level",
)


@remembered
def _scan(text: str) -> PythonScan:
    return scan(text)[0]


@hypothesis(language="python")
def inside_string(text: str) -> np.ndarray:
    """In a literal of characters or bytes; the fields of an f-string count as code."""
    return _scan(text).state & MODE == STRING


@hypothesis(language="python")
def inside_docstring(text: str) -> np.ndarray:
    """In the literal at the beginning of a module, class or function."""
    return _scan(text).state & DOCSTRING > 0


@hypothesis(language="python")
def inside_comment(text: str) -> np.ndarray:
    """In a comment, beginning with its #."""
    return _scan(text).state & MODE == COMMENT


@hypothesis(language="python")
def inside_brackets(text: str) -> np.ndarray:
    """At least one ( [ or { is open."""
    return _scan(text).brackets > 0


@hypothesis(language="python")
def inside_condition(text: str) -> np.ndarray:
    """Between if, elif or while at the start of a statement and its colon."""
    return _scan(text).state & CONDITION > 0


@hypothesis(language="python")
def inside_header(text: str) -> np.ndarray:
    """Between def or class and its colon."""
    return _scan(text).state & HEADER > 0


@hypothesis(language="python")
def inside_decorator(text: str) -> np.ndarray:
    """In a decorator, from its @ to the end of the statement."""
    return _scan(text).state & DECORATOR > 0


@hypothesis(language="python", values="continuous")
def bracket_depth(text: str) -> np.ndarray:
    """Number of open ( [ and {."""
    return _scan(text).brackets


@hypothesis(language="python", values="continuous")
def indent_level(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Number of blocks around the statement; undefined in a line's leading blanks and at its newline."""
    level = _scan(text).level
    return level, level >= 0


def _register_levels() -> None:
    for depth in (2, 3):

        def deep(text: str, depth: int = depth) -> np.ndarray:
            return _scan(text).brackets >= depth

        register_as(f"bracket_depth_ge_{depth}", f"At least {depth} brackets are open.", deep, language="python")

    for level in range(5):

        def indented(text: str, level: int = level) -> tuple[np.ndarray, np.ndarray]:
            levels = _scan(text).level
            return levels > level, levels >= 0

        description = f"More than {level} {'block' if level == 1 else 'blocks'} around the statement."
        register_as(f"indent_gt_{level}", description, indented, language="python")


_register_levels()
for _literal in (inside_string, inside_docstring):
    register_closing("python", _literal, "\"'")
register_closing("python", inside_brackets, ")]}")
