"""Tests of writing a state dump: interrupted, repeated, refused; `test_dump_writer_killed.py` has those of killing."""

import os
import resource
import tempfile
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gatescope.engine import dump_writer
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpSpec, DumpWriter
from gatescope.engine.errors import InputError

# 700 sequences of 3 rows: their initial states, too, fill several blocks; groups of 64 end inside blocks of rows.
N, H, BLOCK, GROUP = 2100, 6, 256, 64
STARTS = np.arange(0, N + 1, 3, dtype=np.int64)
NAMES = ["layer0/h", "layer0/gates/i", "layer1/h"]
RANDOM = np.random.default_rng(0)
STATES = {name: RANDOM.normal(size=(N, H)).astype(np.float32) for name in NAMES}
INITIAL = {name: RANDOM.normal(size=(len(STARTS) - 1, H)).astype(np.float32) for name in ("layer0/h", "layer1/h")}
TOKENS = RANDOM.integers(0, 3, N)
SPEC = DumpSpec(
    arrays=dict.fromkeys(NAMES, H),
    sequence_starts=STARTS,
    document_starts=STARTS[[0, 100, 700]],
    initial=("h", "c"),
    token_dtype=np.dtype(np.uint8),
    dtype=np.dtype(np.float16),
    attributes={"vocabulary": ["a", "b", "ü"], "seed": 3, "config": {"prime": "a", "lengths": [3, 4]}},
    block_rows=BLOCK,
)


@pytest.fixture(autouse=True)
def commits_at_once(monkeypatch):
    monkeypatch.setattr(dump_writer, "COMMIT_SECONDS", 0)


