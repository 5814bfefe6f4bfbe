"""The C scanner against hand-written rows, a character-by-character parser, pygments and tree-sitter."""

import re
from itertools import pairwise

import numpy as np
import pytest
import tree_sitter
import tree_sitter_c
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.lexers.c_cpp import CLexer
from pygments.token import Comment, String

from gatescope.analysis.c_lexer import BLOCK_COMMENT, CHARACTER, CODE, LINE_COMMENT, STRING
from gatescope.analysis.c_scan import BODY, CONDITION, DIRECTIVE, MODE, scan

N_FILES = 25


def mask(values):
    return "".join("#" if value else "." for value in values)


def digits(values):
    return "".join("-" if value < 0 else str(value) for value in values)


# name: text, with the positive characters below it
STRINGS = {
    "plain": ('a = "bc";', "....###.."),
    "empty": ('""x', "#.."),
    "escaped quote": (r'"a\"b"c', "#####.."),
    "escaped backslash": (r'"a\\"b"', "####..#"),
    "unterminated": ('"ab\nc"d', "###..##"),
    "continued by a backslash": ('"a\\\nb"c', "#####.."),
    "pair of backslashes before a newline": ('"a\\\\\nb"c', "######.."),
    "quote as a character": ("'\"'\"", "...#"),
    "in a line comment": ('// "a"\nb', "........"),
    "in a block comment": ('/* " */ "a', "........##"),
    "name of an include": ('#include <a"b>\n"', "...............#"),
    "include_next": ('# include_next <"\n"', "..................#"),
    "include with quotes": ('#include "a.h"', ".........####."),
    "in a directive": ('#define A "b"', "..........##."),
    "less-than elsewhere": ('a < "b"', "....##."),
}
CHARACTERS = {
    "plain": ("'a'b", "##.."),
    "escaped": (r"'\''b", "###.."),
    "apostrophe in a directive": ("#error don't\nx", "..........##.."),
    "in a string": ('"it\'s"', "......"),
    "name of an include": ("#include <it's>\nx", "................."),
}
COMMENTS = {
    "block": ("a/*b*/c", "..###.."),
    "line": ("a//b\nc", "..##.."),
    "block does not nest": ("/*/**/b*/", ".####...."),
    "slash star slash does not close": ("/*/ a */b", ".######.."),
    "two stars": ("/**/a", ".##.."),
    "star at the end": ("/***/a", ".###.."),
    "line spliced": ("//a\\\nb\nc", ".#####.."),
    "in a string": ('"/*a*/"//', "........#"),
    "string in it": ('/*"*/"a', ".###..."),
    "closed and opened": ("/**//**/", ".##..##."),
    "close is no opening": ("/**/*a", ".##..."),
    "unterminated": ("/*a", ".##"),
    "line within a block": ("/*//*/a", ".####.."),
    "block within a line": ("///*\na", ".###.."),
    "division": ("a / b / *c", ".........."),
}
DIRECTIVES = {
    "plain": ("#if (A)\nb", "#######.."),
    "indented": (" \t# if\nb", "..####.."),
    "spliced": ("#a\\\nb\nc", "#####.."),
    "not first": ("a #b\n", "....."),
    "after a comment": ("/**/#a\nb", "....##.."),
    "comment over lines": ("#a/*\n*/b\nc", "########.."),
    "at the end": ("a\n#b", "..##"),
    "after a spliced line": ("a\\\n#b\n#c", "......##"),
    "hash in it": ("#a #b\nc", "#####.."),
}
PARENTHESES = {
    "nested": ("f(g(h))", "0112210"),
    "floor": (")(a)", "0110"),
    "through a string": ('(")")', "11110"),
    "through a comment": ("(/*)*/)", "1111110"),
    "character": ("(')')", "11110"),
    "directive": ("(\n#if (\n)", "111111110"),
    "body of a define": ("#define A (b\nc", "0" * 14),
    "column 0 brace": ("((\n}a", "12200"),
    "indented brace": ("(\n }a", "11111"),
    "brace after a comment": ("(\n/**/}", "1111111"),
}
EXPRESSIONS = {
    "brackets": ("a[f(b)]", "0112210"),
    "statement ends": ("a[;b", "0100"),
    "semicolons of for": ("for(;;)[", "00011101"),
    "braces": ("[{[}[", "10101"),
    "floor": ("])[", "001"),
}
BRACES = {
    "nested": ("{{}}{", "12101"),
    "floor": ("}{", "01"),
    "column 0": ("{{\n}a", "12200"),
    "string": ('{"}"', "1111"),
}
CONDITIONS = {
    "if": ("if (a) b", "...##..."),
    "while without blank": ("while(a)", ".....##."),
    "for": ("for (;;) ;", "....###..."),
    "switch": ("switch (a)", ".......##."),
    "nested parentheses": ("if (f(a)) b", "...#####..."),
    "longer word": ("elseif (a)", ".........."),
    "word with underscore": ("_if (a)", "......."),
    "word that begins so": ("ifx (a)", "......."),
    "letter beyond ASCII": ("éif (a)", "......."),
    "after else": ("else if(a)", ".......##."),
    "newline between": ("if\n(a)", "...##."),
    "comment between": ("if /*(*/ (a)", ".........##."),
    "line comment between": ("if // (\n (a)", ".........##."),
    "directive between": ("if\n#if (A)\n(a)", "...........##."),
    "in a string": ('"if (a)"', "........"),
    "in a directive": ("#if (a)\n", "........"),
    "in a comment": ("/* if (a) */", "............"),
    "string with a parenthesis": ('if (")") b', "...####..."),
    "another word": ("iffor (a)", "........."),
    "reset": ("if (a\n}b)", "...###..."),
    "within a condition": ("if (({while (b)c;}))d", "...################.."),
    "keyword two words back": ("if a (b)", "........"),
    "keyword of a directive": ("#undef if\n(a)", "............."),
}
BODIES = {
    "statement": ("if (a) b; c", ".......##.."),
    "block": ("if (a) {b;} c", ".......####.."),
    "empty": ("while (a);b", ".........#."),
    "next line": ("if (a)\n\tb;\n", "........##."),
    "nested": ("if (a) if (b) c; d", ".......#########.."),
    "block in a statement": ("if (a) for (;;) {b;} c", ".......#############.."),
    "three": ("if(a)for(;;)while(b){c;}d", ".....###################."),
    "do": ("if(a)do{b;}while(c);d", ".....###############."),
    "initialiser": ("if(a)b=(c){1};d", ".....#########."),
    "else": ("if(a)b;else c;", ".....##......."),
    "else if": ("if(a){b;}else if(c)d;e", ".....####..........##."),
    "semicolon in parentheses": ("if(a)b(({c;}));d", ".....##########."),
    "comment before it": ("if (a) /* c */ b;", "...............##"),
    "directive before it": ("if (a)\n#if B\nb;", ".............##"),
    "comment inside": ("if(a)b/*;*/;c", ".....#######."),
    "cut off by a brace": ("{if(a)b}c;", "......#..."),
    "cut off by a parenthesis": ("(if(a)b)c;", "......#..."),
    "reset": ("if(a){b\n}c", ".....####."),
    "reset further out": ("{if(a){b\n}c", "......###.."),
    "chained block and what follows": ("if(a)if(b){c;}d;", ".....#########.."),
    "call with a condition in it": ("if(a)f(b);g;", ".....#####.."),
    "switch": ("switch(a){case 1:b;}c", ".........###########."),
}
LEVELS = {
    "tabs": ("a\n\tb\n\t\tc", "0--1---2"),
    "spaces": ("        a\n    b", "--------1-----0"),
    "tabs and spaces": ("\t    a", "-----1"),
    "blank line": ("\ta\n\t\n\tb", "-1----1"),
    "spaces before a tab": ("   \ta", "----1"),
    "in a comment": ("/*\n\t*/", "00--11"),
}


