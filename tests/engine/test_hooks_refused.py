"""hooks.py: what cannot be recorded is named, and leaves nothing on the disk."""

import os

import numpy as np
import pytest
import torch
from tagger import VOCABULARY, Tagger
from torch import nn

from gatescope.engine.errors import InputError
from gatescope.engine.hooks import record_states


def wrong(tmp_path, use, modules=None, model=None):
    model = model or Tagger()
    with record_states(model, modules or {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY) as recording:
        use(model, recording)


BAD = [
    (lambda model, recording: None, "no module was called"),
    (lambda model, recording: model(torch.zeros(2, 3, dtype=torch.long)), "without tokens"),
    (lambda model, recording: recording.add(np.zeros((2, 3), int)), "layer0/h: its module was not called"),
    (
        lambda model, recording: (model(torch.zeros(2, 3, dtype=torch.long)), recording.add(np.full((2, 3), 5))),
        "outside the vocabulary: expected 0 to 4",
    ),
    (lambda model, recording: recording.add(np.zeros((2, 3))), r"tokens are float64 \[2, 3\]: expected integers"),
    (lambda model, recording: recording.add(torch.zeros(2, 3)), "tokens are torch.float32: expected integers"),
    (lambda model, recording: recording.add([[0, 1], [2]]), "tokens are ragged: pad them and give their lengths"),
    (lambda model, recording: recording.add(np.zeros((1, 2, 3), int)), r"tokens are \[1, 2, 3\]: expected integers"),
    (
        lambda model, recording: (model(torch.zeros(2, 3, dtype=torch.long)), recording.add(np.zeros((3, 2), int))),
        "2 sequences of 3 rows, and the tokens are 3 of 2",
    ),
    (
        lambda model, recording: (
            [model(torch.zeros(1, 3, dtype=torch.long)) for _ in range(2)],
            recording.add(np.zeros((1, 3), int)),
        ),
        "1 sequence of 6 rows in 2 calls, and the tokens are 1 of 3",
    ),
    (
        lambda model, recording: (
            model(torch.zeros(2, 3, dtype=torch.long)),
            recording.add(np.zeros((2, 3), int), [4, 1]),
        ),
        r"lengths are \[4, 1\]: expected 2 of them, from 1 to 3",
    ),
    *(
        (
            lambda model, recording, lengths=lengths: (
                model(torch.zeros(2, 3, dtype=torch.long)),
                recording.add(np.zeros((2, 3), int), lengths),
            ),
            message,
        )
        for lengths, message in [
            ([2.7, 1], r"lengths are float64 \[2\]: expected integers"),
            ([True, True], r"lengths are bool \[2\]: expected integers"),
            ([0, 1], r"lengths are \[0, 1\]: expected 2 of them, from 1 to 3"),
        ]
    ),
    *(
        (
            lambda model, recording, given=given: (
                model(torch.zeros(2, 3, dtype=torch.long)),
                recording.add(np.zeros((2, 3), int), **given),
            ),
            message,
        )
        for given, message in [
            (
                {"mask": np.ones((3, 2))},
                r"mask is float64 \[3, 2\]: expected \[2, 3\], as the tokens are, 0 at padding",
            ),
            ({"mask": [[0, 1, 2], [1, 1, 1]]}, r"mask is int64 \[2, 3\]: expected \[2, 3\], as the tokens are, 0 at"),
            ({"mask": [[1, 1], [1, 1, 1]]}, r"mask is ragged: expected \[2, 3\], as the tokens are, 0 at padding"),
            ({"mask": [[1, 1, 1], [0, 0, 0]]}, "mask: sequence 1 has no token: leave it out"),
            ({"mask": np.ones((2, 3)), "lengths": [3, 3]}, "a mask is given beside lengths"),
        ]
    ),
]


@pytest.mark.parametrize(("use", "message"), BAD)
def test_mismatched_input_is_named(tmp_path, use, message):
    with pytest.raises(InputError, match=message):
        wrong(tmp_path, use)
    assert os.listdir(tmp_path) == []


def test_other_invalid_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match="dtype 'float64' cannot be stored in a dump"):
        record_states(Tagger(), {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=VOCABULARY, dtype="float64")
    for vocabulary in (None, ["the", ""], ["the", 5], {"a": 1, "b": 0}, {"a", "b"}, frozenset("ab"), 5, ""):
        with pytest.raises(InputError, match="expected the character or word of each token"):
            record_states(Tagger(), {"layer0/h": "rnn"}, tmp_path / "s", vocabulary=vocabulary)
    for modules in ({}, ["rnn"], "rnn", None):
        with pytest.raises(InputError, match="no modules are given: name the module of at least one array"):
            record_states(Tagger(), modules, tmp_path / "s", vocabulary=VOCABULARY)
    for given, what in ((None, "NoneType"), (("rnn", 1), "tuple"), (("rnn",), "tuple")):
        with pytest.raises(
            InputError, match=f"layer0/h: {what} is not a module; expected a module, its name, or a pair"
        ):
            record_states(Tagger(), {"layer0/h": given}, tmp_path / "s", vocabulary=VOCABULARY)
    with pytest.raises(InputError, match="s3://bucket/s is a URL"):
        record_states(Tagger(), {"layer0/h": "rnn"}, "s3://bucket/s", vocabulary=VOCABULARY)
    (tmp_path / "file").touch()
    recording = record_states(Tagger(), {"layer0/h": "rnn"}, tmp_path / "file" / "s", vocabulary=VOCABULARY)
    with pytest.raises(InputError, match="file cannot be made: File exists"), recording:
        pass
    (tmp_path / "file").unlink()
    with pytest.raises(InputError, match="the model has no module 'lstm': it has embedding, rnn, attention"):
        wrong(tmp_path, None, {"layer0/h": "lstm"})
    batch = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(InputError, match="array 'hidden' has an invalid name"):
        wrong(tmp_path, lambda model, recording: (model(batch), recording.add(batch)), {"hidden": "rnn"})
    model = Tagger()
    nn.init.constant_(model.embedding.weight, float("nan"))
    with pytest.raises(InputError, match="layer0/h: nan at row 0 of this add, unit 0: expected finite"):
        wrong(tmp_path, lambda model, recording: (model(batch), recording.add(batch)), model=model)
    with pytest.raises(InputError, match=r"layer0/h: its module returned torch.int64 \[2, 3\], expected floats of two"):
        wrong(tmp_path, lambda model, recording: model(batch), {"layer0/h": ""}, nn.Identity())
    assert os.listdir(tmp_path) == []
