"""Settings of an ablation that make no sense."""

import pytest

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.engine.errors import InputError


@pytest.mark.parametrize("given", [{"units": ()}, {"units": (3, 0)}, {"sequences": 0}, {"random_sets": 19}])
def test_configurations_that_make_no_sense_are_refused(given):
    with pytest.raises(InputError):
        AblationConfig(**given)
