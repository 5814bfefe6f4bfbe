"""The Python scanner against hand-written rows, a character-by-character parser, and `tokenize` and `ast`."""

import ast
import io
import tokenize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis.python_lexer import CODE, COMMENT, STRING
from gatescope.analysis.python_scan import CONDITION, DECORATOR, DOCSTRING, HEADER, MODE, scan
from gatescope.engine.corpus import stdlib_files

EVERY_NTH_FILE = 9
LARGEST_FILE = 60_000

HEADERS = {
    "def": ("def f(a: b) -> c: d", "...#############..."),
    "class": ("class A(B):", ".....#####."),
    "async def": ("async def f(): a", ".........####..."),
    "longer word": ("define f():", "..........."),
    "not first": ("a def f():", ".........."),
    "indented": ("  def f():", ".....####."),
    "no colon": ("def f()\na", "...####.."),
    "over lines": ("def f(\n a):", "...#######."),
    "splice": ("def \\\nf():", "...######."),
    "after an open bracket": ("f(\ndef g(): a", "......####..."),
    "one line after another": ("def f(): def g():", "...####.........."),
}
CONDITIONS = {
    "if": ("if a: b", "..##..."),
    "elif": ("elif a:", "....##."),
    "while": ("while(a):", ".....###."),
    "else": ("else: a", "......."),
    "ternary": ("a if b else c: d", "................"),
    "comprehension": ("[a for a in b if c]", "..................."),
    "colon in brackets": ("if a[b:c]: d", "..#######..."),
    "walrus": ("if a := b: c", "..###.###..."),
    "walrus at the end": ("if a :", "..###."),
    "longer word": ("iffy: a", "......."),
    "literal with a colon": ("if ':': a", "..####..."),
    "comment with a colon": ("if a #:\n: b", "..#####...."),
    "word at the end": ("if", ".."),
    "spliced, and what a bracket once held": ("(\nreturn a\\\nwhile b: c", "......................"),
    "letter beyond ASCII": ("ifé: a", "......"),
}
DECORATORS = {
    "plain": ("@a\ndef f(): b", "##..........."),
    "call over lines": ("@a(\n b)\nc", "#######.."),
    "over the lines of a field": ("@f'''{\na}'''\nb", "############.."),
    "matrix product": ("a @ b", "....."),
    "spliced": ("@a\\\nb\nc", "#####.."),
}
DOCSTRINGS = {
    "module": ('"a"\nb', "##..."),
    "module after a comment": ('#a\n\n"b"', "....##."),
    "second statement": ('a\n"b"', "....."),
    "function": ('def f():\n "a"\n "b"', "..........##......"),
    "class on one line": ("class A: 'a'", ".........##."),
    "after a comment": ('def f(): # a\n "b"', "..............##."),
    "after if": ('if a:\n "b"', ".........."),
    "prefix": ('def f():\n r"a"', "...........##."),
    "bytes": ('def f():\n b"a"', ".............."),
    "f-string": ('def f():\n f"a"', ".............."),
    "triple over lines": ('def f():\n """a\n"""', "..........#.#####."),
    "adjacent literals": ("def f(): 'a''b'", ".........##...."),
    "annotation is no body": ('def f(a: "b"): c', "................"),
    "dictionary": ('{"a": "b"}', ".........."),
}
BRACKETS = {
    "all kinds": ("([{}])", "123210"),
    "floor": (")(", "01"),
    "in literals and comments": ("('(' #(\n)", "111111110"),
    "keyword that begins a line": ("(\n  return (a)", "11111111110110"),
    "keyword in a name": ("(\nreturned)", "11111111110"),
    "keyword as an attribute": ("(a.\nimport_)", "111111111110"),
    "fields": ("f'{a[b]}' ", "0000110000"),
}
LEVELS = {
    "blocks": ("a\n b\n  c\n d\ne", "0--1---2--1-0"),
    "tab": ("a\n\tb\n        c", "0--1---------1"),
    "continuation": ("f(a,\n     b)\nc", "0000------00-0"),
    "comment alone": ("a\n b\n# c\n b\nd", "0--1-000--1-0"),
    "comment before a deeper block": ("a\n # c\n b", "0--111--1"),
    "blank lines": ("a\n b\n\n   \n b", "0--1-------1"),
    "comment before what it does not end": ("a\n b\n# c\n  d", "0--1-000---2"),
    "in a docstring": ("def f():\n '''a\nb'''\nc", "00000000--1111-1111-0"),
    "over the lines of a field": ("a\n b = f'''{\n  c, # d\"\n e}'''\n f\ng", "0--111111111---1111111--11111--1-0"),
    "inconsistent": ("a\n    b\n  c", "0-----1---1"),
    "spliced": ("a\n b\\\nc\nd", "0--11-1-0"),
    "after an open bracket": ("a\n b(\n return\n b", "0--11--111111--1"),
    "alone after an open bracket": ("a\n  b\n c(\n  pass\n  d\n", "0---1--11---1111---2-"),
}


