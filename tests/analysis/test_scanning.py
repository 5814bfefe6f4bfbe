"""Scanners on any text: they never raise, their values depend only on the past, and pieces give the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import c_scan, english_scan, python_scan

C_PARTS = [
    *("if", "while (", "for", "switch", "iff", "_if(", "else", "do", "x", "é", "(", ")", "{", "}", "[", "]", ";"),
    *('"', "'", "\\", "\\\n", "\n", "\n}", "\r", "\t", " ", "/", "*", "/*", "*/", "//", "#", "\n#if", "#define"),
    *("#include <", ">", "\n\t", '"a"', "'b'"),
]
PYTHON_PARTS = [
    *("def ", "class ", "if ", "elif", "while", "async ", "return", "\nreturn ", "import", "lambda", "@", "x", "é"),
    *("(", ")", "{", "}", "[", "]", ":", ":=", "=", "#", "\n", "\r\n", "\\", "\\\n", "\t", " ", "\n    ", "\n  "),
    *('"', "'", '"""', "'''", 'f"', "f'", 'f"""', 'rb"', "Rf", "r", "u", "{{", "}}", "!r", "\\N{", "\x0c"),
]
ENGLISH_PARTS = [
    *("ROME", "the", "I", "A", "b", "É", "é", "ǅ", "中", "5", "_", "'", "’", '"', "“", "”", ")"),
    *(".", "!", "? ", ":", ":\n", "\n", "\n\n", " ", "\t", "\u2029"),
]
SCANNERS = {"c": (c_scan.scan, C_PARTS), "python": (python_scan.scan, PYTHON_PARTS)}
# English is scanned in one piece.
SCANS = {
    "c": (lambda text: c_scan.scan(text)[0], C_PARTS),
    "python": (lambda text: python_scan.scan(text)[0], PYTHON_PARTS),
    "english": (english_scan.scan, ENGLISH_PARTS),
}


def texts(parts):
    own = st.lists(st.sampled_from(parts), max_size=40).map("".join)
    return own | st.text(max_size=40)


def columns(found):
    return {name: getattr(found, name) for name in vars(found)}


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("language", SCANNERS)
def test_pieces_give_the_whole(language, data):
    scan, parts = SCANNERS[language]
    text = data.draw(texts(parts))
    whole, _ = scan(text)
    places = st.integers(0, len(text))
    cuts = data.draw(st.just(list(range(len(text)))) | st.lists(places, max_size=4).map(sorted))
    state, found = None, []
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece, state = scan(text[start:stop], state)
        found.append(columns(piece))
    for name, expected in columns(whole).items():
        assert len(expected) == len(text)
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece in found]), expected, err_msg=name)


@settings(max_examples=100)
@given(data=st.data())
@pytest.mark.parametrize("language", SCANS)
def test_values_depend_on_the_past_only(language, data):
    scan, parts = SCANS[language]
    past, future = data.draw(texts(parts)), data.draw(texts(parts))
    whole, alone = columns(scan(past + future)), columns(scan(past))
    for name, expected in alone.items():
        np.testing.assert_array_equal(whole[name][: len(past)], expected, err_msg=name)


@pytest.mark.parametrize("language", SCANNERS)
def test_the_given_state_is_not_modified(language):
    scan, parts = SCANNERS[language]
    first, second = "".join(parts[: len(parts) // 2]), "".join(parts[len(parts) // 2 :])
    _, state = scan("if (a) { while (b" + first)
    once, twice = scan(second, state)[0], scan(second, state)[0]
    for name, expected in columns(once).items():
        np.testing.assert_array_equal(columns(twice)[name], expected, err_msg=name)


@pytest.mark.parametrize("language", SCANNERS)
def test_texts_longer_than_a_piece_are_scanned_correctly(language, monkeypatch):
    scan, parts = SCANNERS[language]
    text = "".join(parts) * 7 + "\n}\n" + "".join(reversed(parts)) * 5
    expected = columns(scan(text)[0])
    monkeypatch.setattr({"c": c_scan, "python": python_scan}[language], "PIECE", 13)
    for name, found in columns(scan(text)[0]).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
