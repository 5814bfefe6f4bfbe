"""Dumps of text that a model wrote."""

from gatescope.engine.dump import StateDump
from gatescope.engine.sample import SampleConfig, sample_states


def sampled(trained, path, seed=0, **config):
    """A small dump of what a model writes."""
    sample_states(trained, path, SampleConfig(**{"sequences": 5, "length": 12, **config}), seed=seed)
    return StateDump.open(path)
