"""Literals and comments of C in any sequence of characters, by one regular expression.

The rules are those of the language (C11, 6.4.4.4, 6.4.5 and 6.4.9), with two additions for invalid text: an
unterminated literal ends at its newline, and a newline after a backslash never ends anything.
"""

from __future__ import annotations

import re

import numpy as np

CODE, STRING, CHARACTER, LINE_COMMENT, BLOCK_COMMENT = range(5)

# What follows the opening of a literal or comment; the group is its close. An escaped newline ends none of them.
_REST = {
    STRING: rb'[^"\\\n]*+(?:(?:\\.?+|(?<=\\)\n)[^"\\\n]*+)*+(")?',
    CHARACTER: rb"[^'\\\n]*+(?:(?:\\.?+|(?<=\\)\n)[^'\\\n]*+)*+(')?",
    LINE_COMMENT: rb"[^\n]*+(?:(?<=\\)\n[^\n]*+)*+",
    BLOCK_COMMENT: rb"[^*]*+(?:\*(?!/)[^*]*+)*+(\*/)?",
}
_REST_OF = {mode: re.compile(rest, re.S) for mode, rest in _REST.items()}
# The name in #include <...> is neither a literal nor a comment, whatever it contains.
_LEXEME = re.compile(
    rb'"%b|\'%b|//%b|/\*%b|#[ \t]*+(?:include(?:_next)?|import)[ \t]*+<[^>\n]*+' % tuple(_REST.values()), re.S
)
_MODE_OF = {ord('"'): STRING, ord("'"): CHARACTER}
_HALF_INCLUDE = re.compile(rb"#[ \t]*+([a-z_]{0,12})([ \t]*+)\Z")
_FILLER = {STRING: b'"', CHARACTER: b'"', LINE_COMMENT: b" ", BLOCK_COMMENT: b" "}


def lex(raw: bytes, mode: int, tail: bytes) -> tuple[np.ndarray, bytes, int, bytes]:
    """Find the literals and comments of a piece of C.

    Args:
        raw: n characters, one byte each.
        mode: mode at the end of the previous piece, CODE at the start of a text.
        tail: the last characters that `lex` returned for that piece; empty at the start of a text.

    Returns:
        The mode after every character, uint8 [n]; the n bytes with comments blanked and literals replaced by quotes, so
        that no bracket or keyword in them is seen; the mode at the end; and the last characters, whose meaning depends
        on the next one: pass them to `lex` with the next piece.
    """
    text = tail + raw
    n = len(text)
    tokens: list[tuple[int, int, int]] = []  # mode, first character in it, first one after it
    start, end = n, 0  # of the last token that begins in this piece
    last = CODE  # the mode of the token that ends at `end`, if it is not closed
    if mode != CODE:
        match = _REST_OF[mode].match(text)
        assert match is not None  # these patterns also match the empty string
        end = match.end()
        closed = match.lastindex is not None
        tokens.append((mode, 0, end - closed))
        last = CODE if closed else mode
    for match in _LEXEME.finditer(text, end):
        start, end = match.span()
        last = _MODE_OF.get(text[start], CODE)
        if text[start] == ord("/"):
            last = LINE_COMMENT if text[start + 1] == ord("/") else BLOCK_COMMENT
        if text[start] == ord("#"):
            continue
        closed = match.lastindex is not None
        # Only the second character shows that this is a comment: the first is still code.
        tokens.append((last, start + (last >= LINE_COMMENT), end - closed))
        if closed:
            last = CODE

    values: list[int] = []
    lengths: list[int] = []
    parts: list[bytes] = []
    position = 0
    for token, first, after in tokens:
        values += (CODE, token)
        lengths += (first - position, after - first)
        parts += (text[position:first], _FILLER[token] * (after - first))
        position = after
    modes = np.repeat(np.array([*values, CODE], np.uint8), np.array([*lengths, n - position]))
    code = b"".join([*parts, text[position:]])
    mode, new_tail = _lexer_tail(text, start, end, last)
    return modes[len(tail) :], code[len(tail) :], mode, new_tail


def _lexer_tail(text: bytes, start: int, end: int, last: int) -> tuple[int, bytes]:
    """Return the mode at the end of a piece whose last token is text[start:end], and the tail for the next piece."""
    if end == len(text) and last in (STRING, CHARACTER):
        backslashes = len(text) - len(text.rstrip(b"\\"))
        # An odd backslash escapes the next character; after a pair, only a newline does not end the literal.
        return last, b"\\" * (2 - backslashes % 2 if backslashes else 0)
    if end == len(text) and last == LINE_COMMENT:
        return last, text[-1:] if text.endswith(b"\\") else b""
    if end == len(text) and last == BLOCK_COMMENT:
        opening = text[start:] == b"/*"
        return last, b"*" if text.endswith(b"*") and not opening else b""
    if end == len(text) and text[start : start + 1] == b"#":
        return CODE, b"#include<"
    if end < len(text) and text.endswith(b"/"):
        return CODE, b"/"
    mark = text.rfind(b"#", max(end, text.rfind(b"\n") + 1))
    half = _HALF_INCLUDE.match(text, mark) if mark >= 0 else None
    return CODE, b"#" + half[1] + half[2][:1] if half else b""
