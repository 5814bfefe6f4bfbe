"""The paper's tables beside ours in the terminal."""

import io

from rich.console import Console

from gatescope.analysis.reproduction import METRICS
from gatescope.analysis.reproduction_table import reproduction_table


def scores(plain, balanced, **more):
    return {metric: {"plain": plain, "balanced": balanced} for metric in METRICS} | more


def row(name, asked="legacy_x", legacy=None):
    fixed = {"cell": "lstm", "figure": "Figure 5", "name": name, "hypotheses": {"legacy": asked, "corrected": "x"}}
    ours = scores(0.5, None, prevalence={"plain": 0.0123, "balanced": 0.0123})
    nats = {"paper": 1.35, "ours": 1.5}
    return fixed | {"validation_nats": nats, "paper": scores(0.99, 1.0), "legacy": legacy, "corrected": ours}


def cells(rows):
    columns = [[str(cell) for cell in column.cells] for column in reproduction_table(rows).columns]
    return [list(line) for line in zip(*columns, strict=True)]


def test_a_hypothesis_has_three_lines():
    rows = [row("capitals", legacy=scores(0.123, 0.456, prevalence={"plain": None, "balanced": None})), row("verbs")]
    assert cells(rows) == [
        ["capitals", "the paper", *[".99/1.00"] * 4, ""],
        ["", "its labels", *[".12/.46"] * 4, ""],
        ["", "correct labels", *[".50/–"] * 4, "1.2%"],
        ["verbs", "the paper", *[".99/1.00"] * 4, ""],
        ["", "its labels", "not evaluated", "", "", "", ""],
        ["", "correct labels", *[".50/–"] * 4, "1.2%"],
    ]


def test_irreproducible_hypotheses_are_marked():
    assert cells([row("verbs", asked=None)])[1][2:] == ["not reproducible", "", "", "", ""]


def test_the_title_shows_both_losses_and_the_table_fits_80_columns():
    file = io.StringIO()
    rows = [row("parentheses", asked=None), row("capitalised", legacy=scores(1.0, 1.0, prevalence={"plain": 0.999}))]
    Console(file=file, width=80).print(reproduction_table(rows))
    title, *lines = file.getvalue().splitlines()
    assert title.rstrip() == "LSTM, Figure 5: 1.500 nats per character; the paper on its corpus: 1.350"
    assert len(lines) == 8 and "…" not in file.getvalue() and "not reproducible" in file.getvalue()
