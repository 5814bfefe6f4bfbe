"""Rows of a recording, which become a dump at its end."""

import os

import numpy as np
import pytest
import torch

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.recorded_rows import RecordedRows

ABOUT = {"vocabulary": ["a", "b"], "kind": "recorded"}


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "waiting").mkdir()
    return RecordedRows(tmp_path / "waiting", np.dtype(np.float32), ABOUT)


def add(rows, values, lengths, numbers, name="layer0/h"):
    """Add rows of two units: the row's number and the number after it."""
    states = torch.tensor(values, dtype=torch.float32)[:, None] + torch.arange(2)
    rows.add(np.array(values, int) % 2, {name: states}, np.array(lengths), np.array(numbers))


def test_parts_of_sequences_are_put_together(rows, tmp_path):
    add(rows, [0, 1, 2, 3], [3, 1], [0, 1])
    add(rows, [4, 5, 6], [0, 3], [0, 1])
    add(rows, [7], [1], [2])
    add(rows, [8, 9], [2], [2])
    assert rows.n_sequences == 3
    rows.write(tmp_path / "s", overwrite=False)
    dump = StateDump.open(tmp_path / "s")
    assert dump.verify() == [] and dump.attributes["kind"] == "recorded"
    assert dump.sequence_starts.tolist() == dump.document_starts.tolist() == [0, 3, 7, 10]
    order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert dump.array("layer0/h")[:, 0].tolist() == order and dump.tokens.tolist() == [row % 2 for row in order]


def test_sequences_added_side_by_side_are_separated(rows, tmp_path):
    add(rows, [0, 1, 2, 3], [2, 2], [0, 1])
    add(rows, [4, 5, 6], [1, 2], [0, 1])
    rows.write(tmp_path / "s", overwrite=False)
    dump = StateDump.open(tmp_path / "s")
    assert dump.array("layer0/h")[:, 0].tolist() == [0, 1, 4, 2, 3, 5, 6]
    assert dump.sequence_starts.tolist() == [0, 3, 7]


@pytest.mark.parametrize(
    ("n_words", "dtype"), [(2**8, np.uint8), (2**8 + 1, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)]
)
def test_tokens_use_as_many_bytes_as_the_vocabulary_needs(tmp_path, n_words, dtype):
    (tmp_path / "waiting").mkdir()
    # Characters after the surrogates, which no file can hold.
    vocabulary = [chr(0xE000 + number) for number in range(n_words)]
    rows = RecordedRows(tmp_path / "waiting", np.dtype(np.float32), {"vocabulary": vocabulary})
    rows.add(np.array([n_words - 1, 0]), {"layer0/h": torch.zeros(2, 1)}, np.array([2]), np.array([0]))
    rows.write(tmp_path / "s", overwrite=False)
    tokens = StateDump.open(tmp_path / "s").tokens
    assert tokens.tolist() == [n_words - 1, 0] and tokens.dtype == dtype


def test_rows_that_are_refused_do_not_count(rows, tmp_path):
    with pytest.raises(InputError, match="array 'hidden' has an invalid name"):
        add(rows, [0], [1], [0], name="hidden")
    infinite = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, torch.inf]])
    with pytest.raises(InputError, match="layer0/h: inf at row 1 of this add, unit 2: expected finite"):
        rows.add(np.zeros(2, int), {"layer0/h": infinite}, np.array([2]), np.array([0]))
    # The width may differ from that of the refused rows.
    add(rows, [0], [1], [0])
    with pytest.raises(InputError, match=r"the modules returned {'layer0/h': 3} units, but {'layer0/h': 2} before"):
        rows.add(np.zeros(1, int), {"layer0/h": torch.zeros(1, 3)}, np.array([1]), np.array([1]))
    rows.write(tmp_path / "s", overwrite=False)
    assert StateDump.open(tmp_path / "s").n_rows == 1


def test_recording_nothing_is_refused(rows, tmp_path):
    with pytest.raises(InputError, match="no sequence was added"):
        rows.write(tmp_path / "s", overwrite=False)
    assert os.listdir(tmp_path) == ["waiting"]
