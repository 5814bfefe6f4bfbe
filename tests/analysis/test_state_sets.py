"""Which states are probed together."""

from gatescope.analysis.state_sets import state_sets

NAMES = ["layer0/h", "layer0/c", "layer0/gates/i", "layer1/entropy"]


def test_every_array_alone_and_the_recurrent_ones_together():
    expected = {name: [name] for name in NAMES[:3]} | {"all": NAMES[:2]}
    assert state_sets(NAMES, "post") == expected


def test_gates_have_no_value_before_the_first_character():
    assert list(state_sets(NAMES, "pre")) == ["layer0/h", "layer0/c", "all"]
    assert state_sets(NAMES[2:], "pre") == {}


def test_one_array_is_no_set_of_all():
    assert state_sets(["h"], "post") == {"h": ["h"]}
    assert state_sets(NAMES[3:], "post") == {}
