"""Two results on one text: states that follow the same labels and share noise, the second's more closely."""

import numpy as np

from gatescope.analysis.probe import probe_dump
from gatescope.analysis.probe_config import ProbeConfig

S, T, H = 60, 30, 6
N = S * T


def text_and_labels():
    """Return character ids, a label in runs and a value, [N] each, and the generator that made them."""
    rng = np.random.default_rng(7)
    tokens, held = rng.integers(4, size=N), np.repeat(rng.random(N // 5) < 0.3, 5)
    return tokens, held, rng.normal(size=N) + rng.normal(size=(S, 1)).repeat(T), rng


def write_states(path, strength, vocabulary="abcd", **changed):
    """Write an .npz of states, text and sequences; arrays in `changed` replace these."""
    tokens, held, value, rng = text_and_labels()
    states = rng.normal(size=(N, H)) + 0.3 * np.random.default_rng(int(10 * strength)).normal(size=(N, H))
    states[:, 0] += strength * held
    states[:, 1] += strength * value
    arrays = {
        "h": states.astype(np.float32),
        "tokens": np.argsort(["abcd".index(each) for each in vocabulary])[tokens],
        "vocabulary": np.array(list(vocabulary)),
        "sequence_starts": np.arange(0, N + 1, T),
    }
    np.savez(path, **arrays | changed)
    return path


def write_labels(path, **changed):
    """Write the labels that the states follow, and one that holds nowhere."""
    _, held, value, _ = text_and_labels()
    np.savez(path, **{"never": np.zeros(N, bool), "held": held, "value": value} | changed)
    return path


def probe(states, labels, out, seed=0, **config):
    """Probe the states; return the folder of the results."""
    settings = ProbeConfig(hypotheses=(), **{"bootstrap": 50} | config)
    probe_dump(states, out, settings, labels=labels, seed=seed, say=lambda _: None, warn=lambda _: None)
    return out
