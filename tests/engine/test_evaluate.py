"""The loss over held-out text against one pass of torch over all of it."""

import numpy as np
import pytest
import torch

from gatescope.engine.evaluate import evaluate, perplexity
from gatescope.engine.model import CharacterModel
from gatescope.engine.train import TrainConfig


def test_evaluate_is_the_mean_cross_entropy_of_carried_states():
    torch.manual_seed(0)
    model = CharacterModel(TrainConfig(hidden=6).architecture, 5).double()
    tokens = np.random.default_rng(0).integers(5, size=61).astype(np.uint8)
    # One lane of 61 characters; windows of 40 and 20 must give what one pass gives.
    window = torch.from_numpy(tokens.astype(np.int64))[:, None]
    with torch.no_grad():
        logits, _ = model(window[:-1], model.zero_state(1))
    expected = torch.nn.functional.cross_entropy(logits[:, 0], window[1:, 0]).item()
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


def test_perplexity_beyond_range_is_none():
    assert perplexity(0.0) == 1 and perplexity(2.0) == pytest.approx(7.38905609893065)
    assert perplexity(1e6) is None
