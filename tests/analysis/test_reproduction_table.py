"""The paper's tables beside ours in the terminal."""

import io

from rich.console import Console

from gatescope.analysis.reproduction import METRICS
from gatescope.analysis.reproduction_table import reproduction_table


def scores(plain, balanced):
    return {metric: {"plain": plain, "balanced": balanced} for metric in METRICS}


def row(name, cell="lstm", asked="legacy_x", legacy=None):
    fixed = {"cell": cell, "figure": "Figure 5", "name": name, "hypotheses": {"legacy": asked, "corrected": "x"}}
    return fixed | {"paper": scores(0.99, 1.0), "legacy": legacy, "corrected": scores(0.5, None)}


def cells(rows):
    columns = [[str(cell) for cell in column.cells] for column in reproduction_table(rows).columns]
    return [list(line) for line in zip(*columns, strict=True)]


def test_a_hypothesis_has_three_lines():
    rows = [row("capitals", legacy=scores(0.123, 0.456)), row("verbs")]
    assert cells(rows) == [
        ["LSTM, Figure 5", "capitals", "the paper", *[".99/1.00"] * 4],
        ["", "", "its labels", *[".12/.46"] * 4],
        ["", "", "correct labels", *[".50/–"] * 4],
        ["", "verbs", "the paper", *[".99/1.00"] * 4],
        ["", "", "its labels", "not evaluated", "", "", ""],
        ["", "", "correct labels", *[".50/–"] * 4],
    ]


def test_what_cannot_be_reproduced_says_so():
    rows = [row("verbs", asked=None), row("verbs", cell="gru")]
    found = cells(rows)
    assert found[1][3:] == ["not reproducible", "", "", ""] and found[3][0] == "GRU, Figure 5"


def test_it_fits_a_terminal_of_90_columns():
    file = io.StringIO()
    Console(file=file, width=90).print(reproduction_table([row("parentheses", asked=None)]))
    assert "…" not in file.getvalue() and "not reproducible" in file.getvalue()
