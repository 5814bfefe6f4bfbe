"""Walking with the sampler's kernel in Triton's interpreter, against the states that the CPU's own code records."""

import functools

import numpy as np
import pytest
import torch
from killing import contents

pytest.importorskip("triton")

from gatescope.engine import extract, fused_pieces, record, walk_fused
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.extract import ExtractConfig, extract_in_memory, extract_states
from gatescope.engine.resume_points import ResumePoint
from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states
from gatescope.engine.trained_model import load_model
from gatescope.kernels import gpu
from gatescope.kernels.sample_plan import SamplePlan

LAYOUT = SamplePlan("program", 16, 16, 16, 16, 1, 9, 1, 16, 1)
RESIDENT = SamplePlan("resident", 8, 32, 32, 32, 1, resident=4)
ALL = ("h", "c", "gates", "log_probability", "entropy")


@pytest.fixture(params=[LAYOUT, RESIDENT], ids=lambda layout: layout.form)
def by_kernel(request, monkeypatch):
    """Return a function that makes the walk use the kernel."""
    return lambda: monkeypatch.setattr(record, "sampler_plan", lambda trained: request.param)


def assert_same(found, expected):
    assert np.array_equal(found.tokens, expected.tokens)
    assert found.arrays.keys() == expected.arrays.keys()
    for name in expected.arrays:
        torch.testing.assert_close(found.arrays[name], expected.arrays[name], rtol=1e-4, atol=2e-5, msg=name)
    for name in expected.initial:
        torch.testing.assert_close(found.initial[name], expected.initial[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_kernel_takes_models_on_a_gpu_but_not_in_float64(lstm, monkeypatch, dtype):
    lstm.model.to(dtype)
    assert walk_fused.sampler_plan(lstm) is None
    monkeypatch.setattr(gpu, "device_of", lambda weight: gpu.H200)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    assert (walk_fused.sampler_plan(lstm) is None) == (dtype == torch.float64)


@pytest.mark.parametrize("architecture", [{}, {"cell": "gru", "embedding": 3}], ids=["lstm", "gru"])
def test_sampling_equals_the_cpu(make_model, by_kernel, architecture):
    trained = load_model(make_model(**architecture))
    config = SampleConfig(sequences=17, length=2, capture=ALL, dtype="float32", prime="a\n")
    expected = sample_in_memory(trained, config)
    by_kernel()
    assert_same(sample_in_memory(trained, config), expected)


def test_reading_equals_the_cpu(lstm, by_kernel, tmp_path):
    (tmp_path / "text.txt").write_text("(abc) {def}\n")
    config = ExtractConfig(length=5, context=2, capture=ALL, dtype="float32")
    expected = extract_in_memory(lstm, str(tmp_path / "text.txt"), config)
    by_kernel()
    assert_same(extract_in_memory(lstm, str(tmp_path / "text.txt"), config), expected)


def test_reading_documents_equals_the_cpu(lstm, by_kernel, monkeypatch, tmp_path):
    documents = []
    for number, n in enumerate([3, 1, 7, *[2, 1] * 7]):
        documents.append(str(tmp_path / f"{number}.txt"))
        (tmp_path / f"{number}.txt").write_text("(ab) cde"[-n:])
    config = ExtractConfig(length=3, context=2, capture=ALL, dtype="float32")
    expected = extract_in_memory(lstm, documents, config)
    by_kernel()
    monkeypatch.setattr(walk_fused, "MOST_SEQUENCES", 16)
    monkeypatch.setattr(walk_fused, "MOST_STEPS", 2)
    found = extract_in_memory(lstm, documents, config)
    assert len(found.sequence_starts) == 20
    assert_same(found, expected)
    # Rows after the end of a document, which nobody writes, do not cause each piece to be searched on the host.
    monkeypatch.setattr(fused_pieces, "require_finite", None)
    extract_states(lstm, documents, tmp_path / "e.zarr", config)
    dump = StateDump.open(tmp_path / "e.zarr")
    for name, values in found.arrays.items():
        assert np.array_equal(dump.array(name)[:], values.numpy())


def test_a_dump_does_not_depend_on_how_work_is_divided(lstm, by_kernel, monkeypatch, tmp_path):
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


def test_an_interrupted_dump_resumes_at_a_tile(lstm, by_kernel, monkeypatch, tmp_path):
    by_kernel()
    (tmp_path / "text.txt").write_text("(abc) {def} ghij\n" * 2)
    config = ExtractConfig(length=2, context=0, capture=("h",))
    monkeypatch.setattr(record, "DumpSpec", functools.partial(DumpSpec, block_rows=16))
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


def test_launches_hold_as_many_sequences_and_steps_as_fit():
    """Of 2,000 sequences of 500 steps, 1,040 would fit into a piece, but a launch holds 1,024."""
    row_bytes = 2 * 2 * 128 * 2
    assert walk_fused._cut(LAYOUT, 2000, 500, row_bytes) == (1024, 512)
    assert walk_fused._cut(LAYOUT, 200, 500, row_bytes) == (208, 512)
    assert walk_fused._cut(LAYOUT, 300, 5000, 4 * row_bytes)[0] == 256
    assert [walk_fused._cut(LAYOUT, n, 5000, 0) for n in (128, 1024, 5000)] == [(128, 512), (1024, 128), (4096, 64)]


@pytest.mark.parametrize("temperature", [1e-40, 1e300])
def test_temperatures_beyond_float32_equal_the_cpu(lstm, by_kernel, temperature):
    config = SampleConfig(sequences=3, length=2, dtype="float32", temperature=temperature)
    expected = sample_in_memory(lstm, config)
    by_kernel()
    assert_same(sample_in_memory(lstm, config), expected)


@pytest.mark.parametrize("kernel", [False, True])
def test_logits_that_are_not_finite_are_refused(lstm, by_kernel, tmp_path, kernel):
    if kernel:
        by_kernel()
    with torch.no_grad():
        lstm.model.output.bias[3] = torch.nan
    config = SampleConfig(sequences=3, length=2)
    for run in (lambda: sample_in_memory(lstm, config), lambda: sample_states(lstm, tmp_path / "s.zarr", config)):
        with pytest.raises(InputError, match="no character can be drawn for sequence 0 at step 0: its logits are not"):
            run()


@pytest.mark.parametrize("kernel", [False, True])
def test_states_and_scores_that_are_not_finite_are_refused(lstm, by_kernel, tmp_path, kernel):
    if kernel:
        by_kernel()
    (tmp_path / "text.txt").write_text("(abc) {def}\n")
    config = ExtractConfig(length=5, context=0, capture=("h", "entropy"))
    with torch.no_grad():
        lstm.model.output.bias[3] = torch.nan
    with pytest.raises(InputError, match="layer2/entropy: nan at row 0, unit 0: expected finite states"):
        extract_in_memory(lstm, str(tmp_path / "text.txt"), config)
    character = lstm.vocabulary.characters.index("d")
    with torch.no_grad():
        lstm.model.rnn.weight_ih_l0[2, character] = torch.nan
    with pytest.raises(InputError, match="layer0/h: nan at row 7, unit 2: expected finite states"):
        extract_states(lstm, str(tmp_path / "text.txt"), tmp_path / "e.zarr", config)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_nonfinite_states_are_named_before_the_undrawable_character(make_model, by_kernel, cell):
    """A NaN in a state makes the next step's logits NaN, from which no character can be drawn; the state is named."""
    trained = load_model(make_model(cell=cell))
    newline = trained.vocabulary.characters.index("\n")
    with torch.no_grad():
        trained.model.rnn.weight_ih_l0[2, np.arange(len(trained.vocabulary)) != newline] = torch.nan
        trained.model.output.bias[newline] = -100
    for _ in range(2):
        with pytest.raises(InputError, match="layer0/h: nan at row 0, unit 2: expected finite states"):
            sample_in_memory(trained, SampleConfig(sequences=3, length=4, capture=("h",)))
        by_kernel()


def test_states_beyond_the_dtype_are_refused(make_model, by_kernel, tmp_path):
    """ReLU states may grow without bound, and come back to zero."""
    trained = load_model(make_model(cell="rnn", nonlinearity="relu"))
    character = trained.vocabulary.characters.index("b")
    with torch.no_grad():
        trained.model.rnn.weight_hh_l0.zero_()
        trained.model.rnn.weight_ih_l0[4, character] = 1e5
    (tmp_path / "text.txt").write_text("abcdef")
    for _ in range(2):
        with pytest.raises(InputError, match=r"layer0/h: .* at row 1, unit 4 is beyond float16"):
            extract_in_memory(trained, str(tmp_path / "text.txt"), ExtractConfig(length=6, context=0, capture=("h",)))
        by_kernel()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_last_step_of_a_tile_that_ends_early_is_checked(make_model, by_kernel, tmp_path, cell):
    trained = load_model(make_model(cell=cell))
    # In the LSTM the NaN is in the output gate, which does not reach c.
    gate, character = {"lstm": 30, "gru": 0, "rnn": 0}[cell], trained.vocabulary.characters.index("d")
    with torch.no_grad():
        trained.model.rnn.weight_ih_l0[gate + 2, character] = torch.nan
        trained.model.rnn.weight_ih_l1[:, 2] = 0
    (tmp_path / "text.txt").write_text("abc" * 16 + "ad")
    config = ExtractConfig(length=3, context=0, capture=("h",), dtype="float32")
    for _ in range(2):
        with pytest.raises(InputError, match="layer0/h: nan at row 49, unit 2: expected finite states"):
            extract_in_memory(trained, str(tmp_path / "text.txt"), config)
        by_kernel()


def test_cells_too_large_before_an_interruption_are_still_refused(lstm, by_kernel, tmp_path):
    by_kernel()
    (tmp_path / "text.txt").write_text("abcdef")
    _, spec, reader = extract._planned(lstm, str(tmp_path / "text.txt"), ExtractConfig(length=6, context=0))
    state = [torch.zeros(1, 10) for _ in range(4)]
    state[3][0, 7] = 1e30
    begun = [ResumePoint(0, 1, 4, tuple(state))]
    with pytest.raises(InputError, match="layer1/c: inf at row 4, unit 7 is beyond float16"):
        list(record.walked(lstm, spec, reader, torch.float16, begun=begun))


@pytest.mark.parametrize("then", ["kernel", "cpu"])
def test_a_dump_resumes_inside_its_tiles(lstm, by_kernel, monkeypatch, tmp_path, then):
    by_kernel()
    config = SampleConfig(sequences=40, length=5, capture=("h", "c"))
    sample_states(lstm, tmp_path / "whole.zarr", config)
    monkeypatch.setattr(walk_fused, "MOST_SEQUENCES", 32)
    monkeypatch.setattr(walk_fused, "MOST_STEPS", 2)
    pieces, count_steps = [], DumpWriter.count_steps

    def count(self, point, start):
        if len(pieces) == 2:
            raise KeyboardInterrupt
        pieces.append((point.first, start))
        return count_steps(self, point, start)

    with monkeypatch.context() as patched:
        patched.setattr(DumpWriter, "count_steps", count)
        with pytest.raises(KeyboardInterrupt):
            sample_states(lstm, tmp_path / "cut.zarr", config)
    assert pieces == [(0, 0), (0, 2)]
    assert StateDump.open(tmp_path / "cut.zarr", finished=False).committed_rows == 0
    monkeypatch.setattr(walk_fused, "MOST_SEQUENCES", 16)
    if then == "cpu":
        monkeypatch.setattr(record, "sampler_plan", lambda trained: None)
    monkeypatch.setattr(
        DumpWriter,
        "count_steps",
        lambda self, point, start: pieces.append((point.first, start)) or count_steps(self, point, start),
    )
    sample_states(lstm, tmp_path / "cut.zarr", config)
    if then == "cpu":
        # The CPU's tiles hold other sequences, so its tile starts again.
        assert pieces[2:] == [(0, 0)] and StateDump.open(tmp_path / "cut.zarr").verify() == []
    else:
        assert pieces[2:] == [(0, 4), (32, 0), (32, 2), (32, 4)]
        assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")
