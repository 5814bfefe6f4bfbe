"""Values that a config refuses, and its values as JSON."""

from dataclasses import dataclass

import numpy as np
import pytest

from gatescope.analysis.ablation_config import AblationConfig
from gatescope.analysis.probe_config import ProbeConfig
from gatescope.engine.config_values import plain
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig
from gatescope.engine.other_dumps import ReadConfig
from gatescope.engine.sample import SampleConfig
from gatescope.engine.train_config import TrainConfig


@dataclass(frozen=True)
class Config:
    hidden: int = 3
    names: tuple[str, ...] = ("a",)


def test_plain_converts_configs_and_numpy_numbers():
    assert plain({"c": Config(), "p": (1, (2,))}) == {"c": {"hidden": 3, "names": ["a"]}, "p": [1, [2]]}
    numbers = plain([np.int64(3), np.float32(0.5), np.float64(0.25), True, float("inf")])
    assert numbers == [3, 0.5, 0.25, True, "inf"] and list(map(type, numbers)) == [int, float, float, bool, str]


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (SampleConfig, {"capture": ("h", "cell")}, r"--capture 'cell' is unknown: expected h or c or gates or"),
        (SampleConfig, {"capture": "h"}, r"--capture 'h' is one word: expected several values, such as \('h',\)"),
        (SampleConfig, {"dtype": "float8"}, "--dtype 'float8' is unknown: expected float16 or float32"),
        (ExtractConfig, {"errors": "ignore"}, "--errors 'ignore' is unknown: expected strict or replace"),
        (TrainConfig, {"precision": "fp16"}, "--precision 'fp16' is unknown"),
        (TrainConfig, {"learning_rate": "0.1"}, "--learning-rate '0.1': expected a number"),
        (SampleConfig, {"temperature": None}, "--temperature None: expected a number"),
        (TrainConfig, {"cell": "lstn"}, "--cell 'lstn' is unknown: expected lstm or gru or rnn"),
        (ProbeConfig, {"ranking": "auc"}, "--ranking 'auc' is unknown"),
        (TrainConfig, {"cell": np.array([1, 2])}, r"--cell array\(\[1, 2\]\) is unknown"),
        (TrainConfig, {"learning_rate": True}, "--learning-rate True: expected a number"),
        (TrainConfig, {"reset_after": "no"}, "--reset-after 'no': expected True or False"),
        (SampleConfig, {"prime": 5}, "--prime 5: expected a text"),
        (ExtractConfig, {"capture": 5}, r"--capture 5 is not a tuple: expected several values, such as \(5,\)"),
        (ProbeConfig, {"C": 0.1}, r"--C 0.1 is not a tuple: expected several values, such as \(0.1,\)"),
        (ProbeConfig, {"C": ("1",)}, "--C '1': expected a number"),
        (ProbeConfig, {"hypotheses": "verbs"}, "--hypotheses 'verbs' is one word"),
        (ProbeConfig, {"functions": 5}, "--functions 5: expected a path"),
        (ReadConfig, {"arrays": "h"}, "--arrays 'h' is one word"),
        (AblationConfig, {"units": 10}, "--units 10 is not a tuple"),
        (AblationConfig, {"units": (1.5,)}, "--units 1.5: expected a whole number"),
        (TrainConfig, {"hidden": 10**30}, "--hidden 1000000000000000000000000000000 is too large"),
        (TrainConfig, {"layers": 10**30}, "--layers 1000000000000000000000000000000 is too large"),
        (TrainConfig, {"embedding": 10**12}, "--embedding 1000000000000 is too large: expected at most 100,000,000"),
    ],
)
def test_an_unknown_choice_is_refused_by_name(config, given, message):
    with pytest.raises(InputError, match=message):
        config(**given)
    assert SampleConfig(capture=["h", "gates"]).capture == ["h", "gates"]
    assert ProbeConfig(functions="my.py").functions == "my.py"


@pytest.mark.parametrize("value", [7.5, 5.0, "5", None, True])
def test_counts_are_whole_numbers(value):
    for config, name in (
        (ReadConfig, "sequence_length"),
        (SampleConfig, "sequences"),
        (ExtractConfig, "length"),
        (TrainConfig, "steps"),
        (ProbeConfig, "bootstrap"),
    ):
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value!r}: expected a whole number"):
            config(**{name: value})
        assert type(plain(config(**{name: np.int64(5)}))[name]) is int
