"""Which hypotheses are tested on a text."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from gatescope.analysis.asked import chosen_hypotheses, labelled_rows, planned
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.engine.errors import InputError


def test_extracted_text_is_judged_by_its_own_language():
    english = "To be, or not to be, that is the question: whether it is nobler in the mind. " * 3
    vocabulary = sorted(set(english))
    for kind, language in (("sample", "c"), ("extract", "english")):
        source = SimpleNamespace(
            vocabulary=vocabulary,
            attributes={"kind": kind, "corpus": {"language": "c"}},
            n_rows=len(english),
            text=lambda start, stop: english[start:stop],
        )
        hypotheses, found = planned(source, ProbeConfig(), None)
        assert found == language
        assert {each.language for each in hypotheses} == {language, "any"}


FUNCTIONS = """
from gatescope.analysis.hypotheses import hypothesis

@hypothesis(language="any")
def next_is_b(text):
    return [text[i + 1 : i + 2] == "b" for i in range(len(text))]

@hypothesis(language="any", sees="future")
def b_later(text):
    return ["b" in text[i + 1 :] for i in range(len(text))]

@hypothesis(language="any")
def is_b(text):
    return [character == "b" for character in text]
"""


@pytest.fixture
def functions(tmp_path):
    (tmp_path / "own.py").write_text(FUNCTIONS)
    return tmp_path / "own.py"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), ["digit", "vowel", "b_later", "is_b", "next_is_b"]),
        (("line_decay",), ["line_decay", "digit", "vowel", "b_later", "is_b", "next_is_b"]),
        (("line_decay", "vowel"), ["line_decay", "vowel", "b_later", "is_b", "next_is_b"]),
        (("is_b",), ["is_b", "digit", "vowel"]),
        (("vowel", "is_b"), ["is_b", "vowel"]),
    ],
)
def test_all_user_hypotheses_are_chosen_unless_some_are_named(functions, names, expected):
    config = ProbeConfig(hypotheses=names, pattern=("digit=[0-9]", "vowel=[aeiou]"), functions=functions)
    assert sorted(each.name for each in chosen_hypotheses(config, "any")) == sorted(expected)


def test_two_patterns_with_the_same_name_are_refused():
    with pytest.raises(InputError, match="two hypotheses are called 'x'"):
        chosen_hypotheses(ProbeConfig(hypotheses=("x",), pattern=("x=a", "x=b")), "any")


def test_a_function_that_looks_ahead_is_marked_as_future(functions, tmp_path):
    texts, warned = ["xab b\n", "bbxb ab"], []
    starts, whole = np.cumsum([0, *map(len, texts)]), "".join(texts)
    source = SimpleNamespace(
        attributes={"prime": "\n"},
        document_starts=starts,
        n_rows=len(whole),
        text=lambda start, stop: whole[start:stop],
        documents=lambda: [(int(a), int(b), whole[a:b]) for a, b in pairwise(starts)],
    )
    config = ProbeConfig(hypotheses=(), functions=functions)
    given = source, chosen_hypotheses(config, "any"), "any", None, tmp_path / "log.jsonl", warned.append
    boolean, _, _ = labelled_rows(*given)
    assert {each.name: each.sees for each in boolean.hypotheses} == {
        "next_is_b": "future",
        "b_later": "future",
        "is_b": "past",
    }
    (line,) = warned
    assert line.startswith("next_is_b: its label of character ")
    assert line.endswith("; it is treated as sees='future'")
