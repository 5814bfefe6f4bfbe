"""other_sequences.py: sequences of other programs' states, against loops over single rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatescope.engine.errors import InputError
from gatescope.engine.other_sequences import Cube, checked_bounds, cube_of, own_sequences, sequences, steps_of_rows

IDS = np.array([4, 4, 1, 1, 1, 7])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_each_row_is_a_step_of_its_sequence(lengths, data):
    starts = np.cumsum([0, *lengths])
    rows = [(number, step) for number, length in enumerate(lengths) for step in range(length)]
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    found = [None] * (stop - start)
    for number, steps, places in steps_of_rows(starts, start, stop):
        found[places] = [(number, step) for step in range(steps.start, steps.stop)]
    assert found == rows[start:stop]


@pytest.mark.parametrize("batch_first", [False, True])
def test_rows_of_a_cube_omit_padding(batch_first):
    lengths, steps = np.array([3, 1, 4]), 4
    values = np.arange(12).reshape(3, steps)
    cube = Cube(values.shape if batch_first else values.T.shape, batch_first, lengths)
    expected = [values[b, t] for b, n in enumerate(lengths) for t in range(n)]
    assert cube.rows(values if batch_first else values.T).tolist() == expected
    assert cube.starts.tolist() == [0, 3, 4, 8]


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_cube_has_the_lengths_given_in_the_file(batch_first):
    shape = (3, 5, 2) if batch_first else (5, 3, 2)
    states = {"h": np.zeros(shape), "rows": np.zeros((15, 2))}
    whole = cube_of("x", states, states, batch_first)
    assert whole.lengths.tolist() == [5, 5, 5] and whole.shape == shape[:2]
    given = cube_of("x", states | {"lengths": np.array([1, 5, 2], np.uint8)}, states, batch_first)
    assert given.lengths.tolist() == [1, 5, 2] and given.lengths.dtype == np.int64
    assert cube_of("x", states, {"rows": states["rows"]}, batch_first) is None
    for lengths in ([0, 5, 2], [1, 6, 2], [1, 5], [1.0, 5.0, 2.0]):
        with pytest.raises(InputError, match=r"expected whole numbers from 1 to 5, one for each of 3 sequences$"):
            cube_of("x", states | {"lengths": np.array(lengths)}, states, batch_first)
    with pytest.raises(InputError, match="for each of 3 sequences; give --batch-first, or leave it out"):
        cube_of("x", states | {"lengths": np.ones(5, int)}, states, batch_first)
    with pytest.raises(InputError, match="3 sequences of 5 rows and 3 sequences of 6 rows"):
        longer = np.zeros((3, 6, 2) if batch_first else (6, 3, 2))
        cube_of("x", states, {"h": states["h"], "c": longer}, batch_first)


def test_bounds_rise_from_zero_to_the_last_row():
    found = checked_bounds("x", "starts", np.array([0, 2, 6], np.uint8), 6)
    assert found.tolist() == [0, 2, 6] and found.dtype == np.int64
    assert checked_bounds("x", "starts", np.array([0, 6]), 6).tolist() == [0, 6]
    for wrong in ([0, 2, 5], [1, 2, 6], [0, 2, 2, 6], [0, 4, 2, 6], [6], [[0, 6]], [0.0, 6.0]):
        with pytest.raises(InputError, match="x: starts does not increase from 0 to 6"):
            checked_bounds("x", "starts", np.array(wrong), 6)
    with pytest.raises(InputError, match="does not increase from 0 to 0"):
        checked_bounds("x", "starts", np.array([0]), 0)


def test_a_file_may_give_its_sequences_in_three_ways():
    cube = Cube((3, 2), True, np.array([3, 3]))
    arrays = {"sequence_id": IDS}
    assert own_sequences("x", arrays, cube, 6).tolist() == [0, 2, 5, 6]
    assert own_sequences("x", arrays | {"sequence_starts": np.array([0, 1, 6])}, cube, 6).tolist() == [0, 1, 6]
    assert own_sequences("x", {}, cube, 6).tolist() == [0, 3, 6]
    assert own_sequences("x", {}, None, 6) is None


def test_sequences_come_from_the_file_the_labels_or_a_length():
    own = np.array([0, 2, 5, 6])
    assert sequences("x", None, None, 0, 6).tolist() == [0, 6]
    assert sequences("x", None, None, 4, 6).tolist() == [0, 4, 6]
    assert sequences("x", None, None, 3, 6).tolist() == [0, 3, 6]
    assert sequences("x", own, None, 0, 6).tolist() == sequences("x", own, IDS, 0, 6).tolist() == own.tolist()
    told = "x has 2 sequences of 3 rows, and by the labels' sequence_id it has 3 sequences of 1 to 3 rows: leave one"
    with pytest.raises(InputError, match=told):
        sequences("x", np.array([0, 3, 6]), IDS, 0, 6)
    # Three sequences of two rows look like two of three with the axes exchanged.
    with pytest.raises(
        InputError, match=r"2 sequences of 3 rows, .* 3 sequences of 2 rows: give --batch-first, or leave"
    ):
        sequences("x", np.array([0, 3, 6]), np.repeat([0, 1, 2], 2), 0, 6)
    with pytest.raises(InputError, match="has its own sequences: leave out --sequence-length"):
        sequences("x", own, None, 3, 6)
    with pytest.raises(InputError, match="from the labels' sequence_id: leave out --sequence-length"):
        sequences("x", None, IDS, 3, 6)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (IDS[:5], "labels' sequence_id has 5 rows, and x has 6 rows: give a row for each state"),
        (np.zeros((6, 1)), r"labels' sequence_id has the shape \[6, 1\], and x has 6 rows"),
        (np.array(3), r"labels' sequence_id has the shape \[\], and x has 6 rows"),
        (np.array([4, 4, 1, 1, 4, 7]), "sequence 4 resumes at row 4 after another"),
        (np.array(["a", "b", None, "b", "c", "c"], object), "row 2 has no sequence id"),
        (np.array([0, 0, 1, np.nan, 1, 1]), "row 3 has no sequence id"),
    ],
)
def test_ids_that_do_not_form_runs_are_refused(ids, said):
    with pytest.raises(InputError, match=said):
        sequences("x", None, ids, 0, 6)
