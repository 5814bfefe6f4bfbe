import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gatescope.analysis.depth import depth_after


@given(events=st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.booleans()), max_size=40), before=st.integers(0, 9))
def test_running_sum_with_a_floor_and_resets(events, before):
    depth, expected = before, []
    for step, reset in events:
        depth = 0 if reset else max(0, depth + step)
        expected.append(depth)
    steps = np.array([0 if reset else step for step, reset in events], np.int64)
    resets = np.array([reset for _, reset in events], bool)
    assert depth_after(steps, resets, before).tolist() == expected
