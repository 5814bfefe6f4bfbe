"""train_config.py: the learning rate of each step, and settings that are out of range."""

import itertools
import math
from dataclasses import replace

import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.train_config import TrainConfig


def test_the_learning_rate_rises_and_falls_along_half_a_cosine():
    flat = TrainConfig(steps=400, warm_up=0)
    falling = [flat.rate(step) for step in range(401)]
    assert falling[0] == flat.learning_rate
    assert falling[200] == pytest.approx(flat.learning_rate * (1 + flat.final_rate) / 2)
    assert falling[-1] == pytest.approx(flat.learning_rate * flat.final_rate)
    assert all(a > b for a, b in itertools.pairwise(falling))
    # The ramp has as many steps as asked, but at most half of all.
    for warm_up, length in ((10, 10), (300, 200)):
        config = replace(flat, warm_up=warm_up)
        ramp = [config.rate(step) / rate for step, rate in enumerate(falling)]
        assert ramp == pytest.approx([min(1, (step + 1) / length) for step in range(401)])
    assert TrainConfig(steps=1).rate(0) == flat.learning_rate  # too few steps for a ramp


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("hidden", 0), ("dropout", 1.0), ("batch", 0), ("learning_rate", 0.0), ("learning_rate", math.nan)),
        *(("clip", -1.0), ("final_rate", 2.0), ("validation_share", 0.0), ("embedding", -1), ("evaluate_every", 0)),
        ("warm_up", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=f"--{field.replace('_', '-')}"):
        TrainConfig(**{field: value})
