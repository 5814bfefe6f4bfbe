"""Functions that look ahead are detected, and those that do not are left alone."""

import numpy as np
import pytest

from gatescope.analysis.foresight import MOST, looks_ahead
from gatescope.analysis.hypotheses import library
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError

TEXTS = ["a `b` c\nd `e\nf` g\n``` h\n", "x y\nz `w`\n", ""]


def made(function, values="boolean"):
    return Hypothesis("own", "any", values, "past", "", function)


def of_whole_line(text):
    lines = text.split("\n")
    return np.concatenate([np.full(len(line) + 1, line.startswith("```")) for line in lines])[: len(text)]


def backward_fill(text):
    known = np.array([character == "\n" for character in text])
    return np.arange(len(text), dtype=float), np.maximum.accumulate(known[::-1])[::-1]


AHEAD = {
    "the next character": lambda text: [text[i + 1 : i + 2] == "`" for i in range(len(text))],
    "the whole line": of_whole_line,
    "share of the text": (lambda text: np.arange(len(text)) / len(text)),
    "where it is defined": backward_fill,
    "where it is defined, and never holds": lambda text: (np.zeros(len(text), bool), backward_fill(text)[1]),
}
PAST = {
    "this character": lambda text: [character == "`" for character in text],
    "within a pair": lambda text: np.cumsum([character == "`" for character in text]) % 2 == 1,
    "never": lambda text: np.zeros(len(text), bool),
    "how many": lambda text: np.cumsum([character == "`" for character in text]).astype(float) + 1e-12 * len(text),
    "defined from the third on": lambda text: (np.arange(len(text)) % 2 == 0, np.arange(len(text)) > 2),
}
CONTINUOUS = {"share of the text", "how many", "where it is defined"}


@pytest.mark.parametrize("name", AHEAD)
def test_functions_that_look_ahead_are_detected(name):
    found = looks_ahead(made(AHEAD[name], "continuous" if name in CONTINUOUS else "boolean"), TEXTS)
    assert found is not None and "changes if the text ends after character" in found


def test_the_position_of_the_lookahead_is_named():
    assert looks_ahead(made(AHEAD["the next character"]), ["ab`"]) == (
        "its label of character 1 of a text changes if the text ends after character 1"
    )


@pytest.mark.parametrize("name", PAST)
def test_functions_of_the_past_pass(name):
    assert looks_ahead(made(PAST[name], "continuous" if name in CONTINUOUS else "boolean"), TEXTS, prime="`\n") is None


@pytest.mark.parametrize("each", [each for each in library() if each.sees == "past"], ids=lambda each: each.name)
def test_built_in_hypotheses_of_the_past_do_not_look_ahead(each):
    code = 'def f(a, b):\n    """Doc."""\n    if (a[0] == "x"):  # c\n        return b\n'
    texts = [code, "/* d */ int g() { while (1); }\n", "ROME. He said “no”.\nDUKE:\nI go?\n"]
    assert looks_ahead(each, texts) is None


def test_a_failing_function_is_not_reported_as_looking_ahead():
    def fails(text):
        raise InputError("no")

    assert looks_ahead(made(fails), TEXTS) is None


def test_the_check_calls_the_function_only_as_often_as_needed():
    asked = []

    def counted(text):
        asked.append(len(text))
        return [character == "`" for character in text]

    assert looks_ahead(made(counted), ["a`b`c`d`e`" * 1000] * 50) is None
    # Seven prefixes of each text, beside the whole.
    n_texts = -(-MOST // 7)
    assert max(asked) == 4096 and len(asked) == 8 * n_texts


def test_a_function_that_always_fails_is_not_called_for_every_text():
    asked = []

    def fails(text):
        asked.append(text)
        raise InputError("no")

    assert looks_ahead(made(fails), ["a`b"] * 1000) is None
    assert len(asked) == MOST