def groups(begin=0):
    """Yield the groups of sequences from the one that holds a row, as a sampler computes them."""
    for first in range(begin // 3 // GROUP * GROUP, len(STARTS) - 1, GROUP):
        rows = slice(first * 3, (first + GROUP) * 3)
        yield first, rows.start, TOKENS[rows], {name: values[rows] for name, values in STATES.items()}


def fill(writer):
    for first, start, tokens, states in groups(writer.committed_rows):
        writer.write_initial(first, {name: values[first : first + GROUP] for name, values in INITIAL.items()})
        writer.append(start, tokens, states)


def write(path, overwrite=False):
    with DumpWriter(path, SPEC, overwrite=overwrite) as writer:
        fill(writer)


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "states.zarr"
    write(path)
    return path


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory where there is one: nothing here needs a disk, and every commit would wait for it."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def limited_files():
    """Return a function that lets no file grow beyond some bytes, as on a full disk, and one that lifts the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_is_read(undisturbed):
    dump = StateDump.open(undisturbed)
    assert dump.verify() == []
    assert np.array_equal(dump.tokens, TOKENS)
    for name, values in STATES.items():
        assert np.array_equal(np.asarray(dump.array(name)), values.astype(np.float16))
    for name, values in INITIAL.items():
        assert np.array_equal(dump.initial(name), values.astype(np.float16))
    assert dump.attributes == SPEC.attributes
    assert sorted(os.listdir(undisturbed.parent)) == ["states.zarr"]


def test_bytes_do_not_depend_on_how_rows_come(undisturbed, tmp_path):
    with DumpWriter(tmp_path / "one.zarr", SPEC) as writer:
        writer.write_initial(0, {name: torch.from_numpy(values) for name, values in INITIAL.items()})
        writer.append(0, torch.from_numpy(TOKENS), {name: torch.from_numpy(values) for name, values in STATES.items()})
    assert files_of(tmp_path / "one.zarr") == files_of(undisturbed)
    with DumpWriter(tmp_path / "many.zarr", SPEC) as writer:
        for sequence in range(len(STARTS) - 1):
            writer.write_initial(sequence, {name: values[sequence, None] for name, values in INITIAL.items()})
            for row in range(3 * sequence, 3 * sequence + 3):
                writer.append(row, TOKENS[row, None], {name: values[row, None] for name, values in STATES.items()})
    assert files_of(tmp_path / "many.zarr") == files_of(undisturbed)


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1024, 2048, 2099])
def test_interrupted_and_resumed(undisturbed, tmp_path, rows):
    path = tmp_path / "states.zarr"

    class StopError(Exception):
        pass

    with pytest.raises(StopError), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:rows], {name: values[:rows] for name, values in STATES.items()})
        raise StopError
    writer = DumpWriter(path, SPEC)
    assert writer.committed_rows == rows // BLOCK * BLOCK
    fill(writer)
    writer.close()
    assert writer.committed_rows == N
    assert files_of(path) == files_of(undisturbed)


def test_a_finished_dump_is_left_alone(undisturbed):
    before = {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*")}
    with DumpWriter(undisturbed, SPEC) as writer:
        assert writer.committed_rows == N
        fill(writer)
    assert {file: file.stat().st_mtime_ns for file in undisturbed.rglob("*")} == before


def test_full_disk(undisturbed, tmp_path, limited_files):
    path = tmp_path / "states.zarr"
    with pytest.raises(OSError, match="too large"), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        for _, start, tokens, states in groups():
            writer.append(start, tokens, states)
            if start > 700 and writer.committed_rows:
                limited_files(2000)
    limited_files()
    committed = writer.committed_rows
    assert 256 <= committed < N
    assert not list(path.rglob("*.partial"))
    dump = StateDump.open(path, finished=False)
    assert dump.verify() == [f"not finished: {committed} of {N} rows are written"]
    write(path)
    assert files_of(path) == files_of(undisturbed)


def test_a_failed_block_is_never_passed_over(undisturbed, tmp_path, limited_files):
    path = tmp_path / "states.zarr"

    def append(start):
        rows = slice(start, start + BLOCK)
        writer.append(start, TOKENS[rows], {name: values[rows] for name, values in STATES.items()})

    writer = DumpWriter(path, SPEC)
    writer.write_initial(0, INITIAL)
    append(0)
    wait([writer._committing])
    limited_files(2000)
    with pytest.raises(OSError, match="too large"):
        append(BLOCK)
    limited_files()
    with pytest.raises(ValueError, match="rows 512 to 768 of 2100 do not follow on 256"):
        append(2 * BLOCK)
    with pytest.raises(ValueError, match="256 of 2100 rows"):
        writer.close()
    assert StateDump.open(path, finished=False).committed_rows == BLOCK
    write(path)
    assert files_of(path) == files_of(undisturbed)


def test_nothing_is_committed_behind_what_failed_in_the_background(undisturbed, tmp_path):
    path = tmp_path / "states.zarr"

    def append(start):
        rows = slice(start, start + BLOCK)
        writer.write_initial(0, {name: values[: rows.stop // 3 + 1] for name, values in INITIAL.items()})
        writer.append(start, TOKENS[rows], {name: values[rows] for name, values in STATES.items()})

    with pytest.raises(FileNotFoundError), DumpWriter(path, SPEC) as writer:
        append(0)
        wait([writer._committing])
        # Initial states are written anew with every commit, and there is no place for them any more.
        (path / "initial" / "layer0" / "h").rename(path / "elsewhere")
        for start in range(BLOCK, 5 * BLOCK, BLOCK):
            append(start)
            wait([writer._committing])
    (path / "elsewhere").rename(path / "initial" / "layer0" / "h")
    assert StateDump.open(path, finished=False).committed_rows == BLOCK
    write(path)
    assert files_of(path) == files_of(undisturbed)


def test_full_disk_before_the_first_row(tmp_path, limited_files):
    limited_files(1000)
    with pytest.raises(OSError, match="too large"):
        DumpWriter(tmp_path / "states.zarr", SPEC)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": {**SPEC.arrays, "layer1/gates/i": H}}, "arrays.layer1/gates/i is not set there, and 6 now"),
        ({"arrays": {"layer0/h": H}}, "arrays.layer0/gates/i is not set now, and 6 there"),
        ({"dtype": np.dtype(np.float32)}, "dtype is 'float16' there and 'float32' now"),
        ({"token_dtype": np.dtype(np.uint16)}, "token_dtype is 'uint8' there and 'uint16' now"),
        ({"block_rows": 100}, "block_rows is 256 there and 100 now"),
        ({"initial": ()}, "initial is .* there and .* now"),
        ({"attributes": {**SPEC.attributes, "seed": 4}}, "seed is 3 there and 4 now"),
        ({"attributes": {**SPEC.attributes, "config": {"prime": "a", "lengths": [3, 5]}}}, r"config.lengths\[1\] is 4"),
        (
            {"attributes": {**SPEC.attributes, "vocabulary": ["a", "b", "c"]}},
            r"vocabulary\[2\] is 'ü' there and 'c' now",
        ),
        ({"document_starts": STARTS[[0, 101, 700]]}, r"document_starts\[1\] is 300 there and 303 now"),
        ({"sequence_starts": STARTS[[0, *range(2, 701)]]}, "sequences is 700 there and 699 now"),
    ],
)
def test_another_spec_is_refused(undisturbed, change, message):
    with pytest.raises(InputError, match=f"begun with other settings: {message}.*--overwrite$") as error:
        DumpWriter(undisturbed, replace(SPEC, **change))
    # The dump is free again, although the error still holds on to the writer.
    DumpWriter(undisturbed, SPEC).close()
    assert error.tb
    assert StateDump.open(undisturbed).committed_rows == N


def test_overwrite(undisturbed, tmp_path):
    path = tmp_path / "states.zarr"
    with DumpWriter(path, replace(SPEC, attributes={"vocabulary": ["a", "b", "c"]})) as writer:
        fill(writer)
    write(path, overwrite=True)
    assert files_of(path) == files_of(undisturbed)
    assert os.listdir(tmp_path) == ["states.zarr"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_a_dump_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for name in ("work", "file"):
        with pytest.raises(InputError, match=f"{name} is not a state dump"):
            DumpWriter(tmp_path / name, SPEC, overwrite=overwrite)
    assert files_of(tmp_path) == {"work/thesis.tex": b"years of work", "file": b"more"}
    with pytest.raises(InputError, match="missing is not a folder"):
        DumpWriter(tmp_path / "missing" / "states.zarr", SPEC)


def test_a_link_stays_a_link(undisturbed, tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "states.zarr").symlink_to(tmp_path / "large disk")
    for _ in range(2):
        write(tmp_path / "states.zarr", overwrite=True)
        assert (tmp_path / "states.zarr").is_symlink()
        assert files_of(tmp_path / "large disk") == files_of(undisturbed)


def test_an_empty_folder_may_become_a_dump(undisturbed, tmp_path):
    write(tmp_path)
    assert files_of(tmp_path) == files_of(undisturbed)


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_writers(tmp_path, overwrite):
    path = tmp_path / "states.zarr"
    writer = DumpWriter(path, SPEC)
    with pytest.raises(InputError, match="is being written by another program"):
        DumpWriter(path, SPEC, overwrite=overwrite)
    fill(writer)
    writer.close()
    assert StateDump.open(path).verify() == []
    DumpWriter(path, SPEC).close()


def bad(array, row, unit, value, dtype=np.float32):
    states = {name: values[:300].astype(dtype) for name, values in STATES.items()}
    states[array][row, unit] = value
    return states


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (
            bad("layer0/h", 270, 2, 65520.0),
            r"layer0/h: 65520 at row 270, unit 2 is beyond float16 \(at most 65504\): use",
        ),
        (bad("layer1/h", 0, 5, -1e30), "layer1/h: -1e[+]30 at row 0, unit 5 is beyond float16 .*--dtype float32$"),
        (bad("layer1/h", 0, 5, -np.inf, np.float16), "-inf at row 0, unit 5 is beyond float16 .*--dtype float32$"),
        (bad("layer0/gates/i", 299, 0, np.nan), "layer0/gates/i: nan at row 299, unit 0: expected finite states"),
        (bad("layer0/h", 1, 1, np.inf), "layer0/h: inf at row 1, unit 1: expected finite states"),
    ],
)
def test_states_that_are_not_finite(tmp_path, states, message):
    with pytest.raises(InputError, match=message), DumpWriter(tmp_path / "states.zarr", SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:300], states)
    if writer.committed_rows:
        dump = StateDump.open(tmp_path / "states.zarr", finished=False)
        assert dump.verify() == ["not finished: 256 of 2100 rows are written"]
    else:
        # Nothing is in the way of what the message advises.
        assert os.listdir(tmp_path) == []


def test_float32_holds_what_float16_does_not(tmp_path):
    states = {name: values * 1e6 for name, values in STATES.items()}
    with DumpWriter(tmp_path / "states.zarr", replace(SPEC, dtype=np.dtype(np.float32))) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS, states)
    dump = StateDump.open(tmp_path / "states.zarr")
    assert np.array_equal(dump["h"][1][:], states["layer1/h"])


def test_initial_states_that_are_not_finite(tmp_path):
    with DumpWriter(tmp_path / "states.zarr", SPEC) as writer:
        for first in (0, 300):
            damaged = {name: values[first : first + 300].copy() for name, values in INITIAL.items()}
            damaged["layer1/h"][3, 1] = np.nan
            with pytest.raises(InputError, match=f"layer1/h: nan before sequence {first + 3}, unit 1"):
                writer.write_initial(first, damaged)
            writer.write_initial(first, {name: values[first : first + 300] for name, values in INITIAL.items()})
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS, STATES)


@pytest.mark.parametrize(
    ("start", "tokens", "states", "message"),
    [
        (0, np.array([0, 3, 0]), {}, "outside the vocabulary: expected 0 to 2"),
        (0, np.array([0, 0, -1]), {}, "outside the vocabulary: expected 0 to 2"),
        (0, TOKENS[:3].astype(float), {}, "expected integers"),
        (0, TOKENS[:4], {}, r"layer0/h has the shape \(3, 6\), expected \(4, 6\)"),
        (0, TOKENS[:3], {"layer1/h": np.zeros((3, 7))}, r"layer1/h has the shape \(3, 7\), expected \(3, 6\)"),
        (
            0,
            TOKENS[:3],
            {"layer1/c": np.zeros((3, 6))},
            "layer1/c: expected tokens, layer0/h, layer0/gates/i, layer1/h",
        ),
        (3, TOKENS[:3], {}, "do not follow on 0"),
        (-3, TOKENS[:3], {}, "do not follow on 0"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, start, tokens, states, message):
    with DumpWriter(tmp_path / "states.zarr", SPEC) as writer:
        writer.write_initial(0, INITIAL)
        with pytest.raises(ValueError, match=message):
            writer.append(start, tokens, {**{name: values[:3] for name, values in STATES.items()}, **states})
        writer.append(0, TOKENS, STATES)
        with pytest.raises(ValueError, match="rows 2100 to 2101 of 2100"):
            writer.append(N, TOKENS[:1], {name: values[:1] for name, values in STATES.items()})
    assert StateDump.open(tmp_path / "states.zarr").verify() == []


def test_initial_states_come_first(tmp_path):
    path = tmp_path / "states.zarr"
    with pytest.raises(ValueError, match="sequence 64 has no initial states"), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, {name: values[:64] for name, values in INITIAL.items()})
        writer.append(0, TOKENS, STATES)


def test_closing_too_early(tmp_path):
    path = tmp_path / "states.zarr"
    with pytest.raises(ValueError, match="300 of 2100 rows were appended"), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:300], {name: values[:300] for name, values in STATES.items()})
    write(path)
    assert StateDump.open(path).verify() == []


def test_a_dump_without_initial_states(tmp_path):
    with DumpWriter(tmp_path / "states.zarr", replace(SPEC, arrays={"layer0/gates/i": H})) as writer:
        writer.write_initial(0, {})
        writer.append(0, TOKENS, {"layer0/gates/i": STATES["layer0/gates/i"]})
        writer.write_initial(64, {})
    dump = StateDump.open(tmp_path / "states.zarr")
    assert dump.verify() == [] and dump.names == ["layer0/gates/i"]


def test_a_damaged_block_of_initial_states_is_not_written_over(tmp_path):
    path = tmp_path / "states.zarr"
    with pytest.raises(KeyboardInterrupt), DumpWriter(path, SPEC) as writer:
        writer.write_initial(0, INITIAL)
        writer.append(0, TOKENS[:512], {name: values[:512] for name, values in STATES.items()})
        raise KeyboardInterrupt
    file = path / "initial" / "layer1" / "h" / "c.0.0"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(InputError, match=r"c\.0\.0 is missing or damaged: write the dump again"):
        DumpWriter(path, SPEC)
