"""Tables of the report: how many rows are open, and what names a table's box."""

from gatescope.analysis.report_table import MOST_OPEN, opened, scrolled


def test_rows_beyond_the_first_are_closed():
    whole = opened([0] * MOST_OPEN, lambda rows: f"[{len(rows)}]")
    assert whole == f"[{MOST_OPEN}]"
    more = opened([0] * (MOST_OPEN + 3), lambda rows: f"[{len(rows)}]", "sets of units")
    assert more == f"[{MOST_OPEN}]<details><summary>3 more sets of units</summary>\n[3]</details>\n"


def test_a_table_scrolls_and_can_be_reached_by_the_keys():
    box = '<div class="scroll" tabindex="0" role="region" aria-label="Scores">'
    assert scrolled("Scores", "x") == f"{box}<table>x</table></div>\n"
    assert scrolled("Scores", "x", "where") == f'{box}<table class="where">x</table></div>\n'
