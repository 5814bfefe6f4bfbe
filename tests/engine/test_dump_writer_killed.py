"""Killing the writer of a state dump: no committed row is lost, and the resumed dump is the same to the byte.

Run as a program, this file is the server from which the writers are forked.
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import assert_survives_kills, contents

from gatescope.engine import commits, walk
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.resume_points import read_points
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.trained_model import load_model

# 700 sequences of 3 rows: their initial states, too, fill several blocks; groups of 64 end inside blocks of rows.
N, H, BLOCK, GROUP = 2100, 6, 256, 64
STARTS = np.arange(0, N + 1, 3, dtype=np.int64)
STATES = {name: np.random.default_rng(len(name)).normal(size=(N, H)) for name in ("layer0/h", "layer0/gates/i")}
SPEC = DumpSpec(
    arrays=dict.fromkeys(STATES, H),
    sequence_starts=STARTS,
    document_starts=STARTS[[0, 100, 700]],
    initial=("h",),
    token_dtype=np.dtype(np.uint8),
    dtype=np.dtype(np.float16),
    attributes={"vocabulary": ["a", "b", "c"]},
    block_rows=BLOCK,
)


def write(path, overwrite=False):
    """Write the dump as a sampler would: group by group, from the group of the first missing row."""
    with DumpWriter(path, SPEC, overwrite=overwrite) as writer:
        for first in range(writer.committed_rows // 3 // GROUP * GROUP, len(STARTS) - 1, GROUP):
            rows = slice(3 * first, min(3 * (first + GROUP), N))
            writer.write_initial(first, {"layer0/h": -STATES["layer0/h"][rows][::3]})
            writer.append(rows.start, np.arange(rows.start, rows.stop) % 3, {k: v[rows] for k, v in STATES.items()})
            finish_commit(writer)


def finish_commit(writer):
    """Wait for the commit under way, so that every run has the same moments."""
    if writer._commits.underway is not None:
        wait([writer._commits.underway])


@pytest.fixture
def folder_in_memory(tmp_path):
    """A folder in memory where there is one: killing needs no disk, and every commit would wait for it."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def serve():
    """Fork a writer for each line "PATH OVERWRITE MOMENT" and answer "SIGNAL MOMENTS".

    A moment is the opening, renaming or removing of something in the dump's folder. The writer kills itself at the
    moment asked for; without one it runs to the end and counts them.
    """
    for line in sys.stdin:
        path, overwrite, moment = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            seen = write_and_count(Path(path), overwrite == "1", int(moment))
            os.write(writing, str(seen).encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            moments = int(pipe.read() or 0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), moments, flush=True)


def write_and_count(path, overwrite, moment):
    # Files are written by several threads: itertools.count, unlike an addition, cannot lose one.
    moments = itertools.count(1)

    def look(event, arguments):
        ours = event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(str(path.parent))
        if ours and next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    commits.COMMIT_SECONDS = 0
    sys.addaudithook(look)
    write(path, overwrite)
    return next(moments) - 1


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:
        assert process.stdin and process.stdout
        questions, answers = process.stdin, process.stdout

        def run(path, overwrite=False, moment=0):
            questions.write(f"{path} {int(overwrite)} {moment}\n")
            questions.flush()
            return tuple(map(int, answers.readline().split()))

        yield run
        questions.close()


@pytest.mark.parametrize(("overwrite", "kills"), [(False, 8), (True, 7)], ids=["new", "overwrite"])
def test_a_dump_survives_a_kill_at_any_moment(folder_in_memory, server, overwrite, kills):
    write(folder_in_memory / "undisturbed")
    expected = {f"states.zarr/{name}": data for name, data in contents(folder_in_memory / "undisturbed").items()}
    committed = set()
    moments = 1
    for part in range(kills + 1):
        # The first run is left alone, and counts the moments.
        moment = 1 + (moments - 1) * (part - 1) // (kills - 1) if part else 0
        folder = folder_in_memory / str(moment)
        folder.mkdir()
        path = folder / "states.zarr"
        if overwrite:
            assert server(path)[0] == 0
        status, seen = server(path, overwrite, moment)
        if not part:
            moments = seen
        else:
            assert status == signal.SIGKILL
            if path.exists():
                dump = StateDump.open(path, finished=False)
                committed.add(dump.committed_rows)
                unfinished = [f"not finished: {dump.committed_rows} of {N} rows are written"]
                assert dump.verify() == unfinished[: dump.committed_rows < N]
            assert server(path, overwrite)[0] == 0
        assert contents(folder) == expected
    assert moments > 100
    assert len(committed) >= 3 and {rows % BLOCK for rows in committed} <= {0, N % BLOCK}


def in_pieces(piece_bytes=1):
    """Cut tiles into pieces of 32 steps or more, two side by side, with a commit after each."""
    walk.PIECE_BYTES, commits.COMMIT_SECONDS = piece_bytes, 0
    torch.set_num_threads(2)
    count_steps = DumpWriter.count_steps

    def and_commit(self, *arguments):
        n_rows = count_steps(self, *arguments)
        finish_commit(self)
        return n_rows

    DumpWriter.count_steps = and_commit


def sample(model, path):
    in_pieces()
    sample_states(load_model(Path(model)), Path(path), SampleConfig(sequences=250, length=75, capture=("h", "gates")))


def sample_whole(model, path):
    """Pieces are whole sequences, so that most blocks are filled at once."""
    in_pieces(walk.PIECE_BYTES)
    sample_states(load_model(Path(model)), Path(path), SampleConfig(sequences=230, length=300, capture=("h",)))


def sample_compressed(model, path):
    in_pieces()
    config = SampleConfig(sequences=250, length=75, capture=("h", "gates"), compression="zstd")
    sample_states(load_model(Path(model)), Path(path), config)


def extract(model, path):
    in_pieces()
    text = Path(model) / "text.txt"
    text.write_text("(abc) {def} ghij\n" * 1200)
    extract_states(load_model(Path(model)), str(text), Path(path), ExtractConfig(length=75, context=5))


@pytest.mark.parametrize(
    ("stage", "kills"),
    [
        (sample, 8),
        (extract, 7),
        (sample_compressed, 2),
        (sample_whole, 2),
        pytest.param(sample, 25, marks=pytest.mark.slow),
        pytest.param(extract, 25, marks=pytest.mark.slow),
        pytest.param(sample_compressed, 25, marks=pytest.mark.slow),
        pytest.param(sample_whole, 25, marks=pytest.mark.slow),
    ],
)
def test_a_dump_survives_a_kill_while_sequences_are_computed(make_model, folder_in_memory, stage, kills):
    model, steps, committed = make_model(), set(), set()

    def look(path):
        if path.exists():
            dump = StateDump.open(path, finished=False)
            committed.add(dump.committed_rows)
            unfinished = [f"not finished: {dump.committed_rows} of {dump.n_rows} rows are written"]
            assert dump.verify() == unfinished[: dump.committed_rows < dump.n_rows]
            steps.update(point.step for point in read_points(path)[1])

    assert_survives_kills(stage, lambda path: (str(model), path), folder_in_memory, kills, look)
    # A few moments may all miss the middle of a sequence.
    assert len(committed) >= min(3, kills - 2) and ({32, 64} <= steps or kills < 7 or stage is sample_whole)


if __name__ == "__main__":
    serve()
