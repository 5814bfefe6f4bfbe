from itertools import combinations_with_replacement

import pytest

from gatescope.analysis.python_lexer import CODE, COMMENT, MODES, STRING, Lexer, LexerState

# text, then S inside a literal, # inside a comment
ROWS = {
    "single quotes": ("'a'b", "SS.."),
    "double quotes": ('"a"b', "SS.."),
    "empty": ('""b', "S.."),
    "quote in quotes": ("\"'\"'a'", "SS.SS."),
    "escaped quote": (r"'\''b", "SSS.."),
    "escaped backslash": (r"'\\'b", "SSS.."),
    "raw literals end alike": (r"r'\'b'c", ".SSSS.."),
    "prefix": ("rb'a'", "..SS."),
    "unterminated": ("'a\nb", "SS.."),
    "continued by a backslash": ("'a\\\nb'c", "SSSSS.."),
    "continued with a carriage return": ("'a\\\r\nb'c", "SSSSSS.."),
    "triple": ('"""a"""b', "S.SSSS.."),
    "triple over lines": ("'''a\n'''b", "S.SSSSS.."),
    "one and two quotes in triple": ('"""a"b""c"""d', "S.SSSSSSSSS.."),
    "four quotes": ('""""a"""b', "S.SSSSS.."),
    "escaped quote in triple": (r'"""\""""b', "S.SSSSS.."),
    "empty triple": ("''''''b", "S.SSS.."),
    "two empties": ('"" ""', "S..S."),
    "adjacent": ("'a''b'", "SS.SS."),
    "comment": ("a#b'\nc", ".###.."),
    "hash in a literal": ("'#'#", "SS.#"),
    "backslash ends no comment": ("#a\\\nb", "###.."),
    "field": ("f'a{b}c'd", ".SS..SS.."),
    "field with a literal": ("f'{a[\"b\"]}'", ".S...SS..S."),
    "same quote in a field": ("f'{'a'}'b", ".S.SS.S.."),
    "two braces": ("f'{{a}}'b", ".S.SSSS.."),
    "field after two braces": ("f'{{{a}}}'b", ".S.S..SSS.."),
    "dictionary in a field": ("f'{ {1:2} }'b", ".S........S.."),
    "conversion": ("f'{a!r}'b", ".S....S.."),
    "format": ("f'{a:>3}'b", ".S..SSSS.."),
    "nested field": ("f'{a:{b}}'b", ".S..S..SS.."),
    "slice": ("f'{a[1:2]}'b", ".S.......S.."),
    "named character": ("f'\\N{DASH}{a}'b", ".SSSSSSSSS..S.."),
    "raw has no named characters": ("rf'\\N{DASH}'b", "..SSS.....S.."),
    "escaped quote in an f-string": (r"f'\''b", ".SSS.."),
    "backslash before a brace": ("f'\\{a}'b", ".SS..S.."),
    "prefix in two letters": ("Rf'{a}'", "..S..S."),
    "word that ends in f": ("if'{a}'b", "..SSSS.."),
    "field over lines": ("f'''{a\n}'''b", ".S.S...SSS.."),
    "comment in a field": ("f'''{a # it's\nb}'''c", ".S.S...######..SSS.."),
    "comment right after the brace": ("f'''{#}\na}'''b", ".S.S.##..SSS.."),
    "comment in brackets in a field": ("f'''{[#]\na]}'''b", ".S.S..##...SSS.."),
    "comment in a field of a format": ("f'''{a:{b#}\n}}'''c", ".S.S..S..##.SSSS.."),
    "hash in a literal in a field": ("f'''{\"#\"}'''b", ".S.S.SS.SSS.."),
    "hash in a format": ("f'{a:#x}'b", ".S..SSSS.."),
    "hash in the literal part": ("f'#{a}'b", ".SS..S.."),
    "newline ends a comment and what is open": ("f'{a#b}\nc'd", ".S..###..SS"),
    "newline ends what is open": ("f'{a\nb}'", ".S.....S"),
    "newline ends a nested one": ("f'{f'{\na'", ".S..S...S"),
    "template string": ("t'{a}'b", ".S..S.."),
    "f-string continued with a carriage return": ("f'a\\\r\nb'c", ".SSSSSS.."),
    "continued behind a literal": ("'a'\\\nb'c'", "SS....SS."),
    "brackets in a field": ("f'{(a:b)}'c", ".S......S.."),
}


def modes(pieces):
    state, found = LexerState(), []
    for piece in pieces:
        lexer = Lexer(piece.encode(), state)
        row = [CODE] * lexer.n
        end = 0
        for first, after, kind in lexer.segments:
            assert end <= first < after <= lexer.n
            row[first:after] = [MODES[kind]] * (after - first)
            end = after
        found += row[lexer.shift :]
        state = lexer.state()
    return "".join({CODE: ".", STRING: "S", COMMENT: "#"}[mode] for mode in found)


@pytest.mark.parametrize(("text", "expected"), ROWS.values(), ids=ROWS.keys())
def test_modes_do_not_depend_on_how_a_text_is_cut(text, expected):
    assert modes([text]) == expected
    assert modes(list(text)) == expected
    for first, second in combinations_with_replacement(range(len(text) + 1), 2):
        assert modes([text[:first], text[first:second], text[second:]]) == expected, (first, second)
