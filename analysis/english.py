"""Hypotheses about English prose and plays: capitals, words, sentences, quotations, and parts of speech.

Words, sentences and quotations are read from one scan of a text (`gatescope.analysis.english_scan`). A part of speech
is that of the character's word; it needs the sentence, and so sees the future. `word_ends` is what the boundary unit of
Kementchedjhieva & Lopez (2018) signals, and `after_plural` the number that the units of Lakretz et al. (2019) keep, but
of the last noun instead of the subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from gatescope.analysis.closings import register_closing
from gatescope.analysis.english_scan import OTHER, SENTENCE_END, UPPER, in_word, letter_cases, scan
from gatescope.analysis.hypotheses import hypothesis, register_as
from gatescope.analysis.lines import fill_between, remembered
from gatescope.analysis.parts_of_speech import tag_characters

DEFAULT = (
    "capitals",
    "capitals_word",
    "title_case",
    "speaker_line",
    "sentence_start",
    "inside_quotation",
    "verbs",
    "nouns",
    "word_ends",
    "word_position",
)
# Prefixes of Penn Treebank tags.
PARTS_OF_SPEECH = {
    "verbs": ("VB", "MD"),
    "nouns": ("NN",),
    "adjectives": ("JJ",),
    "adverbs": ("RB", "WRB"),
    "pronouns": ("PRP", "WP"),
    "determiners": ("DT", "PDT", "WDT"),
    "prepositions": ("IN", "TO"),
    "conjunctions": ("CC",),
}
PLURALS = ("NNS", "NNPS")
# `First Citizen:` or `DUKE OF YORK:`, alone on its line.
_SPEAKER = re.compile(
    r"^[ \t]*+[A-Z][\w'’.-]*+(?:[ \t]++(?:[A-Z][\w'’.-]*+|(?:of|the|and|to|de|a|an)\b))*+(:)[ \t]*+\n", re.M
)

_scan, _tags = remembered(scan), remembered(tag_characters)


@hypothesis(language="english")
def capitals(text: str) -> np.ndarray:
    """The letters of the word so far are all capitals, and at least two."""
    found = _scan(text)
    return (found.letters >= 2) & (found.upper == found.letters)


@hypothesis(language="english", sees="future")
def capitals_word(text: str) -> tuple[np.ndarray, np.ndarray]:
    """In a word whose letters are all capitals, and at least two; undefined in an unfinished word."""
    cases = letter_cases(text)
    word = in_word(text, cases)
    flips = np.flatnonzero(np.diff(word, prepend=False, append=False))
    starts, ends = flips[::2], flips[1::2]
    letters = np.cumsum(np.append(0, cases != OTHER))
    upper = np.cumsum(np.append(0, cases == UPPER))
    n_letters, n_upper = letters[ends] - letters[starts], upper[ends] - upper[starts]
    chosen = (n_letters >= 2) & (n_letters == n_upper)
    values = fill_between(np.stack((starts[chosen], ends[chosen]), axis=1).ravel(), False, len(text))
    defined = np.ones(len(text), bool)
    if len(ends) and ends[-1] == len(text):
        defined[starts[-1] :] = False
    return values, defined


@hypothesis(language="english")
def title_case(text: str) -> np.ndarray:
    """The first letter of the word is a capital and the others so far, at least one, are not."""
    found = _scan(text)
    return found.capital_first & (found.letters >= 2) & (found.upper == 1)


@hypothesis(language="english", sees="future")
def speaker_line(text: str) -> tuple[np.ndarray, np.ndarray]:
    """In a line that is the name of a speaker and a colon, up to the colon; undefined in an unfinished line."""
    flips = [place for match in _SPEAKER.finditer(text) for place in (match.start(), match.end(1))]
    return fill_between(flips, False, len(text)), np.arange(len(text)) <= text.rfind("\n")


@hypothesis(language="english")
def sentence_start(text: str) -> np.ndarray:
    """In the first word of a sentence."""
    return _scan(text).first_word


@hypothesis(language="english")
def inside_quotation(text: str) -> np.ndarray:
    """From an opening double quote to the closing one, or a blank line."""
    return _scan(text).quotation


register_closing("english", inside_quotation, '"“”')


@hypothesis(language="english")
def inside_word(text: str) -> np.ndarray:
    """In a word: a run of letters and the apostrophes that follow one."""
    return _scan(text).length > 0


@hypothesis(language="english", sees="future")
def word_ends(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The word ends with this character; undefined between words and at the end of a text."""
    word = _scan(text).length > 0
    defined = word.copy()
    defined[-1:] = False
    return word & ~np.append(word[1:], False)[: len(text)], defined


@hypothesis(language="english", values="continuous")
def word_position(text: str) -> np.ndarray:
    """Characters of the word so far, 0 between words."""
    return _scan(text).length


def _register_parts_of_speech() -> None:
    for part, tags in PARTS_OF_SPEECH.items():

        def of_this_part(text: str, tags: tuple[str, ...] = tags) -> tuple[np.ndarray, np.ndarray]:
            token, tag, names = _tags(text)
            table = np.array([name.startswith(tags) for name in names] + [False])
            return table[tag], token >= 0

        def at_first(text: str, function: Callable[[str], tuple[np.ndarray, np.ndarray]] = of_this_part) -> object:
            values, defined = function(text)
            return values, defined & (np.diff(_tags(text)[0], prepend=-1) != 0)

        def at_last(text: str, function: Callable[[str], tuple[np.ndarray, np.ndarray]] = of_this_part) -> object:
            values, defined = function(text)
            return values, defined & (np.diff(_tags(text)[0], append=-1) != 0)

        tagged = " or ".join(f"{tag}*" for tag in tags)
        for suffix, where, function in (
            ("", "every character of a word", of_this_part),
            ("_first", "a word's first character only", at_first),
            ("_last", "a word's last character only", at_last),
        ):
            description = f"The word is tagged {tagged}; asked at {where}, undefined elsewhere."
            register_as(part + suffix, description, function, language="english", sees="future")


_register_parts_of_speech()


@hypothesis(language="english", sees="future")
def after_plural(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The sentence's last noun so far is a plural, tagged NNS or NNPS; undefined until a noun has ended."""
    token, tag, names = _tags(text)
    noun, plural = (np.array([*(name.startswith(kind) for name in names), False]) for kind in ("NN", PLURALS))
    places = np.arange(len(text))
    ends = (token >= 0) & (np.diff(token, append=-1) != 0) & noun[tag]
    last = np.maximum.accumulate(np.where(ends, places, -1))
    starts = np.array([0, *(match.end() for match in SENTENCE_END.finditer(text))])
    defined = last >= starts[np.searchsorted(starts, places, side="right") - 1]
    return plural[tag[last]] & defined, defined
