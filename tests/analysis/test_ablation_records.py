"""ablation_records.py: the sets of units at the head of rankings."""

import numpy as np
import pytest
import scipy.stats

from gatescope.analysis import ablation_records
from gatescope.engine.errors import InputError
from gatescope.engine.model import Architecture

TWO_LAYERS = Architecture(cell="lstm", hidden=3, layers=2)


def named(*units):
    """The units of a record's rankings: layer, state and number."""
    return [{"states": f"layer{layer}/{state}", "unit": unit} for layer, state, unit in units]


def record(top, weights=None, selected=None):
    found = {"hypothesis": "inside", "top_units": named(*top)}
    found |= {} if weights is None else {"largest_weights": named(*weights)}
    return found | ({} if selected is None else {"selected_units": named(*selected)})


def test_rankings_with_equal_first_units_share_a_set():
    top = [(0, "h", 0), (1, "h", 1), (0, "h", 2), (1, "h", 0)]
    weights = [(1, "h", 1), (0, "h", 0), (1, "h", 2), (0, "h", 2)]
    selected = [(0, "h", 0), (0, "h", 1)]
    assert ablation_records.tested_sets(record(top, weights, selected), "auroc", (1, 2, 4), TWO_LAYERS) == [
        ("auroc, selected", [(0, 0)]),
        ("auroc, weight_sd", [(0, 0), (1, 1)]),
        ("auroc", [(0, 0), (1, 1), (0, 2), (1, 0)]),
        ("weight_sd", [(1, 1)]),
        ("weight_sd", [(1, 1), (0, 0), (1, 2), (0, 2)]),
        ("selected", [(0, 0), (0, 1)]),
    ]


def test_both_states_of_a_unit_are_one_unit():
    top = [(0, "h", 0), (0, "c", 0), (0, "c", 2)]
    assert ablation_records.tested_sets(record(top), "auroc", (2,), TWO_LAYERS) == [("auroc", [(0, 0), (0, 2)])]


def test_the_ranking_by_weights_is_not_named_twice():
    top, weights = [(0, "h", 0)], [(0, "h", 1)]
    assert ablation_records.tested_sets(record(top, weights), "weight_sd", (1,), TWO_LAYERS) == [
        ("weight_sd", [(0, 0)])
    ]


def test_more_units_than_are_ranked_are_refused():
    top = [(0, "h", 0), (1, "h", 1)]
    with pytest.raises(InputError, match=r"--units 4: .* only the first 2 of 6 units for inside: give at most 2"):
        ablation_records.tested_sets(record(top), "auroc", (1, 4), TWO_LAYERS)
    assert len(ablation_records.tested_sets(record(top), "auroc", (1, 2), TWO_LAYERS)) == 2
    small = Architecture(cell="lstm", hidden=1, layers=2)
    both = [(0, "h", 0), (1, "h", 0)]
    assert ablation_records.tested_sets(record(both), "auroc", (10,), small) == [("auroc", [(0, 0), (1, 0)])]


@pytest.mark.parametrize("unit", [(0, "h", 3), (2, "h", 0), (0, "gates/i", 0), (0, "h", -1)])
def test_unknown_units_are_refused(unit):
    with pytest.raises(InputError, match="cannot be held: the model has units 0 to 2 of layer0/h, layer0/c, layer1/h"):
        ablation_records.tested_sets(record([unit]), "auroc", (1,), TWO_LAYERS)


def test_p_is_corrected_over_all_lines():
    p = {"p_holds": (0.02, 0.02, 0.6, None), "p_difference": (0.5, 0.02, 0.6, 0.04)}
    records = [{name: values[line] for name, values in p.items()} for line in range(4)]
    found = ablation_records.corrected(records)
    assert [each["q_holds"] for each in found] == [0.03, 0.03, 0.6, None]
    expected = scipy.stats.false_discovery_control(p["p_difference"])
    np.testing.assert_allclose([each["q_difference"] for each in found], expected, atol=1e-6)
