"""The terminal's table of controls."""

from rich.console import Console

from gatescope.analysis.controls_table import controls_table

COMMENT = {
    "hypothesis": "comment",
    "kind": "boolean",
    "states": "all",
    "weighting": "plain",
    "status": "converged",
    "auroc": 0.91,
    "control_score": 0.62,
    "selectivity": 0.29,
    "untrained_score": 0.81,
    "above_untrained_low": 0.05,
    "above_untrained_high": 0.14,
}
LINE = COMMENT | {
    "hypothesis": "[i]line",
    "untrained_score": 0.95,
    "above_untrained_low": -0.051,
    "above_untrained_high": -0.03,
}
DEPTH = {"hypothesis": "depth", "kind": "continuous", "states": "all", "weighting": "none", "status": "converged"}


def rows(records):
    table = controls_table(records)
    return [tuple(map(str, row)) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_a_line_shows_the_result_of_each_control():
    balanced = COMMENT | {"weighting": "balanced", "auroc": 0.1}
    assert rows([COMMENT, balanced, LINE]) == [
        ("comment*", ".91", ".81", "+.100, +.050 to +.140", ".62", ".29"),
        ("[i]line", ".91", ".95", "-.040, -.051 to -.030", ".62", ".29"),
    ]


def test_rows_need_at_least_one_control():
    assert rows([COMMENT | {"control_score": None, "selectivity": None}])[0][4:] == ("–", "–")
    assert rows([DEPTH | {"r2": 0.5, "control_score": 0.1, "selectivity": 0.4}]) == [("depth", ".50", ".10", ".40")]
    depth = DEPTH | {"r2": 0.5, "control_score": 0.1, "selectivity": 0.4}
    assert rows([COMMENT, depth])[1] == ("depth", ".50", "–", "", ".10", ".40")
    assert controls_table([DEPTH | {"r2": 0.5}, DEPTH | {"control_score": 0.1}]) is None
    assert controls_table([]) is None


def test_the_legend_explains_what_is_shown():
    shown = str(controls_table([COMMENT]).caption)
    assert "network reading the same text; above them: the difference" in shown and "only for" not in shown
    without = str(controls_table([COMMENT | {"untrained_score": None}]).caption)
    assert "above them" not in without and "random weights can be drawn only for gatescope's models" in without
    assert "AUROC, or R²; control task: the score" in without and "gatescope report" in without


def test_the_table_fits_80_columns():
    console = Console(width=80, color_system=None)
    with console.capture() as shown:
        console.print(controls_table([LINE]))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 80 and any("[i]line" in line and "-.040, -.051 to -.030" in line for line in lines)
