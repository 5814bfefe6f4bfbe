"""The loss on held-out text, against a single pass of torch over all of it."""

import numpy as np
import pytest
import torch

from gatescope.engine.evaluate import evaluate, perplexity
from gatescope.engine.model import CharacterModel
from gatescope.engine.train_config import TrainConfig


@pytest.mark.parametrize(("n_characters", "n_lanes"), [(61, 1), (1599, 1), (1600, 2), (70 * 800, 64)])
def test_evaluate_is_the_mean_cross_entropy_of_carried_states(n_characters, n_lanes):
    torch.manual_seed(0)
    model = CharacterModel(TrainConfig(hidden=6).architecture, 5).double()
    tokens = np.random.default_rng(0).integers(5, size=n_characters).astype(np.uint8)
    # Windows of 40 must give the same as one pass over each lane.
    width = n_characters // n_lanes
    lanes = torch.from_numpy(tokens[: n_lanes * width].astype(np.int64)).view(n_lanes, width).T
    with torch.no_grad():
        logits, _ = model(lanes[:-1], model.zero_state(n_lanes))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), lanes[1:].flatten()).item()
    assert evaluate(model, tokens, 40) == pytest.approx(expected, rel=1e-12)
    assert evaluate(model, tokens[:2], 40) > 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_evaluation_computes_in_the_precision_of_training(precision):
    torch.manual_seed(0)
    model = CharacterModel(TrainConfig(hidden=16), 5)
    tokens, dtypes = torch.randint(5, (900,)).numpy(), set()
    model.output.register_forward_hook(lambda module, given, logits: dtypes.add(logits.dtype))
    nats = evaluate(model, tokens, 40, precision)
    assert dtypes == {getattr(torch, precision)}
    assert nats == pytest.approx(evaluate(model, tokens, 40), rel=1e-2)


def test_perplexity_is_none_beyond_the_float_range():
    assert perplexity(0.0) == 1 and perplexity(2.0) == pytest.approx(7.38905609893065)
    assert perplexity(1e6) is None
