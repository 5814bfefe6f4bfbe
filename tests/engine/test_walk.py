"""Walking over sequences: the states do not depend on how the work is cut, nor the memory on how many or how long the
sequences are."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from killing import contents

from gatescope.engine import commits, walk
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_folder import DumpFolder
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.extract import ExtractConfig, extract_in_memory, extract_states
from gatescope.engine.resume_points import RESUME_FILE
from gatescope.engine.sample import SampleConfig, sample_in_memory, sample_states
from gatescope.engine.tile_walker import recurrence_of
from gatescope.engine.trained_model import load_model
from gatescope.kernels.sample import TILE, Recurrence

CONFIG = SampleConfig(sequences=130, length=75, capture=("h", "c", "gates"))


@pytest.fixture
def threads():
    """Return a function that sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("piece_bytes", [1, 50 * 12 * 20 * 40, walk.PIECE_BYTES], ids=["16", "32", "all"])
def test_states_do_not_depend_on_how_work_is_divided(lstm, tmp_path, monkeypatch, threads, piece_bytes, n_threads):
    threads(1)
    sample_states(lstm, tmp_path / "whole.zarr", CONFIG)
    threads(n_threads)
    monkeypatch.setattr(walk, "PIECE_BYTES", piece_bytes)
    sample_states(lstm, tmp_path / "cut.zarr", CONFIG)
    assert torch.get_num_threads() == n_threads
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")
    states = sample_in_memory(lstm, CONFIG)
    dump = StateDump.open(tmp_path / "whole.zarr")
    assert np.array_equal(states.tokens, dump.tokens)
    assert np.array_equal(states.sequence_starts, dump.sequence_starts)
    for name in dump.names:
        assert np.array_equal(states.arrays[name].numpy(), dump.array(name)[:])
    for name, values in states.initial.items():
        assert np.array_equal(values.numpy(), dump.initial(name))


@pytest.mark.parametrize(
    ("sequences", "n_threads", "expected"),
    [(37, 4, {(37, 4)}), (130, 5, {(100, 3), (30, 2)}), (230, 2, {(100, 1), (30, 1)})],
)
def test_threads_without_a_tile_help_with_rows_in_use(lstm, monkeypatch, threads, sequences, n_threads, expected):
    use, seen = Recurrence.use, set()

    def watched(self, n_rows, n_threads=1):
        seen.add((n_rows, n_threads))
        use(self, n_rows, n_threads)

    monkeypatch.setattr(Recurrence, "use", watched)
    threads(n_threads)
    sample_in_memory(lstm, SampleConfig(sequences=sequences, length=3))
    assert seen == expected


@pytest.mark.parametrize("length", [1, 16, 33, 1000])
def test_sequences_of_different_length(lstm, tmp_path, monkeypatch, threads, length):
    (tmp_path / "text.txt").write_text("(abc) {def} ghij\n" * 150)
    config = ExtractConfig(length=length, context=5)
    threads(2)
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    states = extract_in_memory(lstm, str(tmp_path / "text.txt"), config)
    extract_states(lstm, str(tmp_path / "text.txt"), tmp_path / "e.zarr", config)
    dump = StateDump.open(tmp_path / "e.zarr")
    assert dump.verify() == [] and dump.n_rows == 17 * 150
    assert not list((tmp_path / "e.zarr").rglob("*.partial"))
    for name in dump.names:
        assert np.array_equal(states.arrays[name].numpy(), dump.array(name)[:])


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize(("cell", "gates"), [("lstm", "ifgo"), ("gru", "rzn")])
def test_states_equal_single_steps_after_rounding(make_model, cell, gates, dtype):
    trained, n, length = load_model(make_model(cell=cell)), 3, 40
    config = SampleConfig(sequences=n, length=length, capture=("h", "c", "gates"), prime="")
    states = sample_in_memory(trained, config, dtype=getattr(torch, dtype))
    tile, tokens = recurrence_of(trained, length), torch.zeros(length, TILE, dtype=torch.int64)
    tokens[:, :n] = torch.from_numpy(states.tokens.astype(np.int64)).view(n, length).T
    tile.read(tokens)
    hidden = tile.kept_h[0].shape[2]
    for name, values in states.arrays.items():
        layer, state, *gate = name.removeprefix("layer").split("/")
        kept = {"h": tile.kept_h, "c": tile.kept_c, "gates": tile.kept_gates}[state][int(layer)]
        first = gates.index(gate[0]) * hidden if gate else 0
        expected = kept[:, :n, first : first + hidden].transpose(0, 1).to(values.dtype)
        assert torch.equal(values.view(n, length, hidden), expected)


