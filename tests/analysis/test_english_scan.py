import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis.english_scan import LOWER, OTHER, UPPER, letter_cases, scan

SENTENCES = {
    "first word of a text": ("He is", "##..."),
    "after a full stop": ("a. B c", "#..#.."),
    "after a closing quote": ('a." B', "#...#"),
    "question and exclamation": ("a? b! c", "#..#..#"),
    "no blank after it": ("3.14 a.b c", ".....#...."),
    "line that a colon ends": ("A B:\nc d", "#....#.."),
    "colon within a line": ("a: b", "#..."),
    "blank line": ("a\n\nb c", "#..#.."),
    "blanks in the blank line": ("a\n \t\nb", "#....#"),
    "one newline": ("a\nb", "#.."),
    "blanks and quotes before the first word": ('a.  "b" c', "#....#..."),
    "apostrophe within": ("don't go", "#####..."),
    "abbreviation": ("Mr. A b", "##..#.."),
}
QUOTATIONS = {
    "straight": ('a "b" c', "..##..."),
    "curly": ("a “b” c", "..##..."),
    "curly in straight": ('"a “b" c', "#####..."),
    "blank line": ('"a\n\nb', "###.."),
    "newline": ('"a\nb', "####"),
    "apostrophes": ("'a' ‘b’", "......."),
    "closing one alone": ("a” b", "...."),
}


def table(rows):
    return pytest.mark.parametrize(("text", "expected"), rows.values(), ids=rows.keys())


def mask(values):
    return "".join("#" if value else "." for value in values)


@table(SENTENCES)
def test_first_words_are_found(text, expected):
    assert mask(scan(text).first_word) == expected


@table(QUOTATIONS)
def test_quotations_are_found(text, expected):
    assert mask(scan(text).quotation) == expected


@pytest.mark.parametrize(
    ("character", "case"),
    [
        *((letter, LOWER) for letter in "aéß中ǅ"),
        *((letter, UPPER) for letter in "AÉΣ"),
        *((sign, OTHER) for sign in "1_' \u0301😀\ud800"),
    ],
)
def test_letter_cases_are_recognised(character, case):
    assert letter_cases(character).tolist() == [case]
    assert letter_cases(f"a{character}é").tolist() == [LOWER, case, LOWER]


def by_characters(text):
    """The word so far at each character: its length, letters, capitals, and whether the first letter is a capital."""
    word, rows = "", []
    for character in text:
        if character.isalpha() or (character in "'’" and word[-1:].isalpha()):
            word += character
        else:
            word = ""
        letters = [letter for letter in word if letter.isalpha()]
        rows.append(
            (len(word), len(letters), sum(letter.isupper() for letter in letters), word[:1].isupper() and bool(word))
        )
    return rows


@settings(max_examples=300, deadline=None)
@given(text=st.text("aBÉé'’ .1", max_size=40) | st.text(max_size=20))
def test_words_equal_a_character_by_character_scan(text):
    found = scan(text)
    columns = (found.length, found.letters, found.upper, found.capital_first)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == by_characters(text)


def sentences_and_quotations(text):
    """Whether each character is in a sentence's first word, and in a quotation, from the text before it."""
    awaits, first, quoted, rows = True, False, False, []
    for i, character in enumerate(text):
        *earlier, line = text[:i].split("\n")
        letter = i > 0 and text[i - 1].isalpha()
        if not (character.isalpha() or (character in "'’" and letter)):
            first = False
        elif i == 0 or not (letter or (text[i - 1] in "'’" and text[: i - 1][-1:].isalpha())):
            first, awaits = awaits, False
        blank_line = character == "\n" and bool(earlier) and not line.strip(" \t")
        awaits |= character.isspace() and text[:i].rstrip("\"')]”’")[-1:] in (".", "!", "?")
        awaits |= blank_line or (character == "\n" and line.rstrip(" \t").endswith(":"))
        closes = blank_line or character == "”" or (character == '"' and quoted)
        quoted = (quoted or character in '"“') and not closes
        rows.append((first, quoted))
    return rows


@settings(max_examples=300, deadline=None)
@given(text=st.text("aB.!?:\"'“”)’ \n\t1", max_size=40))
def test_sentences_and_quotations_equal_a_character_by_character_scan(text):
    found = scan(text)
    columns = (found.first_word.tolist(), found.quotation.tolist())
    assert list(zip(*columns, strict=True)) == sentences_and_quotations(text)


def test_real_text_equals_a_character_by_character_scan(data):
    text = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")[:200_000]
    found = scan(text)
    assert list(zip(found.length.tolist(), found.letters.tolist(), strict=True)) == [
        row[:2] for row in by_characters(text)
    ]
    # The text has no quotations.
    assert np.count_nonzero(found.quotation) == 0
