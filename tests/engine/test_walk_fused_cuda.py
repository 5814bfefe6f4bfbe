"""The sampler's kernel on a GPU, copying states to the disk as it goes, against the CPU's own code in float64.

Pieces are small and many, so that both pinned buffers and the copying stream are reused again and again; a buffer
written too early, or read too late, would show in the states.
"""

import numpy as np
import pytest
import torch
from killing import contents

pytest.importorskip("triton")

from gatescope.engine import walk_fused
from gatescope.engine.dump import StateDump
from gatescope.engine.extract import ExtractConfig, extract_in_memory, extract_states
from gatescope.engine.record import at_precision
from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states
from gatescope.engine.trained_model import load_model
from gatescope.engine.walk_fused import sampler_plan
from gatescope.kernels.gpu import device_of

pytestmark = pytest.mark.cuda

ALL = ("h", "c", "gates", "log_probability", "entropy")
ARCHITECTURES = [{"hidden": 128}, {"hidden": 200, "cell": "gru"}, {"hidden": 128, "cell": "gru", "reset_after": False}]


def small_pieces(patch):
    patch.setattr(walk_fused, "MOST_SEQUENCES", 64)
    patch.setattr(walk_fused, "MOST_STEPS", 7)


def models(folder):
    """The same model on the CPU and on the GPU; its weights are small enough that rounding does not grow."""
    both = [load_model(folder, device) for device in ("cpu", "cuda")]
    with torch.no_grad():
        for trained in both:
            for name, weight in trained.model.named_parameters():
                weight.mul_(0.2 if name.startswith("rnn") else 0.5)
    return both


def assert_close(found, expected):
    """Compare a dump with float64 states in memory: the difference is that of float32 sums of 128 products."""
    assert found.verify() == [] and np.array_equal(found.tokens, expected.tokens)
    assert found.names == list(expected.arrays)
    for name, values in expected.arrays.items():
        np.testing.assert_allclose(found.array(name)[:], values, rtol=1e-4, atol=2e-5, err_msg=name)
    for name, values in expected.initial.items():
        np.testing.assert_allclose(found.initial(name), values, rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_sampling_to_disk(make_model, tmp_path, monkeypatch, architecture):
    cpu, gpu = models(make_model(**architecture))
    assert sampler_plan(gpu) is not None
    config = SampleConfig(sequences=300, length=45, capture=ALL, dtype="float32")
    sample_states(gpu, tmp_path / "whole.zarr", config)
    with monkeypatch.context() as patch:
        small_pieces(patch)
        sample_states(gpu, tmp_path / "cut.zarr", config)
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")
    dump, states = StateDump.open(tmp_path / "cut.zarr"), sample_in_memory(gpu, config)
    for name, values in states.arrays.items():
        assert np.array_equal(dump.array(name)[:], values.cpu().numpy()), name
    # The random numbers are the same, so the CPU's text differs only after a number on the border of two characters.
    texts = [np.asarray(each.tokens).reshape(300, 45) for each in (dump, sample_in_memory(cpu, config))]
    assert (texts[0] == texts[1]).all(axis=1).mean() > 0.98
    # And the states are those of the text that was written, whatever that text is.
    (tmp_path / "written.txt").write_text(dump.text())
    cpu.model.double()
    reading = ExtractConfig(length=45, context=0, capture=ALL, dtype="float32")
    assert_close(dump, extract_in_memory(cpu, str(tmp_path / "written.txt"), reading))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_reading_documents_to_disk(make_model, tmp_path, monkeypatch, architecture):
    cpu, gpu = models(make_model(**architecture))
    random, documents = np.random.default_rng(0), []
    for number, n in enumerate([130, 1, 40, 41, *random.integers(1, 120, 150)]):
        documents.append(str(tmp_path / f"{number}.txt"))
        (tmp_path / f"{number}.txt").write_text("".join(random.choice(list("\n abcdefghij(){}"), n)))
    config = ExtractConfig(length=40, context=7, capture=ALL, dtype="float32")
    extract_states(gpu, documents, tmp_path / "whole.zarr", config)
    with monkeypatch.context() as patch:
        small_pieces(patch)
        extract_states(gpu, documents, tmp_path / "cut.zarr", config)
        states = extract_in_memory(gpu, documents, config)
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")
    dump = StateDump.open(tmp_path / "cut.zarr")
    for name, values in states.arrays.items():
        assert values.is_cuda and np.array_equal(dump.array(name)[:], values.cpu().numpy()), name
    cpu.model.double()
    assert_close(dump, extract_in_memory(cpu, documents, config))


@pytest.mark.parametrize("architecture", [{"hidden": 128}, {"hidden": 100, "cell": "gru"}], ids=str)
def test_weights_that_stay_on_chip(make_model, tmp_path, monkeypatch, architecture):
    """In 16 bits, programs of 8 sequences keep them there, and give the same however the work is cut."""
    gpu = models(make_model(**architecture))[1]
    if not device_of(gpu.model.output.weight).warp_groups:
        pytest.skip("weights stay on chip from compute capability 9 on")
    plan = sampler_plan(at_precision(gpu, "bfloat16"))
    assert plan is not None and plan.form == "resident"
    config = SampleConfig(sequences=300, length=45, capture=ALL, dtype="float32", precision="bfloat16")
    sample_states(gpu, tmp_path / "whole.zarr", config)
    with monkeypatch.context() as patch:
        small_pieces(patch)
        sample_states(gpu, tmp_path / "cut.zarr", config)
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")
    dump, states = StateDump.open(tmp_path / "cut.zarr"), sample_in_memory(gpu, config)
    assert dump.verify() == []
    for name, values in states.arrays.items():
        assert np.array_equal(dump.array(name)[:], values.cpu().numpy()), name