def table(rows):
    return pytest.mark.parametrize(("text", "expected"), rows.values(), ids=rows.keys())


def mask(values):
    return "".join("#" if value else "." for value in values)


def digits(values):
    return "".join("-" if value < 0 else str(value) for value in values)


@table(HEADERS)
def test_headers_are_found(text, expected):
    assert mask(scan(text)[0].state & HEADER) == expected


@table(CONDITIONS)
def test_conditions_are_found(text, expected):
    assert mask(scan(text)[0].state & CONDITION) == expected


@table(DECORATORS)
def test_decorators_are_found(text, expected):
    assert mask(scan(text)[0].state & DECORATOR) == expected


@table(DOCSTRINGS)
def test_docstrings_are_found(text, expected):
    assert mask(scan(text)[0].state & DOCSTRING) == expected


@table(BRACKETS)
def test_brackets_are_counted(text, expected):
    assert digits(scan(text)[0].brackets) == expected


@table(LEVELS)
def test_indentation_levels_are_found(text, expected):
    assert digits(scan(text)[0].level) == expected


@pytest.mark.parametrize("rows", [HEADERS, CONDITIONS, DECORATORS, DOCSTRINGS, BRACKETS, LEVELS])
def test_scanning_in_two_pieces_changes_nothing(rows):
    for text, _ in rows.values():
        whole = vars(scan(text)[0])
        for cut in range(len(text) + 1):
            first, state = scan(text[:cut])
            second, _ = scan(text[cut:], state)
            for name, expected in whole.items():
                found = [*getattr(first, name), *getattr(second, name)]
                assert found == expected.tolist(), (text[:cut], text[cut:], name)


def test_depth_saturates_at_the_largest_value():
    assert scan("(" * 70_000)[0].brackets.max() == 65_535


def by_characters(text):
    """Mode and open brackets, one character at a time, for texts without f-strings and keywords."""
    mode, depth, rows = CODE, 0, []
    quote, opening, closing, triple, escaped = "", 0, 0, False, False
    for c in text:
        if opening and c == quote:
            # One quote begins a literal, a second ends it, and a third turns both into the start of a triple quote.
            opening = (opening + 1) % 3
            mode, triple = (CODE, False) if opening else (STRING, True)
            rows.append((mode, depth))
            continue
        opening = 0
        if mode == STRING:
            closing = closing + 1 if c == quote and not escaped else 0
            if not escaped and (closing == 3 if triple else c in (quote, "\n")):
                mode = CODE
            escaped = c == "\\" and not escaped
        elif mode == COMMENT:
            mode = CODE if c == "\n" else COMMENT
        elif c == "#":
            mode = COMMENT
        elif c in "\"'":
            mode, quote, opening, closing, triple, escaped = STRING, c, 1, 0, False, False
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth = max(0, depth - 1)
        rows.append((mode, depth))
    return rows


@settings(max_examples=500, deadline=None)
@given(text=st.text("ab \n\\\"'#()[]{}é", max_size=60))
def test_equals_a_parser_of_single_characters(text):
    found = scan(text)[0]
    assert list(zip((found.state & MODE).tolist(), found.brackets.tolist(), strict=True)) == by_characters(text)


def library():
    files = sorted(path for path in stdlib_files() if 0 < path.stat().st_size < LARGEST_FILE)
    texts = (path.read_bytes().decode() for path in files[::EVERY_NTH_FILE])
    # Lines as the tokenizer counts them; neither a carriage return nor a form feed ends one.
    return [text for text in texts if not set("\r\f\x0b\x1c\x85\u2028") & set(text)]


