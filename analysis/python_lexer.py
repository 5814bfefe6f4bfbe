"""Literals and comments of Python, including f-strings and their replacement fields, in any sequence of characters.

The rules are those of the language reference, chapter 2, with f-strings as in Python 3.12 (PEP 701), and one addition
for invalid text: a newline ends a literal in single quotes, whatever is open within it. The second of three quotes is
not inside a literal: after `""` a reader sees an empty string, and only a third quote shows that it is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

CODE, STRING, COMMENT = range(3)
# Kinds of segments, where 0 is plain code; the mode of each, and the byte that replaces its characters in the code.
LITERAL, COMMENTED, SECOND_QUOTE, FIELD_START, FIELD_NEWLINE = range(1, 6)
MODES = (CODE, STRING, COMMENT, CODE, CODE, CODE)
LITERAL_BYTE, FIRST_QUOTE_BYTE, FIELD_BYTE = b"\x01\x02\x03"
BYTES = (0, LITERAL_BYTE, ord(" "), LITERAL_BYTE, FIELD_BYTE, ord(" "))


# First character, character after the last, and kind of a segment that is not plain code.
Segment = tuple[int, int, int]


class Open(NamedTuple):
    """Something that is open: a "comment"; a "string"; or, in an f-string, its "literal" part, a "field" with its depth
    of brackets (-1 right after its `{`), or the "spec" after the field's `:`.
    """

    kind: str
    quote: bytes = b""
    raw: bool = False
    depth: int = 0


@dataclass(frozen=True)
class LexerState:
    """What is open, outermost first, and the last characters, whose meaning depends on the next ones."""

    stack: tuple[Open, ...] = ()
    tail: bytes = b""


HASH = ord("#")

# What follows the opening of a literal that is not an f-string; the group is its close.
_REST = {
    b'"""': rb'[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+(""")?',
    b'"': rb'[^"\\\n]*+(?:\\(?:\r\n|.)[^"\\\n]*+)*+(")?',
    b"'''": rb"[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+(''')?",
    b"'": rb"[^'\\\n]*+(?:\\(?:\r\n|.)[^'\\\n]*+)*+(')?",
}
_REST_OF = {quote: re.compile(rest, re.S) for quote, rest in _REST.items()}
# A comment, or such a literal.
_LEXEME = re.compile(b"|".join([rb"#[^\n]*+", *(quote + rest for quote, rest in _REST.items())]), re.S)
_FIELD = re.compile(rb'["\'#\n(){}\[\]:]')
# In the literal part of an f-string: a named character, an escape, the start of a field, a quote, a newline.
_LITERAL = {quote: re.compile(rb"\\N\{[^{}\n\"']*+\}?|\\(?:\r\n|[^{}])|[{}\n]|" + quote, re.S) for quote in _REST}
_PREFIX = re.compile(rb"(?<![\w\x80])(?:[fFtT]([rR]?)|([rR])[fFtT])\Z")
_HALF_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*(\\\r?)\Z")
_LAST_WORD = re.compile(rb"[\w\x80]{0,3}\Z")


class Lexer:
    """One pass over a piece: `segments` in order, then `state()` to continue from."""

    def __init__(self, raw: bytes, state: LexerState) -> None:
        self.text = state.tail + raw
        self.n = len(self.text)
        self.shift = len(state.tail)
        self.stack = list(state.stack)
        self.segments: list[Segment] = []
        self.quotes: list[int] = []  # the first character of each literal
        self.position = 0
        self.tail = b""
        while self.position < self.n:
            kind = self.stack[-1].kind if self.stack else "code"
            getattr(self, "_in_" + kind)()
        if not self.stack or self.stack[-1].kind == "field":
            word = _LAST_WORD.search(self.text, max(0, self.n - 3))
            self.tail = self.tail or (word[0] if word else b"")

    def state(self) -> LexerState:
        return LexerState(tuple(self.stack), self.tail)

    def _in_code(self) -> None:
        text, n, segments, quotes = self.text, self.n, self.segments, self.quotes
        for match in _LEXEME.finditer(text, self.position):
            start, end = match.span()
            if text[start] == HASH:
                segments.append((start, end, COMMENTED))
                if end == n:
                    self.stack.append(Open("comment"))
                continue
            group = match.lastindex
            if group is None or (start and text[start - 1] in b"fFtTrR") or (end == n and end - start == 2):
                # An f-string, or a literal without a closing quote, or one that may continue in the next piece.
                self._open_string(start)
                return
            quotes.append(start)
            if group & 1:
                segments.append((start, start + 1, LITERAL))
                segments.append((start + 1, start + 2, SECOND_QUOTE))
                start += 2
            segments.append((start, end - 1, LITERAL))
        self.position = n

    def _in_comment(self) -> None:
        end = self.text.find(b"\n", self.position)
        self._emit(self.n if end < 0 else end, COMMENTED)
        if end >= 0:
            self.stack.pop()

    def _open_string(self, start: int) -> None:
        text, quote = self.text, self.text[start : start + 1]
        self.quotes.append(start)
        prefix = _PREFIX.search(text, max(0, start - 3), start)
        count = 3 if text.startswith(quote * 3, start) else 1
        self.position = start
        if self.n - start < 3 and text[start:] in (quote, quote * 2):
            # One quote opens a string and a second one closes it, unless a third follows in the next piece.
            self._emit(start + 1, LITERAL)
            self._emit(self.n, SECOND_QUOTE)
            word = _LAST_WORD.search(text, max(0, start - 3), start)
            self.tail = (word[0] if word else b"") + text[start:]
            return
        if count == 3:
            self._emit(start + 1, LITERAL)
            self._emit(start + 2, SECOND_QUOTE)
        self._emit(start + count, LITERAL)
        kind, raw = ("literal", bool(prefix[1] or prefix[2])) if prefix else ("string", False)
        self.stack.append(Open(kind, quote * count, raw))

    def _in_string(self) -> None:
        quote = self.stack[-1].quote
        match = _REST_OF[quote].match(self.text, self.position)
        assert match is not None  # the pattern also matches the empty string
        end, closed = match.end(), match.lastindex is not None
        body = self.position
        if not closed and self.text[end : end + 2] == b"\\":
            end = self.n
        self._emit(end - closed, LITERAL)
        if closed or end < self.n:
            self.position = end
            self.stack.pop()
        elif (half := _HALF_ESCAPE.search(self.text, body)) is not None:
            self.tail = half[1]
        elif len(quote) == 3:
            self.tail = self._last_quotes(body, quote)

    def _last_quotes(self, body: int, quote: bytes) -> bytes:
        # Neither an escaped quote nor the opening quotes count.
        kept = self.text[body:].rstrip(quote[:1])
        quotes = self.n - body - len(kept)
        escaped = (len(kept) - len(kept.rstrip(b"\\"))) % 2
        return quote[:1] * max(0, quotes - escaped)

    def _in_literal(self) -> None:
        top = self.stack[-1]
        in_spec = top.kind == "spec"
        match = _LITERAL[top.quote].search(self.text, self.position)
        if match is None:
            leftover = self.text[self.position :]
            self._emit(self.n, LITERAL)
            stripped = leftover.rstrip(top.quote[:1]) if len(top.quote) == 3 else leftover
            self.tail = b"\\" if leftover.endswith(b"\\") else leftover[len(stripped) :]
            return
        found, end = match[0], match.end()
        if found.startswith(b"\\"):
            named = found.startswith(b"\\N{")
            if named and top.raw:
                end = match.start() + 2
            elif end == self.n and (found == b"\\N" or (named and not found.endswith(b"}"))) and not top.raw:
                self.tail = found[:3]
            elif end == self.n and found == b"\\\r":
                self.tail = found
            self._emit(end, LITERAL)
        elif found == b"{":
            self._emit(end - 1, LITERAL)
            self._emit(end, FIELD_START)
            self.stack.append(Open("field", top.quote, top.raw, depth=-1))
        elif found == b"}":
            self._emit(end, LITERAL)
            if in_spec:
                del self.stack[-2:]
        elif found == b"\n" and len(top.quote) == 3:
            self._emit(end, LITERAL)
        else:
            # The closing quote, or the newline that ends an unclosed literal.
            closes = found != b"\n"
            self._emit(end - 1, LITERAL)
            self.position = end if closes else end - 1
            self._drop_literal()

    _in_spec = _in_literal

    def _in_field(self) -> None:
        top = self.stack[-1]
        if top.depth < 0:
            if self.text[self.position : self.position + 1] == b"{":
                # Two braces are one character of the literal.
                self._emit(self.position + 1, LITERAL)
                self.stack.pop()
                return
            self.stack[-1] = top = top._replace(depth=0)
        match = _FIELD.search(self.text, self.position)
        if match is None:
            self.position = self.n
            return
        found, self.position = match[0], match.end()
        if found in b"\"'":
            self._open_string(match.start())
        elif found == b"#":
            self.position = match.start()
            self.stack.append(Open("comment"))
        elif found == b"\n":
            self.position = match.start()
            if len(top.quote) == 1:
                self._drop_literal()
            else:
                # This newline does not end a statement.
                self._emit(match.end(), FIELD_NEWLINE)
        elif found in b"([{":
            self.stack[-1] = top._replace(depth=top.depth + 1)
        elif found == b":":
            if top.depth == 0:
                self.position = match.start()
                self._emit(match.end(), LITERAL)
                self.stack.append(Open("spec", top.quote, top.raw))
        elif top.depth:
            self.stack[-1] = top._replace(depth=top.depth - 1)
        elif found == b"}":
            self.position = match.start()
            self._emit(match.end(), LITERAL)
            self.stack.pop()

    def _drop_literal(self) -> None:
        while self.stack.pop().kind != "literal":
            pass

    def _emit(self, after: int, kind: int) -> None:
        if after > self.position:
            self.segments.append((self.position, after, kind))
        self.position = after
