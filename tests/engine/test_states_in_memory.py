"""States kept in memory: probed as a dump is, and refused if they do not fit."""

import numpy as np
import pytest
import torch

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig, extract_in_memory, extract_states
from gatescope.engine.irls import LogisticProbes
from gatescope.engine.sample import SampleConfig, _planned, sample_in_memory, sample_states
from gatescope.engine.trained_model import load_model

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SAMPLE = SampleConfig(sequences=30, length=40)
EXTRACT = ExtractConfig(length=25, context=5)


def sampled(trained, path):
    sample_states(trained, path, SAMPLE)
    return sample_in_memory(trained, SAMPLE)


def extracted(trained, path):
    texts = [path.with_name(f"{n}.txt") for n in (20, 1, 7)]
    for text in texts:
        text.write_text("(abc) {def} ghij\n" * int(text.stem))
    texts = [str(text) for text in texts]
    extract_states(trained, texts, path, EXTRACT)
    return extract_in_memory(trained, texts, EXTRACT)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recorded", [sampled, extracted])
def test_probes_of_states_in_memory_equal_those_of_a_dump(make_model, tmp_path, device, recorded):
    if device == "cuda":
        pytest.importorskip("cupy")
    trained = load_model(make_model(hidden=16), device)
    states, dump = recorded(trained, tmp_path / "s.zarr"), StateDump.open(tmp_path / "s.zarr")
    assert np.array_equal(states.tokens, dump.tokens)
    assert np.array_equal(states.document_starts, dump.document_starts)
    X = states.arrays["layer1/h"]
    assert X.device.type == device and X.dtype == torch.float16
    # The dump is written in pieces by the same code, so the bits are the same.
    assert np.array_equal(X.cpu().numpy(), dump["h"][1][:])
    names = trained.vocabulary.characters
    Y = np.stack([states.tokens == names.index("("), np.isin(states.tokens, [names.index(c) for c in "abc"])], axis=1)
    probes = LogisticProbes(C=0.1).fit(X, Y)
    expected = LogisticProbes(C=0.1).fit(dump["h"][1][:].astype(np.float64), Y)
    assert set(probes.status_) == {"converged"}
    np.testing.assert_allclose(probes.coef_, expected.coef_, rtol=0, atol=1e-4 * np.abs(expected.coef_).max())
    np.testing.assert_allclose(probes.intercept_, expected.intercept_, rtol=1e-3)
    np.testing.assert_allclose(probes.predict_proba(X), expected.predict_proba(dump["h"][1][:]), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, "float16", np.dtype("float32")])
def test_states_must_be_floating_point(lstm, dtype):
    with pytest.raises(InputError, match="expected a floating-point dtype"):
        sample_in_memory(lstm, SAMPLE, dtype=dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_states_that_do_not_fit_are_refused_before_the_model_runs(make_model, device):
    trained = load_model(make_model(), device)
    with torch.no_grad():
        # Had a step run, it would have been refused for its values.
        trained.model.rnn.weight_hh_l0.fill_(torch.nan)
    message = (
        rf"the states take 80,000\.\d\d GB and {device}\S* has [\d,.]+ GB free: .* sample_states or extract_states"
    )
    with pytest.raises(InputError, match=message):
        sample_in_memory(trained, SampleConfig(sequences=1000, length=10**9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_planned_size_equals_the_memory_states_take(lstm, dtype):
    config = SampleConfig(sequences=3, length=4, capture=("h", "gates"))
    states = sample_in_memory(lstm, config, dtype=dtype)
    held = sum(each.nbytes for each in (*states.arrays.values(), *states.initial.values()))
    assert _planned(lstm, config, 0)[1].n_values * dtype.itemsize == held