class Places:
    """Offsets in a text from lines and columns."""

    def __init__(self, text):
        self.lines = text.split("\n")
        self.starts = np.cumsum([0] + [len(line) + 1 for line in self.lines])

    def of_token(self, line, column):
        return int(self.starts[line - 1]) + column

    def of_node(self, line, column):
        # ast counts bytes.
        return int(self.starts[line - 1]) + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node):
        return slice(self.of_node(node.lineno, node.col_offset), self.of_node(node.end_lineno, node.end_col_offset))


@pytest.fixture(scope="module")
def texts():
    return library()


def test_tokens_equal_tokenize(texts):
    n_compared = []
    for text in texts:
        places = Places(text)
        string, comment, f_string = (np.zeros(len(text), bool) for _ in range(3))
        steps, level = np.zeros(len(text), int), np.zeros(len(text), int)
        depth, n_open, behind = 0, 0, 0
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            start = places.of_token(*token.start)
            stop = places.of_token(*token.end) if token.end[0] <= len(places.lines) else len(text)
            name = tokenize.tok_name[token.type]
            if name in ("INDENT", "DEDENT"):
                depth += 1 if name == "INDENT" else -1
            elif name not in ("NL", "NEWLINE", "COMMENT"):
                level[start:] = depth
            inside = n_open > 0
            if name.startswith(("FSTRING", "TSTRING")):
                n_open += name.endswith("START") - name.endswith("END")
            # Since Python 3.12 the fields of a literal are tokens, with spaces between them.
            f_string[behind if inside else start : stop] |= inside or n_open > 0
            behind = stop
            if name == "COMMENT":
                comment[start:stop] = True
            elif name == "STRING":
                prefix = len(token.string) - len(token.string.lstrip("rRbBuUfF"))
                f_string[start:stop] |= "f" in token.string[:prefix].lower()
                string[start + prefix : stop - 1] = True
                if token.string[prefix : prefix + 3] in ('"""', "'''"):
                    string[start + prefix + 1] = False
            elif name == "OP" and token.string in "()[]{}":
                steps[start] = 1 if token.string in "([{" else -1
        found = scan(text)[0]
        sure = ~f_string
        n_compared.append(np.count_nonzero(sure))
        np.testing.assert_array_equal((found.state & MODE == STRING)[sure], string[sure])
        np.testing.assert_array_equal((found.state & MODE == COMMENT)[sure], comment[sure])
        np.testing.assert_array_equal(found.brackets[sure], np.cumsum(steps)[sure])
        # A comment alone on its line has a level here, but none in the tokenizer.
        lines = [line.lstrip(" \t").startswith("#") for line in places.lines]
        alone = np.repeat(lines, np.diff(places.starts))[: len(text)]
        where = (found.level >= 0) & ~alone
        np.testing.assert_array_equal(found.level[where], level[where])
    assert sum(n_compared) > 200_000


def test_statements_equal_ast(texts):
    counts = {"docstring": 0, "condition": 0, "header": 0, "decorator": 0}
    for text in texts:
        places, found = Places(text), scan(text)[0].state
        docstring, condition, header, decorator = (np.zeros(len(text), bool) for _ in range(4))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.If, ast.While)):
                condition[places.span(node.test)] = True
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                begin = text.index(f" {node.name}", places.of_node(node.lineno, node.col_offset)) + 1
                header[begin : begin + len(node.name)] = True
                for each in node.decorator_list:
                    decorator[places.span(each)] = True
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    docstring[places.span(first)] |= isinstance(first.value.value, str)
        literal = found & MODE == STRING
        np.testing.assert_array_equal((found & DOCSTRING > 0), docstring & literal)
        # From the text so far, the first half of a walrus may be the colon that ends the condition.
        walrus = np.array([text[i : i + 2] == ":=" for i in range(len(text))])
        assert not (condition & ~walrus & (found & CONDITION == 0)).any()
        assert not (decorator & (found & DECORATOR == 0)).any()
        assert not (header & (found & HEADER == 0)).any()
        # Around the expression itself there may be blanks, brackets and comments.
        trivial = np.array([character in " \t\n()\\#" for character in text]) | (found & MODE == COMMENT)
        assert not ((found & CONDITION > 0) & ~condition & ~trivial).any()
        assert not ((found & DECORATOR > 0) & ~decorator & ~trivial & np.array([c != "@" for c in text])).any()
        for name, where in zip(counts, (docstring, condition, header, decorator), strict=True):
            counts[name] += int(where.sum())
    assert min(counts.values()) > 100, counts
