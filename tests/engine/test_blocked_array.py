"""blocked_array.py: where an array is not finite."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gatescope.engine.blocked_array import first_not_finite


@given(st.lists(st.floats(width=16), min_size=1, max_size=40), st.sampled_from([np.float16, np.float32, np.float64]))
def test_first_not_finite(numbers, dtype):
    values = np.array(numbers, dtype=dtype).reshape(-1, 1)
    expected = next(((row, 0) for row, finite in enumerate(np.isfinite(values)) if not finite), None)
    assert first_not_finite(values) == expected


def test_integers_are_finite():
    assert first_not_finite(np.array([0xFFFF], dtype=np.uint16)) is None
    assert first_not_finite(np.empty((0, 3), dtype=np.float16)) is None