def table(rows):
    return pytest.mark.parametrize(("text", "expected"), rows.values(), ids=rows.keys())


def lexical(text, *modes):
    return mask(np.isin(scan(text)[0].state & MODE, modes))


@table(STRINGS)
def test_strings_are_found(text, expected):
    assert lexical(text, STRING) == expected


@table(CHARACTERS)
def test_characters_are_found(text, expected):
    assert lexical(text, CHARACTER) == expected


@table(COMMENTS)
def test_comments_are_found(text, expected):
    assert lexical(text, LINE_COMMENT, BLOCK_COMMENT) == expected


@table(DIRECTIVES)
def test_directives_are_found(text, expected):
    assert mask(scan(text)[0].state & DIRECTIVE) == expected


@table(PARENTHESES)
def test_parentheses_are_counted(text, expected):
    assert digits(scan(text)[0].parentheses) == expected


@table(EXPRESSIONS)
def test_expression_depth_is_counted(text, expected):
    assert digits(scan(text)[0].expression) == expected


@table(BRACES)
def test_braces_are_counted(text, expected):
    assert digits(scan(text)[0].braces) == expected


@table(CONDITIONS)
def test_conditions_are_found(text, expected):
    assert mask(scan(text)[0].state & CONDITION) == expected


@table(BODIES)
def test_bodies_are_found(text, expected):
    assert mask(scan(text)[0].state & BODY) == expected


