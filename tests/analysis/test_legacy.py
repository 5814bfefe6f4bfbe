import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis.hypotheses import select

ROWS = [
    ("legacy_inside_parentheses", "f(a(b)c)d", "..####..."),
    ("legacy_inside_parentheses", "(a", ".#"),
    ("legacy_inside_parentheses", '"(")', "..##"),
    ("legacy_inside_parentheses", "()(", ".#."),
    ("legacy_inside_quotation", 'a"bc"d"e"', "..##...#."),
    ("legacy_inside_quotation", '"a\nb"', "....."),
    ("legacy_inside_quotation", '#"#', "#.#"),
    ("legacy_inside_quotation", "'\"'\"", "..#."),
    ("legacy_inside_comment", "a/*b*/c//d\ne", ".#####.###.."),
    ("legacy_inside_comment", '"//a"', ".####"),
    ("legacy_inside_comment", "/*//*/a\nb", "#######.."),
    ("legacy_inside_comment", "/*a", "###"),
    ("legacy_indent_gt_1", "\ta\tb\nc", "####.."),
    ("legacy_indent_gt_2", "\ta\tb\nc", "..##.."),
    ("legacy_indent_gt_3", "\t\t\ta", "..##"),
    ("legacy_capitals", "A, B!\nAb\n1\nC", "######.....#"),
    ("legacy_capitals", "\nA\n", ".##"),
]


@pytest.mark.parametrize(("name", "text", "expected"), ROWS)
def test_legacy_hypotheses_hold_where_expected(name, text, expected):
    (chosen,) = select([name], "any")
    values, defined = chosen.label(text)
    assert defined.all()
    assert "".join("#" if value else "." for value in values) == expected


def test_line_position():
    (chosen,) = select(["legacy_line_position"], "any")
    assert chosen.label("ab\n\nc")[0].tolist() == [1, 0, -1, 1, 0]


@settings(deadline=None)
@given(text=st.text('ab()"/*\n\t#', max_size=40) | st.text(max_size=10))
def test_legacy_hypotheses_label_any_text(text):
    for each in select(["legacy"], "any"):
        values, defined = each.label(text)
        assert len(values) == len(defined) == len(text)
        if each.sees == "past":
            assert each.label(text[:7])[0].tolist() == values[:7].tolist()
