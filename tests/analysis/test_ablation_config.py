"""Settings of an ablation that make no sense."""

from dataclasses import asdict

import pytest

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.engine.errors import InputError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"units": ()}, "--units : expected numbers"),
        ({"units": (3, 0)}, "--units 3 0: expected numbers"),
        ({"units": 3}, "--units 3 is not a tuple"),
        ({"sequences": 0}, "--sequences 0 is too small: expected at least 1"),
        ({"length": 1}, "--length 1 is too small: expected at least 2"),
        ({"length": 2.5}, "--length 2.5: expected"),
        ({"random_sets": 19}, "--random-sets 19: expected 20"),
        ({"random_sets": 10_001}, "--random-sets 10001: expected 20"),
        ({"method": "median"}, "--method 'median' is unknown"),
    ],
)
def test_invalid_configurations_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        AblationConfig(**given)


@pytest.mark.parametrize(
    "given", [{"units": (1,)}, {"sequences": 1}, {"length": 2}, {"random_sets": 20}, {"random_sets": 10_000}]
)
def test_extreme_allowed_values_are_accepted(given):
    assert asdict(AblationConfig(**given)) == asdict(AblationConfig()) | given
