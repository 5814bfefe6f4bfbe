from itertools import combinations_with_replacement

import pytest

from gatescope.analysis.c_lexer import BLOCK_COMMENT, CHARACTER, CODE, LINE_COMMENT, STRING, lex

MODES = {".": CODE, "s": STRING, "c": CHARACTER, "l": LINE_COMMENT, "b": BLOCK_COMMENT}
# text, mode after each character, the code that is left of it
ROWS = {
    "string": ('a = "(b)";', "....ssss..", 'a = """"";'),
    "character": ("a = '(';", "....cc..", 'a = ""\';'),
    "block comment": ("a/*(b)*/c", "..bbbbb..", "a/     /c"),
    "line comment": ("a//(b)\nc", "..llll..", "a/    \nc"),
    "comment over lines": ("/*a\n*/", ".bbbb.", "/    /"),
    "include": ("#include <a'b>'", "..............c", "#include <a'b>\""),
    "include of nothing": ("#include <\n'", "...........c", '#include <\n"'),
    "import": ("#import <'>", "...........", "#import <'>"),
    "half an include": ("#inc <'>", "......cc", '#inc <""'),
    "escaped quote": (r'"\""a', "sss..", '""""a'),
    "escaped backslash": (r'"\\"a"', "sss..s", '""""a"'),
    "unterminated string": ('"a\nb', "ss..", '""\nb'),
}
TEXTS = [text for text, _, _ in ROWS.values()]


@pytest.mark.parametrize(("text", "modes", "code"), ROWS.values(), ids=ROWS.keys())
def test_each_character_gets_its_mode(text, modes, code):
    found, left, mode, _ = lex(text.encode(), CODE, b"")
    assert found.tolist() == [MODES[letter] for letter in modes]
    assert left.decode() == code
    assert mode == MODES[modes[-1]]


@pytest.mark.parametrize(
    ("text", "mode", "tail"),
    [
        ("a", CODE, b""),
        ("a/", CODE, b"/"),
        ("/**/", CODE, b""),
        ("/*", BLOCK_COMMENT, b""),
        ("/**", BLOCK_COMMENT, b"*"),
        ("/*a*", BLOCK_COMMENT, b"*"),
        ("//a", LINE_COMMENT, b""),
        ("//a\\", LINE_COMMENT, b"\\"),
        ('"', STRING, b""),
        ('"\\', STRING, b"\\"),
        ('"\\\\', STRING, b"\\\\"),
        ('"\\\\\\', STRING, b"\\"),
        ("'", CHARACTER, b""),
        ('"a"', CODE, b""),
        ("#", CODE, b"#"),
        (" # \tinc", CODE, b"#inc"),
        ("#include  ", CODE, b"#include "),
        ("#include <a/", CODE, b"#include<"),
        ("#include <a>", CODE, b""),
        ("#a\n", CODE, b""),
        ("#a b", CODE, b""),
        ("#much_longer_than_include", CODE, b""),
    ],
)
def test_undecided_final_characters_are_carried_to_the_next_piece(text, mode, tail):
    assert lex(text.encode(), CODE, b"")[2:] == (mode, tail)


def in_pieces(pieces):
    mode, tail, modes, code = CODE, b"", [], b""
    for each in pieces:
        found, left, mode, tail = lex(each.encode(), mode, tail)
        modes += found.tolist()
        code += left
    return modes, code


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_lexed_like_the_whole(text):
    whole, left, *_ = lex(text.encode(), CODE, b"")
    assert in_pieces(text) == (whole.tolist(), left)
    for first, second in combinations_with_replacement(range(len(text) + 1), 2):
        assert in_pieces([text[:first], text[first:second], text[second:]]) == (whole.tolist(), left), (first, second)
