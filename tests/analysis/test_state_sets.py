"""Which states are probed together."""

from gatescope.analysis.state_sets import state_sets

NAMES = ["layer0/h", "layer0/c", "layer0/gates/i", "layer1/entropy"]


def test_state_sets_are_single_arrays_and_all_recurrent_ones():
    expected = {name: [name] for name in NAMES[:3]} | {"all": NAMES[:2]}
    assert state_sets(NAMES, "post") == expected


def test_gates_have_no_value_before_the_first_character():
    assert list(state_sets(NAMES, "pre")) == ["layer0/h", "layer0/c", "all"]
    assert state_sets(NAMES[2:], "pre") == {}


def test_one_array_has_no_set_named_all():
    assert state_sets(["h"], "post") == {"h": ["h"]}
    assert state_sets(NAMES[3:], "post") == {}


def test_lstmvis_names_of_gates_and_scores_are_recognised():
    names = ["output1", "states1", "input1", "forget1", "hidden1", "gate_o1", "entropy2", "log_probability2"]
    assert state_sets(names, "post")["all"] == ["output1", "states1"]
    assert list(state_sets(names, "post")) == [*names[:6], "all"]
    assert list(state_sets(names, "pre")) == ["output1", "states1", "all"]


def test_arrays_named_hidden_or_output_count_as_states():
    assert state_sets(["hidden1", "hidden2"], "post")["all"] == ["hidden1", "hidden2"]
    assert state_sets(["hidden1", "output2", "entropy"], "post")["all"] == ["hidden1", "output2"]
