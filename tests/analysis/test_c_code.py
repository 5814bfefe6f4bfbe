import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import c_code
from gatescope.analysis.hypotheses import library, select

TEXT = """/* a (b) */
#define A(x) (x)
int f(int a)
{
\tif (a == '(') {
\t\treturn g("x", h(a)); // c
\t}
}
"""


def label(name, text, prime=""):
    (chosen,) = select([name], "c")
    values, defined = chosen.label(text, prime)
    return values, defined


def positive(name, text=TEXT):
    """The runs of characters at which a hypothesis holds."""
    values, defined = label(name, text)
    runs = "".join(character if value else "\x00" for character, value in zip(text, values & defined, strict=True))
    return [run for run in runs.split("\x00") if run]


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "inside_parentheses": ["(int a", "(a == '('", '("x", h(a)'],
        "inside_parentheses+close": ["(int a)", "(a == '(')", '("x", h(a))'],
        "parenthesis_depth_ge_2": ["(a"],
        "parenthesis_depth_ge_3": [],
        "inside_string": ['"x'],
        "inside_string+close": ['"x"'],
        "inside_character": ["'("],
        "inside_character+close": ["'('"],
        "inside_comment": ["* a (b) *", "/ c"],
        "inside_comment+open": ["/* a (b) *", "// c"],
        "inside_comment+close": ["* a (b) */", "/ c"],
        "inside_line_comment": ["/ c"],
        "inside_line_comment+open": ["// c"],
        "inside_block_comment": ["* a (b) *"],
        "inside_block_comment+open": ["/* a (b) *"],
        "inside_block_comment+close": ["* a (b) */"],
        "inside_condition": ["(a == '('"],
        "inside_condition+close": ["(a == '(')"],
        "inside_body": ['{\n\t\treturn g("x", h(a)); // c\n\t}'],
        "inside_directive": ["#define A(x) (x)"],
        "inside_braces": ["{\n\tif (a == '(') {\n\t\treturn g(\"x\", h(a)); // c\n\t}\n"],
        "indent_gt_1": ['return g("x", h(a)); // c'],
        "indent_gt_2": [],
    }.items(),
)
def test_boolean_hypotheses_hold_where_expected(name, expected):
    assert positive(name) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("parenthesis_depth", "f(g(a))", [0, 1, 1, 2, 2, 1, 0]),
        ("expression_depth", "a[(b;c)]", [0, 1, 2, 2, 2, 2, 1, 0]),
        ("brace_depth", "{a}", [1, 1, 0]),
        ("indent_level", "\t\ta\n", [0, 0, 2, 0]),
    ],
)
def test_continuous_hypotheses_have_the_expected_values(name, text, expected):
    values, _ = label(name, text)
    assert values.tolist() == expected


@pytest.mark.parametrize("name", ["indent_gt_1", "indent_gt_3_of_2", "indent_level"])
def test_indentation_is_undefined_in_blanks_and_at_the_newline(name):
    _, defined = label(name, "\t a b\n\n c")
    assert defined.tolist() == [False, False, True, True, True, False, False, False, True]


def test_levels_are_counted_in_the_given_width():
    text = "    a\n      b\n\tc\n"
    assert positive("indent_gt_1", text) == []
    assert positive("indent_gt_1_of_2", text) == ["a", "b"]
    assert positive("indent_gt_2_of_2", text) == ["b"]
    assert positive("indent_gt_1_of_4", text) == []


@pytest.mark.parametrize("name", ["inside_comment+open", "inside_line_comment+open", "inside_block_comment+open"])
def test_a_slash_at_the_end_is_undefined(name):
    assert label(name, "a/")[1].tolist() == [True, False]
    assert label(name, "a")[1].tolist() == [True]
    assert label(name, "/**/")[1].all()


def test_only_comment_openings_need_later_characters():
    names = {each.name for each in library() if each.function.__module__ == c_code.__name__ and each.sees == "future"}
    assert names == {f"inside_{kind}comment+open" for kind in ("", "line_", "block_")}


def test_the_prime_is_parsed():
    values, defined = label("inside_comment", "b*/c", prime="/*a")
    assert values.tolist() == [True, True, False, False]
    assert len(defined) == 4


def test_the_scan_is_shared_and_cannot_be_changed():
    values = c_code.parenthesis_depth("(a")
    assert c_code.parenthesis_depth("(a") is values
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 7


@settings(max_examples=60, deadline=None)
@given(text=st.text("if(a) {}[];\"'/*\\\n\t#", max_size=60) | st.text(max_size=20), cut=st.integers(0, 60))
def test_every_hypothesis_labels_any_text_causally(text, cut):
    for each in library():
        if each.language != "c":
            continue
        values, defined = each.label(text)
        assert len(values) == len(defined) == len(text)
        if each.sees == "past":
            early, early_defined = each.label(text[:cut])
            np.testing.assert_array_equal(early, values[:cut])
            np.testing.assert_array_equal(early_defined, defined[:cut])
        later, later_defined = each.label(text[cut:], prime=text[:cut])
        np.testing.assert_array_equal(later, values[cut:])
        np.testing.assert_array_equal(later_defined, defined[cut:])