@table(LEVELS)
def test_indentation_levels_are_found(text, expected):
    assert digits(scan(text)[0].level) == expected


TABLES = (STRINGS, CHARACTERS, COMMENTS, DIRECTIVES, PARENTHESES, EXPRESSIONS, BRACES, CONDITIONS, BODIES, LEVELS)


@pytest.mark.parametrize("rows", TABLES)
def test_scanning_in_two_pieces_changes_nothing(rows):
    for text, _ in rows.values():
        whole = vars(scan(text)[0])
        for cut in range(len(text) + 1):
            first, state = scan(text[:cut])
            second, _ = scan(text[cut:], state)
            for name, expected in whole.items():
                found = [*getattr(first, name), *getattr(second, name)]
                assert found == expected.tolist(), (text[:cut], text[cut:], name)


def test_levels_are_counted_in_the_given_columns():
    assert digits(scan("  a\n    b\n\tc\n   d", columns=2)[0].level) == "--1-----2--1----1"


def test_depth_saturates_at_the_largest_value():
    found = scan("(" * 70_000 + ")" * 69_999)[0]
    assert found.parentheses.max() == 65_535
    assert found.parentheses[-1] == 1


def by_characters(text):
    """Mode, parentheses, expression and braces, one character at a time, for texts without directives."""
    mode, skip, rows, used = CODE, False, [], -1
    parentheses = expression = braces = 0
    for i, c in enumerate(text):
        before = text[i - 1] if i else ""
        if mode in (STRING, CHARACTER):
            if skip:
                skip = False
            elif c == "\\":
                skip = True
            elif c == ('"' if mode == STRING else "'") or (c == "\n" and before != "\\"):
                mode = CODE
        elif mode == LINE_COMMENT:
            if c == "\n" and before != "\\":
                mode = CODE
        elif mode == BLOCK_COMMENT:
            if c == "/" and before == "*" and i - 1 > used:
                mode, used = CODE, i
        elif c in "\"'":
            mode = STRING if c == '"' else CHARACTER
        elif c in "/*" and before == "/" and i - 1 > used:
            mode, used = (LINE_COMMENT if c == "/" else BLOCK_COMMENT), i
        elif c in "([":
            parentheses += c == "("
            expression += 1
        elif c in ")]":
            parentheses -= c == ")" and parentheses > 0
            expression -= expression > 0
        elif c in "{};":
            braces = max(0, braces + {"{": 1, "}": -1, ";": 0}[c])
            if not parentheses:
                expression = 0
            if c == "}" and before in ("\n", ""):
                parentheses = expression = braces = 0
        rows.append((mode, parentheses, expression, braces))
    return rows