PEAK = """
import sys
from pathlib import Path
from gatescope.engine import walk
from gatescope.engine.trained_model import load_model
from gatescope.engine.sample import SampleConfig, sample_states
walk.PIECE_BYTES = 1 << 20
model = load_model(Path(sys.argv[1]))
def peak(name, sequences, length):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    sample_states(model, Path(sys.argv[2]) / name, SampleConfig(sequences=sequences, length=length))
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10
peak("first", 200, 200)
few, many, long = peak("few", 200, 200), peak("many", 1000, 200), peak("long", 200, 1000)
print(few, many, long)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_peak_memory_does_not_depend_on_number_or_length_of_sequences(make_model, tmp_path):
    command = [sys.executable, "-c", PEAK, str(make_model(hidden=64)), str(tmp_path)]
    # Runs use new threads: the memory that the C library keeps for each of them is not to be measured.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    few, many, long = map(int, done.stdout.split())
    # Two tiles of several blocks of the dump, then five times the rows: 82 MB more of states.
    n_bytes = 160_000 * 2 * 2 * 64 * 2
    assert many - few < n_bytes / 4 and long - few < n_bytes / 4


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_an_interrupted_dump_resumes_inside_a_tile(lstm, tmp_path, monkeypatch, threads, n_threads):
    sample_states(lstm, tmp_path / "whole.zarr", CONFIG)
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    count_steps, pieces = DumpWriter.count_steps, []

    def stop_at(n_pieces):
        def count(self, point, start):
            if len(pieces) == n_pieces:
                raise KeyboardInterrupt
            pieces.append((point.first, start))
            return count_steps(self, point, start)

        monkeypatch.setattr(DumpWriter, "count_steps", count)

    threads(2)
    # 130 sequences of 75 steps are two tiles of three pieces each.
    for n_pieces in (3, 5):
        stop_at(n_pieces)
        with pytest.raises(KeyboardInterrupt):
            sample_states(lstm, tmp_path / "cut.zarr", CONFIG)
        assert StateDump.open(tmp_path / "cut.zarr", finished=False).committed_rows == 0
        threads(n_threads)
    stop_at(None)
    sample_states(lstm, tmp_path / "cut.zarr", CONFIG)
    # Nothing was computed twice.
    assert sorted(pieces) == [(first, start) for first in (0, 100) for start in (0, 32, 64)]
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")


def test_a_tile_without_resume_points_restarts(lstm, tmp_path, monkeypatch):
    config = SampleConfig(sequences=130, length=150)
    sample_states(lstm, tmp_path / "whole.zarr", config)
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    count_steps, left = DumpWriter.count_steps, iter(range(7))

    def stop(self, *arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return count_steps(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(DumpWriter, "count_steps", stop)
        sample_states(lstm, tmp_path / "cut.zarr", config)
    dump = StateDump.open(tmp_path / "cut.zarr", finished=False)
    assert dump.committed_rows in (0, 8192) and dump.verify() == [
        f"not finished: {dump.committed_rows} of 19500 rows are written"
    ]
    (tmp_path / "cut.zarr" / RESUME_FILE).unlink()
    sample_states(lstm, tmp_path / "cut.zarr", config)
    assert contents(tmp_path / "cut.zarr") == contents(tmp_path / "whole.zarr")


def test_threads_write_while_one_dump_replaces_another(lstm, tmp_path, monkeypatch, threads):
    config = SampleConfig(sequences=130, length=96)
    sample_states(lstm, tmp_path / "whole.zarr", config)
    sample_states(lstm, tmp_path / "replaced.zarr", SampleConfig(sequences=130, length=96, temperature=0.5))
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0)
    settle = DumpFolder.settle

    def slow(self):
        settle(self)
        # By now the threads are two pieces ahead, which is as far as they may go.
        time.sleep(0.3)

    monkeypatch.setattr(DumpFolder, "settle", slow)
    threads(2)
    sample_states(lstm, tmp_path / "replaced.zarr", config, overwrite=True)
    assert contents(tmp_path / "replaced.zarr") == contents(tmp_path / "whole.zarr")


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_a_tile_runs_as_many_steps_as_its_longest_sequence(lstm, tmp_path, monkeypatch, threads, n_threads):
    """Three tiles of documents, with at most 50, 20 and 10 characters."""
    documents = []
    for number, length in enumerate(np.repeat([10, 50, 20, 5, 10], [TILE - 1, 1, 1, TILE - 1, 3]).tolist()):
        documents.append(tmp_path / f"{number}.txt")
        documents[-1].write_text(("(abc) {def} ghij\n" * 3)[:length])
    pieces, count_steps = [], DumpWriter.count_steps

    def count(self, point, start):
        pieces.append((point.first, start, point.step))
        return count_steps(self, point, start)

    monkeypatch.setattr(DumpWriter, "count_steps", count)
    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    threads(n_threads)
    extract_states(lstm, documents, tmp_path / "e.zarr", ExtractConfig(length=50, context=0))
    taken = {
        tile * TILE: [step for first, *steps in pieces if first == tile * TILE for step in range(*steps)]
        for tile in range(3)
    }
    assert taken == {0: list(range(50)), TILE: list(range(20)), 2 * TILE: list(range(10))}
