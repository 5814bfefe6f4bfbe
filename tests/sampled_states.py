"""Dumps of text written by a model."""

from gatescope.engine.dump import StateDump
from gatescope.engine.sample import SampleConfig, sample_states


def sampled(trained, path, seed=0, overwrite=False, **config):
    """A small dump of text that a model writes."""
    config = SampleConfig(**{"sequences": 5, "length": 12, **config})
    sample_states(trained, path, config, seed=seed, overwrite=overwrite)
    return StateDump.open(path)
