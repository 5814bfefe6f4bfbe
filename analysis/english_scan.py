"""Words, sentences and quotations in English text, after every character.

A word is a run of letters and of apostrophes that follow a letter. A sentence ends at a blank after `.`, `!` or `?`
(and closing quotes or brackets), at the end of a line that ends with a colon, and at a blank line; an abbreviation ends
one too, since only its meaning could tell it apart. A quotation is between double quotes, straight or curly, and a
blank line ends it whether it was closed or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from gatescope.analysis.lines import fill_between
from gatescope.engine.vocabulary import code_points

SENTENCE_END = re.compile(r"[.!?][\"')\]”’]*+\s|:[ \t]*+\n|\n[ \t]*+\n")
_QUOTE = re.compile(r"[\"“”]|\n[ \t]*+\n")
_APOSTROPHES = (ord("'"), ord("’"))
OTHER, LOWER, UPPER = range(3)  # a letter without case counts as lower
_ASCII = np.array([UPPER if chr(c).isupper() else LOWER if chr(c).isalpha() else OTHER for c in range(128)], np.uint8)


@dataclass(frozen=True)
class EnglishScan:
    """Result of the scan after each of n characters.

    Args:
        length: int32 [n], characters of the word so far, 0 between words.
        letters, upper: int32 [n], letters and capital letters of the word so far.
        capital_first: bool [n], the word's first letter is a capital.
        first_word: bool [n], in the first word of a sentence.
        quotation: bool [n], inside a quotation.
    """

    length: np.ndarray
    letters: np.ndarray
    upper: np.ndarray
    capital_first: np.ndarray
    first_word: np.ndarray
    quotation: np.ndarray


def letter_cases(text: str) -> np.ndarray:
    """Return OTHER, LOWER or UPPER for every character, uint8 [n]."""
    points = code_points(text)
    cases = _ASCII[np.minimum(points, 127)]
    if not text.isascii():
        beyond = np.flatnonzero(points >= 128)
        found, place = np.unique(points[beyond], return_inverse=True)
        characters = [chr(point) for point in found.tolist()]
        table = [UPPER if c.isupper() else LOWER if c.isalpha() else OTHER for c in characters]
        cases[beyond] = np.array(table, np.uint8)[place]
    return cases


def in_word(text: str, cases: np.ndarray) -> np.ndarray:
    """Return where words are, bool [n]."""
    letter = cases != OTHER
    apostrophe = np.isin(code_points(text), _APOSTROPHES)
    return letter | (apostrophe & np.append(False, letter[:-1]))


def scan(text: str) -> EnglishScan:
    """Scan English text, n characters."""
    cases = letter_cases(text)
    word = in_word(text, cases)
    starts = np.flatnonzero(word & ~np.append(False, word[:-1]))

    # Counts within the word so far: running counts, less their values before the word began.
    run = np.searchsorted(starts, np.arange(len(text)), side="right")

    def in_this_word(counted: np.ndarray) -> np.ndarray:
        total = np.cumsum(counted, dtype=np.int32)
        base = np.append(0, total[starts] - counted[starts]).astype(np.int32)
        return np.where(word, total - base[run], 0)

    # A word is first in its sentence if the previous sentence ended after the previous word began; a text begins one.
    ends = np.array([0, *(match.end() - 1 for match in SENTENCE_END.finditer(text))])
    ended = np.searchsorted(ends, starts, side="right")
    return EnglishScan(
        length=in_this_word(word),
        letters=in_this_word(cases != OTHER),
        upper=in_this_word(cases == UPPER),
        capital_first=np.append(False, cases[starts] == UPPER)[run] & word,
        first_word=np.append(False, ended > np.append(0, ended[:-1]))[run] & word,
        quotation=_quotation(text),
    )


def _quotation(text: str) -> np.ndarray:
    """Return which characters are inside a quotation, bool [n]."""
    inside, flips = False, []
    for match in _QUOTE.finditer(text):
        found = match[0]
        after = found == "“" or (found == '"' and not inside)
        if after != inside:
            flips.append(match.end() - 1)
            inside = after
    return fill_between(flips, False, len(text))
