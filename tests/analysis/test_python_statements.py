"""Statements of code without literals and comments: cases that the whole scanner's tests do not reach directly."""

import sys

import numpy as np
import pytest

from gatescope.analysis.python_statements import AWAITED, NO_DOCSTRING, Statements, StatementState


def run(code, state=None, width=0):
    """The results of a piece: the state after it, open brackets, levels, and where headers are."""
    found = Statements(
        code, np.zeros(len(code), bool), False, np.broadcast_to(width, len(code)), state or StatementState()
    )
    (levels, indents), ((header, *_), pending) = found.levels(), found.flags()
    return found.state(int(levels[-1]), indents, pending), found.brackets().tolist(), levels.tolist(), header.tolist()


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (b"de", b"de"),
        (b"a\nwhi", b"whi"),
        (b"async \t de", b"async de"),
        (b"async", b"async"),
        (b"a b", b""),
        (b"(", b""),
        (b"longer_than_a_keyword", b""),
        (b"a\n", b""),
    ],
)
def test_a_partial_keyword_is_carried_to_the_next_piece(code, word):
    assert run(code)[0].word == word


def test_a_keyword_in_two_pieces_opens_a_header():
    state, *_ = run(b"as")
    state, *_ = run(b"ync d", state)
    *_, header = run(b"ef f(): a", state)
    assert header == [False, False, True, True, True, True, False, False, False]


def test_a_statement_keyword_at_line_start_closes_all_brackets():
    _, brackets, _, _ = run(b"([{\nreturn a")
    assert brackets == [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0]


def test_a_statement_keyword_within_a_line_closes_nothing():
    _, brackets, _, _ = run(b"(a return b")
    assert brackets == [1] * 11


def test_depth_has_a_floor():
    assert run(b")](")[1] == [0, 0, 1]


@pytest.mark.parametrize(
    ("code", "awaits"), [(b"def f():", AWAITED), (b"if f():", NO_DOCSTRING), (b"def f", NO_DOCSTRING)]
)
def test_a_docstring_is_expected_after_a_header(code, awaits):
    assert run(code)[0].pending.docstring == awaits


def test_levels_follow_the_width_of_statements():
    state, _, levels, _ = run(b"a\nb\nc\nd\ne", width=np.repeat([0, 4, 6, 5, 0], 2)[:9])
    # 5 columns match no enclosing block: they end the block of 6 and begin another.
    assert levels == [0, 0, 1, 1, 2, 2, 2, 2, 0]
    assert state.indents == (0,) and state.level == 0


def test_many_walruses_do_not_slow_down_a_statement():
    def n_calls(code):
        calls = []
        found = Statements(code, np.zeros(len(code), bool), False, np.zeros(len(code), int), StatementState())
        sys.setprofile(lambda frame, event, argument: calls.append(event))
        try:
            found.flags()
        finally:
            sys.setprofile(None)
        return len(calls)

    assert n_calls(b"if a" + b":=b" * 1000 + b": c") == n_calls(b"if a:=b:=b: c")
