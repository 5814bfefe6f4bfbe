"""The statements of Python code without literals and comments, piece by piece."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gatescope.analysis.depth import depth_after
from gatescope.analysis.lines import NEWLINE, fill_between, next_solid, solid_starts
from gatescope.analysis.python_lexer import FIRST_QUOTE_BYTE, LITERAL_BYTE

_BLANK = b" \t\n\x0b\x0c\r\\"
_SOLID = bytes(byte not in _BLANK for byte in range(256))
_BRACKET = bytes(byte in b"()[]{}" for byte in range(256))
_STEPS = np.array([1 if byte in b"([{" else -1 for byte in range(256)])
# Keywords that cannot begin a line within brackets.
_RECOVERS = re.compile(
    rb"(?:def|class|import|return|raise|while|with|try|except|finally|pass|break|continue|del|global|nonlocal|assert|"
    rb"elif)(?![\w\x80])"
)
_OPENS = re.compile(rb"(?:async[ \t]++)?(?:(def|class)|if|elif|while)(?![\w\x80])")


def _begin_with(*pairs: bytes) -> np.ndarray:
    """Return a table, indexed by 256 * first + second, of whether two characters are among the pairs."""
    return np.isin(np.arange(1 << 16), [256 * first + second for first, second in pairs])


# Checking two characters first saves the regular expression for most lines.
_OPENS_TWO = _begin_with(b"de", b"cl", b"as", b"if", b"el", b"wh")
_RECOVERS_TWO = _OPENS_TWO | _begin_with(
    *(b"im", b"re", b"ra", b"wi", b"tr", b"ex", b"fi", b"pa", b"br", b"co", b"gl", b"no")
)
_ONLY_A_WORD = re.compile(rb"(async[ \t]++)?([\w\x80]{0,10})")
AT, COLON, EQUALS = b"@:="
NOTHING, HEADER, CONDITION, DECORATOR = range(4)
NO_DOCSTRING, AWAITED, PREFIX_READ, IN_DOCSTRING = range(4)


class Pending(NamedTuple):
    """What is undecided at the end of a piece.

    Args:
        opened: HEADER, CONDITION or DECORATOR, if one is open.
        perhaps_walrus: HEADER or CONDITION, if the last character is the colon that ends it, or the first half of `:=`.
        docstring: whether a docstring may begin, or has begun.
    """

    opened: int = NOTHING
    perhaps_walrus: int = NOTHING
    docstring: int = AWAITED


@dataclass(frozen=True)
class StatementState:
    """What is remembered between two pieces of a text.

    Args:
        depth: open brackets.
        line_blank: no code since the newline.
        begins_statement: the line begins a statement instead of continuing one.
        word: the line so far, if it is a single word that may be a keyword.
        word_width: width of the blanks before it.
        backslash: the last character is a backslash.
        indents: columns of the enclosing blocks.
        level: indentation level.
        pending: what is open.
    """

    depth: int = 0
    line_blank: bool = True
    begins_statement: bool = True
    word: bytes = b""
    word_width: int = 0
    backslash: bool = False
    indents: tuple[int, ...] = (0,)
    level: int = 0
    pending: Pending = field(default_factory=Pending)


class Statements:
    """One piece of code.

    Args:
        code: n characters, literals and comments replaced.
        comment: bool [n], inside a comment.
        in_comment: whether the piece begins inside a comment.
        width: int [n], width of each line's leading blanks.
        state: the state after the previous piece.
    """

    def __init__(
        self, code: bytes, comment: np.ndarray, in_comment: bool, width: np.ndarray, state: StatementState
    ) -> None:
        self.before = state
        # Before position `begin` is the word that the last piece broke off.
        self.begin = len(state.word)
        self.code = state.word + code
        self.array = np.frombuffer(self.code, np.uint8)
        self.n = len(self.code)
        self.comment_starts = np.flatnonzero(comment & ~np.append(in_comment, comment[:-1])) + self.begin
        self.width = width
        self.solid = np.frombuffer(self.code.translate(_SOLID), bool)
        self.solid_starts = solid_starts(self.solid)
        self._find_lines()
        self._find_depth()
        self._find_statements()

    def _find_lines(self) -> None:
        array, begin = self.array, self.begin
        newlines = np.flatnonzero(array == NEWLINE)
        self.newlines = newlines[newlines >= begin]
        self.spliced = array[self.newlines - 1] == ord("\\")
        if len(self.newlines) and self.newlines[0] == begin:
            self.spliced[0] = self.before.backslash
        self.starts = np.concatenate(([0], self.newlines + 1))
        self.ends = np.append(self.newlines, self.n)
        self.first = self._next_solid(self.starts)
        self.nonblank = self.first < self.ends
        # A line that the last piece left unfinished still matters only if it is blank so far or a single word.
        self.resumed = not self.before.line_blank and not self.before.word
        if self.resumed:
            self.first[0], self.nonblank[0] = -1, False

    def _find_depth(self) -> None:
        places = np.flatnonzero(np.frombuffer(self.code.translate(_BRACKET), np.uint8))
        steps = _STEPS[self.array[places]]
        none = np.zeros(len(places), bool)
        deep = self._at(places, depth_after(steps, none, self.before.depth), self.starts) > 0
        deep &= self.nonblank
        self.recovered = np.zeros(len(self.starts), np.int64)  # the character after the keyword, else 0
        for line in np.flatnonzero(deep)[self._two_letters(self.first[deep], _RECOVERS_TWO)].tolist():
            match = _RECOVERS.match(self.code, self.first[line])
            if match and match.end() < self.n:
                self.recovered[line] = match.end()
        resets = self.recovered[self.recovered > 0]
        if len(resets):
            places = np.concatenate((resets, places))
            order = np.argsort(places, kind="stable")
            places = places[order]
            steps = np.concatenate((np.zeros(len(resets), np.int64), steps))[order]
            none = order < len(resets)
        self.events, self.depths = places, depth_after(steps, none, self.before.depth)

    def _find_statements(self) -> None:
        at_start = self._at(self.events, self.depths, self.starts)
        self.begins = np.append(False, ~self.spliced) & (at_start == 0)
        self.begins[0] = self.before.begins_statement
        # The newline itself may follow such a keyword, and so come after the reset.
        at_newline = self._at(self.events, self.depths, self.newlines + 1)
        self.logical_ends = self.newlines[~self.spliced & (at_newline == 0)]
        # A keyword that recovers from an open bracket begins a statement too, but only once it has been read.
        self.late = ~self.begins & (self.recovered > 0) & (at_start > 0)
        self.resets = self.recovered[(self.recovered > 0) & (at_start > 0)]
        self.statements = self.nonblank & (self.begins | self.late)

    def _next_solid(self, positions: np.ndarray) -> np.ndarray:
        return next_solid(self.solid, self.solid_starts, positions)

    def _two_letters(self, places: np.ndarray, table: np.ndarray) -> np.ndarray:
        following = self.array[np.minimum(places + 1, self.n - 1)]
        return table[self.array[places].astype(np.uint16) * 256 + following]

    def _width_at(self, places: np.ndarray) -> np.ndarray:
        """Return the leading width of the lines whose code or comment begins at the given places."""
        return np.where(places < self.begin, self.before.word_width, self.width[np.maximum(places - self.begin, 0)])

    def _at(self, places: np.ndarray, depths: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the depth after the last event before each position."""
        return np.append(self.before.depth, depths)[np.searchsorted(places, positions)]

    def brackets(self) -> np.ndarray:
        """Return the number of open brackets after each character of the piece."""
        lengths = np.diff(np.concatenate(([self.begin], self.events, [self.n])))
        return np.repeat(np.append(self.before.depth, self.depths), lengths)

    def levels(self) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return the indentation level after each character of the piece, and the columns of its last blocks."""
        rows = np.flatnonzero(self.statements)
        places = np.where(self.late[rows], self.recovered[rows], self.first[rows])
        widths = self._width_at(self.first[rows])
        is_new = places >= self.begin
        places, widths = places[is_new], widths[is_new]
        # A comment alone on its line.
        lines = np.searchsorted(self.starts, self.comment_starts, side="right") - 1
        alone = self.begins[lines] & (self.first[lines] > self.comment_starts)
        places = np.concatenate((places, self.comment_starts[alone]))
        widths = np.concatenate((widths, self._width_at(self.comment_starts[alone])))
        is_comment = np.arange(len(places)) >= np.count_nonzero(is_new)
        order = np.argsort(places, kind="stable")
        places, widths, is_comment = places[order], widths[order], is_comment[order]

        # Where the width stays the same, so does the level.
        changes = np.ones(len(places), bool)
        changes[1:] = (widths[1:] != widths[:-1]) | (is_comment[:-1] & ~is_comment[1:])
        indents, levels = list(self.before.indents), [self.before.level]
        for width, comment in zip(widths[changes].tolist(), is_comment[changes].tolist(), strict=True):
            enclosing = bisect_right(indents, width)
            deeper = width > indents[enclosing - 1]
            levels.append(enclosing - 1 + deeper)
            if not comment:
                del indents[enclosing:]
                if deeper:
                    indents.append(width)
        lengths = np.diff(np.concatenate(([self.begin], places[changes], [self.n])))
        return np.repeat(np.array(levels, np.int32), lengths), tuple(indents)

    def flags(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Pending]:
        """Return where a header, a condition, a decorator and a docstring are, bool [n] each, and what is pending."""
        n, begin, before = self.n, self.begin, self.before.pending
        start, kind = self._openings()
        resumed = before.opened or (before.perhaps_walrus if self.array[begin] == EQUALS else NOTHING)
        if resumed:
            start, kind = np.append(begin, start), np.append(resumed, kind)
        end = np.append(self.logical_ends, n)[np.searchsorted(self.logical_ends, start)]
        # The brackets may have been closed by this statement's own keyword, unless that is in an earlier piece.
        after = start - (np.arange(len(start)) < bool(resumed))
        end = np.minimum(end, np.append(self.resets, n)[np.searchsorted(self.resets, after, side="right")])

        colons = np.flatnonzero(self.array == COLON)
        colons = colons[(colons >= begin) & (self._at(self.events, self.depths, colons) == 0)]
        walrus = np.append(self.array, 0)[colons + 1] == EQUALS
        colon = np.append(colons[~walrus], n)[np.searchsorted(colons[~walrus], start)]
        colon[kind == DECORATOR] = n
        stop = np.minimum(colon, end)
        # Only the last statement can reach the end of the piece.
        opened = int(kind[stop == n].sum())
        perhaps_walrus = int(kind[(colon < end) & (colon + 1 == n)].sum())
        body_starts = colon[(colon < end) & (kind == HEADER)] + 1
        header, condition, decorator = (
            fill_between(np.stack((start, stop), axis=1)[kind == each].ravel(), False, n)
            for each in (HEADER, CONDITION, DECORATOR)
        )
        # Until its second half is read, the first half of a walrus counts as the colon that ends them.
        header[colons[walrus]] = condition[colons[walrus]] = False
        header, condition, decorator = header[begin:], condition[begin:], decorator[begin:]
        docstring, awaited = self._docstrings(body_starts.tolist())
        return (header, condition, decorator, docstring), Pending(opened, perhaps_walrus, awaited)

    def _openings(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where headers, conditions and decorators begin, and the kind of each."""
        places = self.first[self.statements]
        starts, kinds = [], []
        for place in places[(self.array[places] == AT) | self._two_letters(places, _OPENS_TWO)].tolist():
            if self.code[place] == AT:
                starts.append(place)
                kinds.append(DECORATOR)
            elif (match := _OPENS.match(self.code, place)) and match.end() < self.n:
                starts.append(match.end())
                kinds.append(HEADER if match[1] else CONDITION)
        return np.array(starts, np.int64), np.array(kinds, np.int64)

    def _docstrings(self, body_starts: list[int]) -> tuple[np.ndarray, int]:
        """Return where a docstring is, bool [n], and whether one may begin, or has begun, at the end."""
        array, n, state = self.array, self.n, self.before.pending.docstring
        candidates = [self.begin, *body_starts] if state == AWAITED else body_starts
        begins = [self.begin] if state == PREFIX_READ and array[self.begin] == FIRST_QUOTE_BYTE else []
        after = NO_DOCSTRING
        for place in self._next_solid(np.array(candidates, np.int64)).tolist():
            prefix = place < n and array[place] in b"rRuU"
            if place == n:
                after = AWAITED
            elif prefix and place + 1 == n:
                after = PREFIX_READ
            elif array[place + prefix] == FIRST_QUOTE_BYTE:
                begins.append(place + prefix)
        other = self.array != LITERAL_BYTE
        other_starts = solid_starts(other)
        ends = next_solid(other, other_starts, np.array([self.begin, *(place + 1 for place in begins)]))
        flips = [ends[0]] if state == IN_DOCSTRING else []
        flips += np.stack((np.array(begins, np.int64), ends[1:]), axis=1).ravel().tolist()
        if flips and flips[-1] == n:
            after = IN_DOCSTRING
        return fill_between(flips, state == IN_DOCSTRING, n)[self.begin :], after

    def state(self, level: int, indents: tuple[int, ...], pending: Pending) -> StatementState:
        """Return the state to continue from; the arguments are from `levels` and `flags` at the end of the piece."""
        word = b""
        last = -1
        if self.nonblank[last]:
            match = _ONLY_A_WORD.fullmatch(self.code, int(self.first[last]))
            word = (b"async " if match[1] else b"") + match[2] if match else b""
        return StatementState(
            depth=int(self.depths[-1]) if len(self.depths) else self.before.depth,
            line_blank=not self.nonblank[last] and not (len(self.newlines) == 0 and not self.before.line_blank),
            begins_statement=bool(self.begins[last]),
            word=word,
            word_width=int(self._width_at(self.first[last:])[0]) if word else 0,
            backslash=self.code.endswith(b"\\"),
            indents=indents,
            level=level,
            pending=pending,
        )
