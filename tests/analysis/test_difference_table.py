"""Differences of two results in the terminal."""

import io
from dataclasses import replace

import numpy as np
from rich.console import Console

from gatescope.analysis.difference import Difference, Pair
from gatescope.analysis.difference_table import difference_table, headings

NONE = (np.nan,) * 4
DIFFERENCES = (
    Difference("inside_[bold]string", ("all", "layer0/h"), "auroc", 0.914, 0.9267, 0.0031, 0.0219, 0.004, 0.012),
    Difference("indent_gt_1", ("all", "layer0/h"), "auroc", 0.75, 0.7, -0.125, 0.025, 0.2, 0.2),
    Difference("line_position", ("all", "layer0/h"), "r2", 0.5, 0.25, -0.3, -0.2, 0.0001, 0.0004),
    Difference("newline_next", ("all", "layer0/h"), "auroc", 0.5, 0.5, *NONE),
)


def lines(pair):
    columns = [[str(cell) for cell in column.cells] for column in difference_table(pair).columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_a_line_shows_scores_difference_interval_and_q():
    pair = Pair("out/lstm", "out/[red]gru", DIFFERENCES)
    heads = [str(column.header) for column in difference_table(pair).columns]
    assert heads == ["hypothesis", "out/lstm", "out/[red]gru, layer0/h", "difference", "95%", "q"]
    assert lines(pair) == [
        ["inside_[bold]string*", ".91", ".93", "+.013", "+.003 to +.022", ".01"],
        ["indent_gt_1", ".75", ".70", "-.050", "-.125 to +.025", ".20"],
        ["line_position*", ".50", ".25", "-.250", "-.300 to -.200", ".00"],
        ["newline_next", ".50", ".50", "+.000", "–", "–"],
    ]


def test_mixed_state_sets_are_not_named():
    several = (DIFFERENCES[0], replace(DIFFERENCES[1], states=("layer0/c", "layer0/c")))
    assert headings(Pair("a", "b", several)) == ["a", "b", "difference", "95%", "q"]


def test_the_table_fits_80_columns():
    file = io.StringIO()
    Console(file=file, width=80).print(difference_table(Pair("out/lstm", "out/gru", DIFFERENCES)))
    assert "…" not in file.getvalue() and "inside_[bold]string*" in file.getvalue()
