import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatescope.analysis.hypotheses import select


def label(name, text, prime=""):
    (chosen,) = select([name], "any")
    return chosen.label(text, prime)


@given(text=st.text("ab\n", max_size=30) | st.text(max_size=10))
def test_newline_next_looks_one_character_ahead(text):
    values, defined = label("newline_next", text)
    for place in range(len(text)):
        assert defined[place] == (place + 1 < len(text))
        assert values[place] == (text[place + 1 : place + 2] == "\n")


@given(text=st.text("ab\n", max_size=200))
def test_column_and_line_position(text):
    columns = [place - text.rfind("\n", 0, place + 1) for place in range(len(text))]
    assert label("column", text)[0].tolist() == columns
    np.testing.assert_allclose(label("line_position", text)[0], np.array(columns) / 80, rtol=1e-6)


@given(text=st.text("ab\n", max_size=30))
def test_line_decay_falls_from_1_to_minus_1(text):
    values, defined = label("line_decay", text)
    finished = text.rfind("\n") + 1
    assert defined.tolist() == [place < finished for place in range(len(text))]
    expected = [v for line in text[:finished].splitlines(keepends=True) for v in np.linspace(1, -1, len(line))]
    np.testing.assert_allclose(values[:finished], expected, atol=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("column", [3, 4, 0, 1]), ("line_decay", [-1 / 3, -1, 1, -1])])
def test_a_line_begun_in_the_prime(name, expected):
    # The line is "abc\n"; for the decay, which ends at the newline, it is "ab" of the prime and two more characters.
    text = {"column": "cd\ne", "line_decay": "c\nd\n"}[name]
    values, defined = label(name, text, prime="x\nab")
    assert defined.all()
    np.testing.assert_allclose(values, expected, atol=1e-6)
