"""Settings of probes that are refused."""

import pytest

from gatescope.analysis.probe_config import ProbeConfig
from gatescope.engine.errors import InputError


@pytest.mark.parametrize(("field", "value"), [("C", (1.0, 0.0)), ("C", ()), ("test_share", 1.0), ("bootstrap", 0)])
def test_settings_out_of_range(field, value):
    with pytest.raises(InputError, match=f"--{field.replace('_', '-')}"):
        ProbeConfig(**{field: value})
