"""How often gates are open and shut, counted by hand in a model's states."""

import numpy as np
import pytest
import torch

from gatescope.analysis.saturation import saturation
from gatescope.engine import state_source
from gatescope.engine.dump import StateDump
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.trained_model import TrainedModel
from gatescope.engine.vocabulary import Vocabulary


def sampled(path, capture=("h", "gates"), **architecture):
    torch.manual_seed(0)
    model = CharacterModel(Architecture(**{"hidden": 6, "layers": 2, **architecture}), 3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=2.0)
    trained = TrainedModel(model.eval(), Vocabulary(("\n", "a", "b")), "", {}, {})
    sample_states(trained, path, SampleConfig(sequences=7, length=30, capture=capture))
    return StateDump.open(path)


@pytest.mark.parametrize("cell, switches", [("lstm", "ifo"), ("gru", "rz")])
def test_shares_are_fractions_of_the_rows_of_each_unit(tmp_path, monkeypatch, cell, switches):
    monkeypatch.setattr(state_source.StateSource.blocks, "__kwdefaults__", {"rows": 64, "library": "numpy"})
    dump = sampled(tmp_path / "dump", cell=cell)
    found = saturation(dump)
    assert [(each["layer"], each["gate"]) for each in found] == [(i, gate) for i in (0, 1) for gate in switches]
    for each in found:
        gate = np.asarray(dump.array(f"layer{each['layer']}/gates/{each['gate']}")[:], np.float64)
        assert 0 < np.mean(each["open"]) < 1 and 0 < np.mean(each["shut"]) < 1
        np.testing.assert_allclose(each["open"], (gate > 0.9).mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(each["shut"], (gate < 0.1).mean(axis=0), atol=1e-6)


def test_only_gates_between_0_and_1_have_saturation(tmp_path, small_gates):
    assert saturation(sampled(tmp_path / "no", capture=("h", "c"))) == []
    assert saturation(sampled(tmp_path / "rnn", capture=("h",), cell="rnn")) == []
    # Another program's gates may be values before the activation.
    for number, gates in enumerate([None, "ifo", {"values": "before their activation"}]):
        assert saturation(small_gates(tmp_path / f"{number}", gates=gates)) == []
    assert len(saturation(small_gates(tmp_path / "own", gates={"values": "after their activation"}))) == 1


@pytest.fixture
def small_gates():
    from gatescope.engine.dump_spec import DumpSpec
    from gatescope.engine.dump_writer import DumpWriter

    def write(path, **attributes):
        starts = np.array([0, 8])
        about = {"vocabulary": ["a"], "cell": "lstm", **attributes}
        arrays = {"layer0/gates/g": 2, "layer0/gates/o": 2}
        spec = DumpSpec(arrays, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), about)
        with DumpWriter(path, spec) as writer:
            writer.append(0, np.zeros(8, np.uint8), dict.fromkeys(arrays, np.full((8, 2), 0.95)))
        return StateDump.open(path)

    return write
