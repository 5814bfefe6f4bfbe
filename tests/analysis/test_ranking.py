"""Orders of units against sorting written out, and summaries at their known extremes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gatescope.analysis.ranking import (
    localisation,
    participation_ratio,
    rank_units,
    unit_importance,
    unit_records,
)

# NumPy warns if an undefined quotient is computed instead of being left out.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

COEFFICIENTS = np.array([[1.0, -4.0, 2.0, 0.0], [0.5, 0.5, -0.5, np.nan]])
SD = np.array([8.0, 0.5, 1.0, 3.0])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("weight", [[1, 2, 0, 3], [0, 1, 2, 3]]),
        ("weight_sd", [[0, 1, 2, 3], [0, 2, 1, 3]]),
        ("auroc", [[2, 0, 1, 3], [3, 0, 2, 1]]),
        ("correlation", [[1, 0, 2, 3], [3, 1, 0, 2]]),
    ],
)
def test_each_ranking_equals_its_hand_computed_order(by, expected):
    auroc = np.array([[0.6, 0.5, 0.1, np.nan], [0.5, np.nan, 0.5, 0.9]])
    correlation = np.array([[-0.3, 0.4, 0.2, np.nan], [0.0, -0.1, 0.0, -0.9]])
    given = {"coefficients": COEFFICIENTS, "sd": SD, "auroc": auroc}
    assert rank_units(by, correlation=correlation, **given).tolist() == expected


# Few distinct values, so that ties are common.
tables = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, np.nan])
)


@settings(deadline=None)
@given(tables)
def test_ties_are_ranked_by_index_and_nan_last(coefficients):
    expected = [
        sorted(range(len(row)), key=lambda h: (math.isnan(row[h]), -abs(row[h]) if row[h] == row[h] else 0, h))
        for row in coefficients
    ]
    assert rank_units("weight", coefficients=coefficients).tolist() == expected


@settings(deadline=None)
@given(tables, st.data())
def test_permuting_units_permutes_importance(coefficients, data):
    order = data.draw(st.permutations(range(coefficients.shape[1])))
    sd = np.arange(1.0, coefficients.shape[1] + 1)
    importance = unit_importance("weight_sd", coefficients=coefficients, sd=sd)
    moved = unit_importance("weight_sd", coefficients=coefficients[:, order], sd=sd[order])
    np.testing.assert_array_equal(importance[:, order], moved)


def test_unknown_ranking_and_missing_array_are_named():
    with pytest.raises(ValueError, match="'size'"):
        rank_units("size", coefficients=COEFFICIENTS, sd=SD)
    with pytest.raises(ValueError, match="'auroc' needs"):
        rank_units("auroc", coefficients=COEFFICIENTS, sd=SD)


def test_records_of_units_survive_json():
    columns = [("layer0/h", 0), ("layer0/h", 1), ("layer0/c", 0), ("layer0/c", 1)]
    auroc = np.array([[0.7, np.nan, 0.2, 0.5], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    order = np.array([[0, 1], [2, 3], [-1, -1]])
    coefficients = np.vstack([COEFFICIENTS, np.zeros(4)])
    records = unit_records(columns, order, coefficients, SD, {"auroc": auroc})
    assert json.loads(json.dumps(records, allow_nan=False)) == [
        [
            {"states": "layer0/h", "unit": 0, "coefficient": 1.0, "importance": 8.0, "auroc": 0.7},
            {"states": "layer0/h", "unit": 1, "coefficient": -4.0, "importance": 2.0, "auroc": None},
        ],
        [
            {"states": "layer0/c", "unit": 0, "coefficient": -0.5, "importance": 0.5, "auroc": 0.5},
            {"states": "layer0/c", "unit": 1, "coefficient": None, "importance": None, "auroc": 0.5},
        ],
        [],
    ]
    (first, *_), *_ = unit_records(columns, order, coefficients, SD, {"correlation": auroc})
    assert first["correlation"] == 0.7 and "auroc" not in first


def test_participation_ratio_at_its_extremes():
    one, all_equal, none = [0, 0, -3, 0], [2, -2, 2, 2], [0, 0, 0, 0]
    ratio = participation_ratio(np.array([one, all_equal, none, [1, 1, 0, 0]], dtype=float))
    np.testing.assert_array_equal(ratio, [1, 4, np.nan, 2])


@settings(deadline=None)
@given(hnp.arrays(np.float64, (3, 6), elements=st.floats(0.01, 100)), st.sampled_from([1e-100, -1.0, 1e100]))
def test_participation_ratio_equals_its_formula_at_any_scale(weights, scale):
    expected = [math.fsum(w**2 for w in row) ** 2 / math.fsum(w**4 for w in row) for row in weights.tolist()]
    np.testing.assert_allclose(participation_ratio(weights * scale), expected, rtol=1e-12)


def test_localisation_is_the_unit_share_of_the_probe_score():
    unit, probe = np.array([0.6, 0.9, 0.4, 0.5, np.nan, 0.4]), np.array([0.7, 0.9, 0.5, np.nan, 0.6, 0.6])
    share = localisation(unit, probe, probe - 0.05)
    np.testing.assert_allclose(share, [0.5, 1.0, np.nan, np.nan, np.nan, -1])
    # If a probe may know nothing, or has no interval, there is no share to report.
    assert np.isnan(localisation(unit[:2], probe[:2], np.array([0.5, np.nan]))).all()
