"""counted.py: one thing is singular, several are plural."""

from gatescope.engine.counted import counted


def test_counts_use_singular_and_plural():
    assert [counted(number, "row") for number in (0, 1, 2, 12_345)] == ["0 rows", "1 row", "2 rows", "12,345 rows"]
    assert [counted(number, "hypothesis", "hypotheses") for number in (1, 2)] == ["1 hypothesis", "2 hypotheses"]
