"""Hidden states and labels of a real model for the benchmarks of the solver.

An LSTM of one layer of 512 units is trained on the source of the running Python's library to a validation loss below
`LOSS` nats per character, and 200 sequences of 500 characters are sampled from it at temperature 0.8. Both are made
once, in some minutes, and kept in `out/benchmark-states`. The labels are hypotheses about the sampled text.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from gatescope.analysis.hypotheses import select
from gatescope.analysis.labels import label_dump
from gatescope.engine.corpus import survey_corpus
from gatescope.engine.dump import StateDump
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.train import train_model
from gatescope.engine.train_config import TrainConfig
from gatescope.engine.trained_model import load_model

FOLDER = Path(__file__).parents[1] / "out" / "benchmark-states"
LOSS = 1.8
TRAINING = TrainConfig(hidden=512, steps=700, learning_rate=0.004, warm_up=0, evaluate_every=350)
SAMPLING = SampleConfig(sequences=200, length=500, temperature=0.8, capture=("h", "c", "gates"))
# The many hypotheses have shares of positive rows between this and one minus this.
RAREST = 0.002


def open_states():
    """Return the dump and the validation loss of its model in nats, making both if they do not exist."""
    facts = train_model(survey_corpus("stdlib"), FOLDER / "model", TRAINING)
    assert facts["validation_nats"] < LOSS, facts
    path = FOLDER / "states.zarr"
    sample_states(load_model(FOLDER / "model"), path, SAMPLING)
    return StateDump.open(path), facts["validation_nats"]


def states(dump, n_rows, n_units, dtype):
    """Return X [n_rows, n_units]: h of 512 units, or h, c and the output gate side by side."""
    names = {512: ["h"], 1024: ["h", "c"], 1536: ["h", "c", "gates/o"]}[n_units]
    return np.hstack([np.asarray(dump[name][0][:n_rows], dtype=dtype) for name in names])


def labels(dump, n_rows, n_targets):
    """Return Y [N, n_targets], bool: code first, then kinds of characters, columns, and nearby strings."""
    text = dump.text()
    code, _, failed = label_dump(dump, [each for each in select(("python",), "python") if each.values == "boolean"])
    assert not failed, failed
    columns = [*code.values.T, *_characters(text), *_strings(text)]
    chosen = [column[:n_rows] for column in columns if RAREST < column[:n_rows].mean() < 1 - RAREST]
    assert len(chosen) >= n_targets, f"only {len(chosen)} hypotheses vary over {n_rows} rows"
    return np.stack(chosen[:n_targets], axis=1)


def _characters(text):
    """Properties of the character just read, of the next one, and of the position in the line."""
    codes = np.array([ord(character) for character in text])
    kinds = [str.isspace, str.isdigit, str.isupper, str.islower, str.isidentifier]
    kinds += ["aeiou".__contains__, "()[]{}".__contains__]
    for kind in kinds:
        now = np.array([kind(character) for character in text])
        yield now
        yield np.roll(now, -1)
    newlines = np.flatnonzero(codes == 10)
    place = np.arange(len(text)) - np.append(-1, newlines)[np.searchsorted(newlines, np.arange(len(text)))]
    for column in (8, 16, 24, 32, 48, 64):
        yield place > column


def _strings(text):
    """Whether a frequent string of one to three characters ends here, begins next, or was read recently."""
    for length in (1, 2, 3):
        pieces = np.array([text[max(0, i - length + 1) : i + 1] for i in range(len(text))])
        for piece, _ in Counter(pieces.tolist()).most_common(400):
            now = pieces == piece
            yield now
            yield np.roll(now, -length)
            for last in (8, 20):
                yield np.convolve(now, np.ones(last))[: len(now)] > 0.5
