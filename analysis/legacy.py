"""The labels from which van der Ouderaa, Quantitatively understanding recurrent networks, obtained its numbers.

They differ from the definitions in the paper's text. They are kept beside the correct ones so that its figures can be
reproduced: its parsers ignored strings, nesting, and lines that end a literal. Its verbs and nouns cannot be
reproduced: they were tagged with a tagger for Chinese.
"""

from __future__ import annotations

import re

import numpy as np

from gatescope.analysis.any_text import line_decay
from gatescope.analysis.hypotheses import hypothesis, register_as
from gatescope.analysis.lines import NEWLINE, character_bytes, fill_between

DEFAULT = (
    "legacy_inside_parentheses",
    "legacy_inside_quotation",
    "legacy_inside_comment",
    "legacy_indent_gt_1",
    "legacy_indent_gt_2",
    "legacy_indent_gt_3",
    "legacy_capitals",
    "legacy_line_position",
)
_QUOTED = re.compile(r'"([^"\n]*+)"')
_PARENTHESES = re.compile(r"\(([^)]*+\)?)")
_BLOCK_COMMENT = re.compile(r"/\*(?:.*?\*/|.*)", re.S)
_LINE_COMMENT = re.compile(r"//[^\n]*+")


def _covered(expression: re.Pattern[str], text: str, group: int = 0) -> np.ndarray:
    flips = [place for match in expression.finditer(text) for place in match.span(group)]
    return fill_between(flips, False, len(text))


@hypothesis(language="c", sees="past")
def legacy_inside_parentheses(text: str) -> np.ndarray:
    """From the character after a ( through the next ), whatever is between them."""
    return _covered(_PARENTHESES, text, group=1)


@hypothesis(language="c", sees="future")
def legacy_inside_quotation(text: str) -> np.ndarray:
    """Strictly between two double quotes on one line, and at every #."""
    return _covered(_QUOTED, text, group=1) | (np.frombuffer(character_bytes(text), np.uint8) == ord("#"))


@hypothesis(language="c", sees="future")
def legacy_inside_comment(text: str) -> np.ndarray:
    """From /* through */, and from // to the end of its line, in strings and in the other comment too."""
    return _covered(_BLOCK_COMMENT, text) | _covered(_LINE_COMMENT, text)


def _register_indentation() -> None:
    for level in (1, 2, 3):

        def indented(text: str, level: int = level) -> np.ndarray:
            raw = np.frombuffer(character_bytes(text), np.uint8)
            tabs = np.cumsum(raw == ord("\t"))
            newlines = np.flatnonzero(raw == NEWLINE)
            before = np.append(0, tabs[newlines])
            return tabs - np.repeat(before, np.diff(np.concatenate(([0], newlines, [len(raw)])))) >= level

        description = f"The line has had at least {level} tab{'s' * (level > 1)}, wherever they stand."
        register_as(f"legacy_indent_gt_{level}", description, indented, language="c")


_register_indentation()


@hypothesis(language="english", sees="future")
def legacy_capitals(text: str) -> np.ndarray:
    """In a line whose letters are all capitals, its newline included."""
    lines = text.split("\n")
    lengths = [len(line) + 1 for line in lines]
    lengths[-1] -= 1
    return np.repeat(np.array([line.isupper() for line in lines]), lengths)


@hypothesis(language="any", values="continuous", sees="future")
def legacy_line_position(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Falls linearly from 1 at a line's first character to -1 at its newline."""
    return line_decay(text)
