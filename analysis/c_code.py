"""Hypotheses about C source, read from one scan of a text (`gatescope.analysis.c_scan`).

A value is the parser's state after the character: an opening parenthesis or quote is already inside, a closing one is
no longer. Only the second of the two characters that open a comment is inside, since the first could be a division. The
name with `+open` counts the whole opening as inside (and so sees the future); with `+close`, the whole closing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gatescope.analysis.c_lexer import BLOCK_COMMENT, CHARACTER, LINE_COMMENT, STRING
from gatescope.analysis.c_scan import BODY, CONDITION, DIRECTIVE, MODE, CScan, scan
from gatescope.analysis.closings import register_closing
from gatescope.analysis.hypotheses import hypothesis, register_as
from gatescope.analysis.lines import remembered

DEFAULT = (
    "inside_parentheses",
    "inside_string",
    "inside_comment",
    "indent_gt_1",
    "indent_gt_2",
    "indent_gt_3",
    "inside_condition",
    "inside_body",
    "inside_directive",
    "inside_braces",
    "parenthesis_depth_ge_2",
    "parenthesis_depth",
    "brace_depth",
    "indent_level",
)
TAB = 8  # the kernel's indentation; the names of the others contain the width
OTHER_WIDTHS = (2, 4)


@remembered
def _scan(text: str, columns: int = TAB) -> CScan:
    return scan(text, columns=columns)[0]


@hypothesis(language="c")
def inside_parentheses(text: str) -> np.ndarray:
    """At least one ( is open; directives do not count."""
    return _scan(text).parentheses > 0


@hypothesis(language="c")
def inside_string(text: str) -> np.ndarray:
    """In a string literal, from its opening quote to the one that closes it."""
    return _scan(text).state & MODE == STRING


@hypothesis(language="c")
def inside_comment(text: str) -> np.ndarray:
    """In a comment of either kind."""
    return _scan(text).state & MODE >= LINE_COMMENT


def _register_levels() -> None:
    for columns in (TAB, *OTHER_WIDTHS):
        unit, of, suffix = ("tab", "", "") if columns == TAB else ("level", f" of {columns} columns", f"_of_{columns}")
        for level in (1, 2, 3):

            def indented(text: str, level: int = level, columns: int = columns) -> tuple[np.ndarray, np.ndarray]:
                levels = _scan(text, columns).level
                return levels > level, levels >= 0

            description = f"Indented by more than {level} {unit}{'s' * (level > 1)}{of}."
            register_as(f"indent_gt_{level}{suffix}", description, indented, language="c")

    for depth in (2, 3):

        def deep(text: str, depth: int = depth) -> np.ndarray:
            return _scan(text).parentheses >= depth

        register_as(f"parenthesis_depth_ge_{depth}", f"At least {depth} ( are open.", deep, language="c")


_register_levels()


@hypothesis(language="c")
def inside_condition(text: str) -> np.ndarray:
    """In the parentheses after if, while, for or switch."""
    return _scan(text).state & CONDITION > 0


@hypothesis(language="c")
def inside_body(text: str) -> np.ndarray:
    """In the statement after such a condition, through its last character; else and do have none."""
    return _scan(text).state & BODY > 0


@hypothesis(language="c")
def inside_directive(text: str) -> np.ndarray:
    """In a preprocessor directive, its continuation lines included."""
    return _scan(text).state & DIRECTIVE > 0


@hypothesis(language="c")
def inside_braces(text: str) -> np.ndarray:
    """At least one { is open."""
    return _scan(text).braces > 0


@hypothesis(language="c")
def inside_character(text: str) -> np.ndarray:
    """In a character literal."""
    return _scan(text).state & MODE == CHARACTER


@hypothesis(language="c")
def inside_line_comment(text: str) -> np.ndarray:
    """In a comment that // opens."""
    return _scan(text).state & MODE == LINE_COMMENT


@hypothesis(language="c")
def inside_block_comment(text: str) -> np.ndarray:
    """In a comment that /* opens."""
    return _scan(text).state & MODE == BLOCK_COMMENT


@hypothesis(language="c", values="continuous")
def parenthesis_depth(text: str) -> np.ndarray:
    """Number of open (."""
    return _scan(text).parentheses


@hypothesis(language="c", values="continuous")
def expression_depth(text: str) -> np.ndarray:
    """Number of ( and [ opened since the statement began."""
    return _scan(text).expression


@hypothesis(language="c", values="continuous")
def brace_depth(text: str) -> np.ndarray:
    """Number of open {."""
    return _scan(text).braces


@hypothesis(language="c", values="continuous")
def indent_level(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Indentation of the line in tabs; undefined in its leading blanks and at its newline."""
    level = _scan(text).level
    return level, level >= 0


def _register_delimiters() -> None:
    for base, closing in (
        (inside_parentheses, ")"),
        (inside_condition, ")"),
        (inside_string, '"'),
        (inside_character, "'"),
        (inside_comment, "/"),
        (inside_block_comment, "/"),
    ):
        register_closing("c", base, closing)

    for comment in (inside_comment, inside_line_comment, inside_block_comment):

        def opened(text: str, comment: Callable[[str], np.ndarray] = comment) -> tuple[np.ndarray, np.ndarray]:
            inside, code = comment(text), _scan(text).state & MODE == 0
            inside[:-1] |= inside[1:] & code[:-1]
            # It is not known yet what a slash at the very end begins, unless it has just closed a comment.
            undecided = np.zeros(len(text), bool)
            undecided[-1:] = text.endswith("/") and code[-2:].all()
            return inside, ~undecided

        description = f"{(comment.__doc__ or '').rstrip('.')}; its opening counts as inside."
        register_as(f"{comment.__name__}+open", description, opened, language="c", sees="future")


_register_delimiters()
