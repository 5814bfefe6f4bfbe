"""report_html.py: safe names, numbers, how many rows are open, and the name of a table's box."""

import pytest

from gatescope.analysis.report_html import MOST_OPEN, escaped, name_html, opened, scrolled, significant


def test_rows_beyond_the_first_are_collapsed():
    whole = opened([0] * MOST_OPEN, lambda rows: f"[{len(rows)}]")
    assert whole == f"[{MOST_OPEN}]"
    more = opened([0] * (MOST_OPEN + 3), lambda rows: f"[{len(rows)}]", "sets of units")
    assert more == f"[{MOST_OPEN}]<details><summary>3 more sets of units</summary>\n[3]</details>\n"


def test_a_table_scrolls_and_is_reachable_by_keyboard():
    box = '<div class="scroll" tabindex="0" role="region" aria-label="Scores">'
    assert scrolled("Scores", "x") == f"{box}<table>x</table></div>\n"
    assert scrolled("Scores", "x", "where") == f'{box}<table class="where">x</table></div>\n'


@pytest.mark.parametrize("value, text", [(None, "–"), (0, "0"), (-1234.5, "−1.23e+03"), (0.5, "0.5")])
def test_numbers_have_three_significant_digits(value, text):
    assert significant(value) == text


def test_names_may_wrap_and_are_escaped():
    assert escaped('a_<b>\n"') == "a_&lt;b&gt;U+000A&quot;"
    assert name_html("a_b/c&") == "a_<wbr>b/<wbr>c&amp;"
