"""Words, sentences and quotations in English text, after every character.

A word is a run of letters and of apostrophes that follow a letter. A sentence ends at a blank after `.`, `!` or `?`
(and closing quotes or brackets), at the end of a line that a colon ends, and at a blank line; an abbreviation ends one
too, for nothing but its meaning tells it apart. A quotation stands between double quotes, straight or curly, and a
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
_CLOSERS = "\"')]”’"
_APOSTROPHES = (ord("'"), ord("’"))
OTHER, LOWER, UPPER = range(3)  # a letter that has no case counts as lower
_ASCII = np.array([UPPER if chr(c).isupper() else LOWER if chr(c).isalpha() else OTHER for c in range(128)], np.uint8)


@dataclass(frozen=True)
class EnglishState:
    """What the scanner remembers between two pieces of a text; `EnglishState()` is the start of one.

    Args:
        length, letters, upper: of the unfinished word: characters, letters, capital letters; length 0 between words.
        capital_first: its first letter is a capital.
        after_letter: the last character is a letter.
        awaits_sentence: a sentence has ended, and no word has begun since.
        first_word: the unfinished word is its sentence's first.
        quotation: inside one.
        tail: `.` (or `!`, `?`), `:` or a newline, if the next character may make it the end of a sentence.
    """

    length: int = 0
    letters: int = 0
    upper: int = 0
    capital_first: bool = False
    after_letter: bool = False
    awaits_sentence: bool = True
    first_word: bool = False
    quotation: bool = False
    tail: str = ""


@dataclass(frozen=True)
class EnglishScan:
    """What the scanner knows after each of n characters.

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


def in_word(text: str, cases: np.ndarray, after_letter: bool = False) -> np.ndarray:
    """Return where words are, bool [n], for a text whose previous character was a letter or not."""
    letter = cases != OTHER
    apostrophe = np.isin(code_points(text), _APOSTROPHES)
    return letter | (apostrophe & np.append(after_letter, letter[:-1]))


def scan(text: str, state: EnglishState | None = None) -> tuple[EnglishScan, EnglishState]:
    """Scan English text, or go on scanning it: the pieces of a text give what the whole gives.

    Args:
        text: n characters.
        state: what the scan of the characters before returned; None at the start of a text.

    Returns:
        The scan of the n characters, and the state to go on from.
    """
    state = EnglishState() if state is None else state
    n = len(text)
    cases = letter_cases(text)
    word = in_word(text, cases, state.after_letter)
    starts = np.flatnonzero(word & ~np.append(state.length > 0, word[:-1]))

    # What the word has so far: running counts, less what they were before it began.
    run = np.searchsorted(starts, np.arange(n), side="right")
    carried = state if state.length and n and word[0] else EnglishState()

    def in_this_word(counted: np.ndarray, before: int) -> np.ndarray:
        total = np.cumsum(counted, dtype=np.int32)
        base = np.append(-before, total[starts] - counted[starts]).astype(np.int32)
        return np.where(word, total - base[run], 0)

    length = in_this_word(word, carried.length)
    letters = in_this_word(cases != OTHER, carried.letters)
    upper = in_this_word(cases == UPPER, carried.upper)
    capital_first = np.append(carried.capital_first, cases[starts] == UPPER)[run] & word

    ends = _sentence_ends(text, state.tail)
    if state.awaits_sentence:
        ends = np.append(0, ends)
    # A word is its sentence's first if the sentence before ended after the word before began.
    ended = np.searchsorted(ends, starts, side="right")
    is_first = np.append(state.first_word, ended > np.append(0, ended[:-1]))
    first_word = is_first[run] & word
    awaits = bool(ended[-1] < len(ends)) if len(starts) else len(ends) > 0

    quotation = _quotation(text, state)
    if not n:
        return EnglishScan(length, letters, upper, capital_first, first_word, quotation), state
    return EnglishScan(length, letters, upper, capital_first, first_word, quotation), EnglishState(
        length=int(length[-1]),
        letters=int(letters[-1]),
        upper=int(upper[-1]),
        capital_first=bool(capital_first[-1]),
        after_letter=bool(cases[-1] != OTHER),
        awaits_sentence=awaits,
        first_word=bool(first_word[-1]),
        quotation=bool(quotation[-1]),
        tail=_tail(state.tail + text),
    )


def _sentence_ends(text: str, tail: str = "") -> np.ndarray:
    """Return the places of the characters that end a sentence."""
    ends = [match.end() - 1 - len(tail) for match in SENTENCE_END.finditer(tail + text)]
    return np.array(ends, np.int64)


def _tail(text: str) -> str:
    if text.rstrip(_CLOSERS).endswith((".", "!", "?")):
        return "."
    last = text.rstrip(" \t")[-1:]
    return last if last in (":", "\n") else ""


def _quotation(text: str, state: EnglishState) -> np.ndarray:
    inside, flips = state.quotation, []
    newline = state.tail if state.tail == "\n" else ""
    for match in _QUOTE.finditer(newline + text):
        found = match[0]
        after = found == "“" or (found == '"' and not inside)
        if after != inside:
            flips.append(match.end() - 1 - len(newline))
            inside = after
    return fill_between(flips, state.quotation, len(text))
