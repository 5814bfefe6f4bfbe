"""Walking with the sampler's kernel, in Triton's interpreter: what it records is what the CPU's own path records."""

import functools

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from gatescope.engine import extract, record, walk_fused
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.extract import ExtractConfig, extract_in_memory, extract_states
from gatescope.engine.model import load_model
from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states
from gatescope.kernels.sample_fused import SamplePlan

LAYOUT = SamplePlan("program", 16, 16, 16, 16, 1, 9, 1, 16, 1)
ALL = ("h", "c", "gates", "log_probability", "entropy")


@pytest.fixture
def by_kernel(monkeypatch):
    """Return a function that makes the walk take the kernel."""
    return lambda: monkeypatch.setattr(record, "sampler_plan", lambda trained: LAYOUT)


def assert_same(found, expected):
    assert np.array_equal(found.tokens, expected.tokens)
    assert found.arrays.keys() == expected.arrays.keys()
    for name in expected.arrays:
        torch.testing.assert_close(found.arrays[name], expected.arrays[name], rtol=1e-4, atol=2e-5, msg=name)
    for name in expected.initial:
        torch.testing.assert_close(found.initial[name], expected.initial[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("architecture", [{}, {"cell": "gru", "embedding": 3}], ids=["lstm", "gru"])
def test_sampling_gives_what_the_cpu_gives(make_model, by_kernel, architecture):
    trained = load_model(make_model(**architecture))
    config = SampleConfig(sequences=17, length=2, capture=ALL, dtype="float32", prime="a\n")
    expected = sample_in_memory(trained, config)
    by_kernel()
    assert_same(sample_in_memory(trained, config), expected)


def test_reading_gives_what_the_cpu_gives(lstm, by_kernel, tmp_path):
    (tmp_path / "text.txt").write_text("(abc) {def}\n")
    config = ExtractConfig(length=5, context=2, capture=ALL, dtype="float32")
    expected = extract_in_memory(lstm, str(tmp_path / "text.txt"), config)
    by_kernel()
    assert_same(extract_in_memory(lstm, str(tmp_path / "text.txt"), config), expected)


def test_a_dump_does_not_depend_on_how_the_work_is_cut(lstm, by_kernel, monkeypatch, tmp_path):
    by_kernel()
    config = SampleConfig(sequences=17, length=3, capture=("h", "entropy"))
    sample_states(lstm, tmp_path / "whole.zarr", config)
    monkeypatch.setattr(walk_fused, "MOST_SEQUENCES", 16)
    monkeypatch.setattr(walk_fused, "MOST_STEPS", 2)
    sample_states(lstm, tmp_path / "cut.zarr", config)
    whole, cut = StateDump.open(tmp_path / "whole.zarr"), StateDump.open(tmp_path / "cut.zarr")
    assert whole.verify() == [] and np.array_equal(whole.tokens, cut.tokens)
    states = sample_in_memory(lstm, config)
    for name in whole.names:
        assert np.array_equal(whole.array(name)[:], cut.array(name)[:])
        assert np.array_equal(states.arrays[name].numpy(), whole.array(name)[:])
    assert np.array_equal(whole.initial("layer1/h"), cut.initial("layer1/h"))


def test_an_interrupted_dump_goes_on_at_a_tile(lstm, by_kernel, monkeypatch, tmp_path):
    by_kernel()
    (tmp_path / "text.txt").write_text("(abc) {def} ghij\n" * 2)
    config = ExtractConfig(length=2, context=0, capture=("h",))
    monkeypatch.setattr(extract, "DumpSpec", functools.partial(DumpSpec, block_rows=16))
    extract_states(lstm, str(tmp_path / "text.txt"), tmp_path / "whole.zarr", config)
    firsts, real = [], walk_fused.walk_fused

    def interrupted(*arguments, first, **options):
        firsts.append(first)
        for piece in real(*arguments, first=first, **options):
            yield piece
            if len(firsts) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(record, "walk_fused", interrupted)
    monkeypatch.setattr(walk_fused, "MOST_SEQUENCES", 16)
    with pytest.raises(KeyboardInterrupt):
        extract_states(lstm, str(tmp_path / "text.txt"), tmp_path / "e.zarr", config)
    extract_states(lstm, str(tmp_path / "text.txt"), tmp_path / "e.zarr", config)
    found, expected = StateDump.open(tmp_path / "e.zarr"), StateDump.open(tmp_path / "whole.zarr")
    # Of 34 rows in 17 sequences, 32 were committed: those of the first tile.
    assert firsts == [0, 16]
    for name in expected.names:
        assert np.array_equal(found.array(name)[:], expected.array(name)[:])
