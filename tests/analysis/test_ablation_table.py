"""The table of ablations in the terminal: the contents of its cells."""

import io

from held_record import erased_record, record
from rich.console import Console

from gatescope.analysis.ablation_table import HEADINGS, ablation_table


def cells(records):
    columns = [[str(cell) for cell in column.cells] for column in ablation_table(records).columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_a_row_gives_the_changes_in_loss():
    assert [column.header for column in ablation_table([]).columns] == list(HEADINGS)
    assert cells([record()]) == [
        [
            *("inside_[bold]string", "auroc, weight_sd", "layer1 17", "+.123", "-.010 to +1.250"),
            *("+.000", "+.020", "+.031", ".02", ".06", "1.00", ".99"),
        ]
    ]


def test_several_units_are_counted_and_missing_values_are_dashes():
    units = [{"layer": 0, "unit": 1}, {"layer": 1, "unit": 1}]
    (row,) = cells([record(units=units, change_holds=None, change_holds_low=None, p_holds=None)])
    assert row[2:5] == ["first 2", "–", "–"] and row[8] == "–"


def test_a_direction_shows_auroc_before_and_after_erasure():
    (row,) = cells([erased_record()])
    assert row[1:4] == ["erased .90→.51→.55", "direction", "+.123"]
    (row,) = cells([erased_record(auroc_once=None)])
    assert row[1] == "erased .90→–→.55"
    (row,) = cells([erased_record(auroc_left=None)])
    assert row[1] == "erased"


def test_the_table_fits_120_columns():
    file = io.StringIO()
    Console(file=file, width=120).print(
        ablation_table([make(hypothesis="inside_bracket_deep") for make in (record, erased_record)])
    )
    assert "…" not in file.getvalue() and "inside_bracket_deep" in file.getvalue()