@settings(max_examples=500, deadline=None)
@given(text=st.text("ab \n\\\"'/*()[]{};", max_size=60) | st.text(max_size=30).filter(lambda text: "#" not in text))
def test_equals_a_parser_of_single_characters(text):
    found = scan(text)[0]
    columns = (found.state & MODE, found.parentheses, found.expression, found.braces)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == by_characters(text)


@pytest.fixture(scope="module")
def kernel_files(data):
    """Whole files of the Linux kernel."""
    text = (data / "linux.txt").read_text(encoding="utf-8")
    starts = [match.start() for match in re.finditer(r"^(?://|/\*) SPDX", text[:6_000_000], re.MULTILINE)]
    files = [text[start:stop] for start, stop in pairwise(starts)]
    return [file for file in files if len(file) < 60_000 and file.isascii()]


def test_comments_and_strings_equal_pygments(kernel_files):
    lexer = CLexer(stripnl=False, ensurenl=False)
    compared_rows = []
    for text in kernel_files[:N_FILES]:
        # pygments labels directives, and code that #if 0 leaves out, in its own way.
        if "#if 0" in text:
            continue
        modes = np.full(len(text), CODE)
        for start, token, value in lexer.get_tokens_unprocessed(text):
            stop = start + len(value)
            if token in Comment.Single:
                modes[start + 1 : start + len(value.rstrip("\n"))] = LINE_COMMENT
            elif token in Comment.Multiline:
                modes[start + 1 : stop - 1] = BLOCK_COMMENT
            elif token in String:
                mode = CHARACTER if token in String.Char else STRING
                # A literal comes as several tokens, the last of which is the closing quote.
                closes = value in ("'", '"') and start > 0 and modes[start - 1] == mode
                modes[start : start if closes else stop] = mode
        found = scan(text)[0].state
        compared = (found & DIRECTIVE) == 0
        compared_rows.append(np.count_nonzero(compared))
        np.testing.assert_array_equal((found & MODE)[compared], modes[compared])
    assert sum(compared_rows) > 100_000


def nodes(tree):
    stack = [tree.root_node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children)


def test_structure_equals_tree_sitter(kernel_files):
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))
    n_parsed = 0
    for text in kernel_files:
        tree = parser.parse(text.encode())
        # Macros that hide braces or parentheses make it guess.
        if tree.root_node.has_error:
            continue
        n_parsed += 1
        condition, body, unsure = (np.zeros(len(text), bool) for _ in range(3))
        steps = {bracket: np.zeros(len(text), int) for bracket in "({"}
        found = scan(text)[0]
        code = (found.state & DIRECTIVE) == 0
        for node in nodes(tree):
            if node.type in "(){}":
                steps["(" if node.type in "()" else "{"][node.start_byte] = 1 if node.type in "({" else -1
            elif node.type == "for_statement":
                opens, *_, closes = (child for child in node.children if child.type in "()")
                condition[opens.start_byte : closes.start_byte] = True
            elif node.type in ("if_statement", "while_statement", "switch_statement", "do_statement"):
                where = node.child_by_field_name("condition")
                condition[where.start_byte : where.end_byte - 1] = True
            governed = node.child_by_field_name("consequence") or node.child_by_field_name("body")
            if node.type == "do_statement":
                # The semicolon after a do's while counts as that loop's empty body.
                unsure[node.end_byte - 1] = True
            elif node.type in ("if_statement", "for_statement", "while_statement", "switch_statement"):
                body[governed.start_byte : governed.end_byte] = True
        np.testing.assert_array_equal((found.state & CONDITION > 0)[code], condition[code])
        np.testing.assert_array_equal((found.state & BODY > 0)[code & ~unsure], body[code & ~unsure])
        for bracket, depth in (("(", found.parentheses), ("{", found.braces)):
            np.testing.assert_array_equal(depth[code], np.cumsum(steps[bracket] * code)[code])
        if n_parsed == N_FILES:
            break
    assert n_parsed == N_FILES
