import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import python_code
from gatescope.analysis.hypotheses import library, select

TEXT = """"doc"
@a
class B(c):
    def f(self, d={}):  # e
        if (d["x"]):
            return 1
"""


def label(name, text, prime=""):
    (chosen,) = select([name], "python")
    return chosen.label(text, prime)


def positive(name, text=TEXT):
    """The runs of characters at which a hypothesis holds."""
    values, defined = label(name, text)
    runs = "".join(character if value else "\x00" for character, value in zip(text, values & defined, strict=True))
    return [run for run in runs.split("\x00") if run]


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "inside_string": ['"doc', '"x'],
        "inside_docstring": ['"doc'],
        "inside_string+close": ['"doc"', '"x"'],
        "inside_docstring+close": ['"doc"'],
        "inside_brackets+close": ["(c)", "(self, d={})", '(d["x"])'],
        "inside_comment": ["# e"],
        "inside_brackets": ["(c", "(self, d={}", '(d["x"]'],
        "bracket_depth_ge_2": ["{", '["x"'],
        "bracket_depth_ge_3": [],
        "inside_condition": [' (d["x"])'],
        "inside_header": [" B(c)", " f(self, d={})"],
        "inside_decorator": ["@a"],
        "indent_gt_0": ["def f(self, d={}):  # e", 'if (d["x"]):', "return 1"],
        "indent_gt_1": ['if (d["x"]):', "return 1"],
        "indent_gt_2": ["return 1"],
        "indent_gt_3": [],
        "indent_gt_4": [],
    }.items(),
)
def test_boolean_hypotheses_hold_where_expected(name, expected):
    assert positive(name) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [("bracket_depth", "([a])", [1, 2, 2, 1, 0]), ("indent_level", "a\n b", [0, 0, 0, 1])],
)
def test_continuous_hypotheses_have_the_expected_values(name, text, expected):
    assert label(name, text)[0].tolist() == expected


@pytest.mark.parametrize(
    ("text", "runs"),
    [("'' 'a\"b'.c", ["''", "'a\"b'"]), ("f'{d[\"k\"]}z' x", ["'", '"k"', "}z'"]), ("'a\n' b\n", ["'a", "' b"])],
)
def test_a_closing_quote_counts_only_in_the_close_form(text, runs):
    assert positive("inside_string+close", text) == runs


@pytest.mark.parametrize("name", ["indent_gt_0", "indent_level"])
def test_indentation_is_undefined_in_blanks_and_at_the_newline(name):
    assert label(name, "a\n\n b c")[1].tolist() == [True, False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("level", "blocks"), [(0, "blocks"), (1, "block"), (2, "blocks"), (3, "blocks"), (4, "blocks")]
)
def test_descriptions_count_in_english(level, blocks):
    (chosen,) = select([f"indent_gt_{level}"], "python")
    assert chosen.description == f"More than {level} {blocks} around the statement."


def test_the_prime_is_parsed():
    assert label("inside_string", "b' c", prime="'a")[0].tolist() == [True, False, False, False]


def test_the_scan_is_shared_and_cannot_be_changed():
    values = python_code.bracket_depth("(a")
    assert python_code.bracket_depth("(a") is values
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 7


@settings(max_examples=60, deadline=None)
@given(text=st.text("def if:a\n \t()[]'\"#@f{}\\", max_size=60) | st.text(max_size=20), cut=st.integers(0, 60))
def test_every_hypothesis_labels_any_text_causally(text, cut):
    for each in library():
        if each.language != "python":
            continue
        assert each.sees == "past"
        values, defined = each.label(text)
        assert len(values) == len(defined) == len(text)
        early, early_defined = each.label(text[:cut])
        np.testing.assert_array_equal(early, values[:cut])
        np.testing.assert_array_equal(early_defined, defined[:cut])
        later, _ = each.label(text[cut:], prime=text[:cut])
        np.testing.assert_array_equal(later, values[cut:])
