import sys

import numpy as np
import pytest

from gatescope.analysis.hypotheses import library, select
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError


def made(function, values="boolean"):
    return Hypothesis("made", "any", values, "past", "", function)


def test_undefined_values_are_false_or_zero():
    defined = [True, False, True]
    values, mask = made(lambda text: ([1, 1, 0], defined)).label("abc")
    assert (values.tolist(), mask.tolist()) == ([True, False, False], defined)
    values, _ = made(lambda text: (np.array([1.5, np.nan, 2]), np.array(defined)), "continuous").label("abc")
    assert values.dtype == np.float64
    assert values.tolist() == [1.5, 0, 2]


def test_two_labels_are_not_taken_for_values_and_mask():
    assert made(lambda text: (True, False)).label("ab")[0].tolist() == [True, False]


def test_the_prime_is_read_but_not_labelled():
    seen = []

    def function(text):
        seen.append(text)
        return np.arange(len(text)), np.arange(len(text)) != 3

    values, defined = made(function, "continuous").label("cd", prime="ab")
    assert seen == ["abcd"]
    assert (values.tolist(), defined.tolist()) == ([2, 0], [True, False])


def test_an_empty_text_has_no_labels():
    for values in ("boolean", "continuous"):
        found, defined = made(lambda text: [], values).label("")
        assert found.shape == defined.shape == (0,)


def raises(text):
    return [1 / (len(text) - 3)]


@pytest.mark.parametrize(
    ("function", "values", "message"),
    {
        "raises": (raises, "boolean", r"'made' at test_hypothesis.py, line \d+: ZeroDivisionError: division by zero"),
        "exits": (lambda text: sys.exit(3), "boolean", "SystemExit: 3"),
        "too short": (lambda text: [True], "boolean", r"values of shape \(1,\) for a text of 3 characters"),
        "too long": (lambda text: [True] * 4, "boolean", r"values of shape \(4,\) for a text of 3 characters"),
        "two dimensions": (lambda text: np.ones((3, 1)), "boolean", r"shape \(3, 1\)"),
        "mask too short": (lambda text: ([True] * 3, [True]), "boolean", r"defined of shape \(1,\)"),
        "nothing": (lambda text: None, "boolean", "returned a NoneType; return a list or array"),
        "generator": (lambda text: (each == "a" for each in text), "boolean", "returned a generator; return a list"),
        "something missing": (lambda text: [True, None, False], "boolean", "values such as None; return"),
        "strings": (lambda text: list(text), "boolean", "values of type <U1"),
        "complex": (lambda text: [1j] * 3, "continuous", "values of type complex"),
        "ragged": (lambda text: [[1], [1, 2], 3], "boolean", "inhomogeneous"),
        "not boolean": (lambda text: [0, 1, 2], "boolean", "returned 2 at character 2"),
        "NaN in a boolean": (lambda text: [0, np.nan, 1], "boolean", "returned nan at character 1"),
        "NaN": (lambda text: [0, np.nan, 1], "continuous", "returned nan at character 1"),
        "infinite": (lambda text: [np.inf, 0, 1], "continuous", "returned inf at character 0"),
        "beyond float32": (lambda text: [0, 1, 1e39], "continuous", r"returned 1e\+39 at character 2"),
    }.values(),
)
def test_faulty_functions_are_named_in_one_line(function, values, message):
    with pytest.raises(InputError, match=message) as caught:
        made(function, values).label("abc")
    assert "'made'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupt_is_not_swallowed():
    def function(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(function).label("abc")


C_LINES = '#define A(x) \\\n\tf((x)\n/* one\n * two */ int a; // three\nif (a) {\n\tb = "x";\n}\n'
PYTHON_LINES = 'def f(x):\n    """Say.\n\n    More."""\n    if (x and\n            y):  # why\n        return x\n'
ENGLISH_LINES = 'First Citizen:\nHe said, "Speak.\nNow"\n\nAnd then. Was it so?\n'


@pytest.mark.parametrize(
    ("language", "text"), [("c", C_LINES), ("python", PYTHON_LINES), ("english", ENGLISH_LINES), ("any", C_LINES)]
)
def test_lines_ending_in_crlf_get_the_same_labels(language, text):
    for each in select(["auto"], language):
        if "verb" in each.name or "noun" in each.name:
            continue
        values, defined = each.label(text)
        again, where = each.label(text.replace("\n", "\r\n"))
        kept = np.array([character != "\r" for character in text.replace("\n", "\r\n")])
        assert again[kept].tolist() == values.tolist(), each.name
        assert where[kept].tolist() == defined.tolist(), each.name
        # The return itself gets the label of the character before it.
        returns = np.flatnonzero(~kept)
        inner = returns[(returns > 0) & kept[returns - 1]]
        assert again[inner].tolist() == again[inner - 1].tolist(), each.name


@pytest.mark.parametrize("text", ["ab\r\ncd", "ab\rcd\r", "\r\r\nab", "if (a)\r\n\tb;\r\r\n"])
def test_labels_at_a_return_do_not_reveal_a_following_newline(text):
    for each in library():
        if each.sees != "past":
            continue
        values, defined = each.label(text)
        for cut in range(len(text)):
            early, where = each.label(text[:cut])
            assert (early.tolist(), where.tolist()) == (values[:cut].tolist(), defined[:cut].tolist()), each.name


def test_a_return_at_the_end_of_a_text_is_undefined():
    (newline_next,) = select(["newline_next"], "any")
    assert newline_next.label("ab\r")[1].tolist() == [True, True, False]


def test_a_return_at_the_start_of_a_text_is_undefined():
    (column,) = select(["column"], "any")
    assert column.label("\r\nab")[1].tolist() == [False, True, True, True]
    assert column.label("\rab")[0].tolist() == [0, 2, 3]


def test_a_return_in_the_prime_belongs_to_the_prime():
    (comment,) = select(["inside_comment"], "c")
    assert comment.label("b*/c\r\n", "/*\r\n")[0].tolist() == comment.label("b*/c\n\n", "/*\n")[0].tolist()


def test_a_user_function_receives_the_text_unchanged():
    seen = []
    made(lambda text: seen.append(text) or [True] * len(text)).label("a\r\nb")
    assert seen == ["a\r\nb"]


def test_masked_labels_are_undefined():
    def blank(text):
        return np.ma.masked_array([True] * len(text), [character == " " for character in text])

    for function in (blank, lambda text: (blank(text), [True] * len(text))):
        each = Hypothesis("blank", "any", "boolean", "past", "", function)
        assert each.label("b c", "a ")[1].tolist() == [True, False, True]
        assert each.label("b c", "a ")[0].tolist() == [True, False, True]
