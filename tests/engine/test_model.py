"""The model's equations."""

import pytest
import torch

from gatescope.engine.errors import InputError
from gatescope.engine.model import Architecture, CharacterModel


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("embedding", [0, 3])
def test_logits_equal_torch_layers(cell, embedding):
    torch.manual_seed(0)
    model = CharacterModel(Architecture(cell=cell, hidden=6, layers=2, embedding=embedding), 4).double()
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
    oracle = kinds[cell](embedding or 4, 6, 2).double()
    oracle.load_state_dict(model.rnn.state_dict())
    tokens = torch.randint(4, (9, 3))
    x = model.embedding.weight[tokens] if embedding else torch.eye(4, dtype=torch.float64)[tokens]
    y, after = oracle(x)
    logits, state = model(tokens, model.zero_state(3))
    torch.testing.assert_close(logits, y @ model.output.weight.T + model.output.bias)
    for found, expected in zip(state, after if cell == "lstm" else (after,), strict=True):
        torch.testing.assert_close(found, expected)


def test_parameters_start_uniform_between_minus_and_plus_008():
    torch.manual_seed(0)
    model = CharacterModel(Architecture(hidden=64), 50)
    values = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert values.abs().max() <= 0.08 and values.abs().max() > 0.0799
    assert values.std() == pytest.approx(0.16 / 12**0.5, rel=0.02)
    assert model.n_parameters == values.numel() == 4 * 64 * (50 + 64 + 2) + 50 * 65


@pytest.mark.filterwarnings("error:dropout acts on all layers but the last")
@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_in_training_only(layers):
    torch.manual_seed(0)
    model = CharacterModel(Architecture(hidden=32, layers=layers, dropout=0.5), 4)
    tokens = torch.randint(4, (5, 2))
    once, again = (model(tokens, model.zero_state(2))[0] for _ in range(2))
    assert not torch.equal(once, again)
    model.eval()
    once, again = (model(tokens, model.zero_state(2))[0] for _ in range(2))
    assert torch.equal(once, again)


def test_widths_out_of_range_are_refused():
    with pytest.raises(InputError, match="--hidden"):
        Architecture(hidden=0)
    with pytest.raises(InputError, match="--embedding"):
        Architecture(embedding=-1)
