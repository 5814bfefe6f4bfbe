"""Concatenating dumps, and appending to one."""

import itertools
import os
import shutil

import numpy as np
import pytest
from killing import assert_survives_kills, contents, run_forked

from gatescope.engine import progress
from gatescope.engine.concat import concatenate
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError

N, H, BLOCK = 3000, 4, 64
STARTS = np.append(np.arange(0, N, 5), N).astype(np.int64)  # 600 sequences: their initial states fill several blocks
RANDOM = np.random.default_rng(0)
STATES = {name: RANDOM.normal(size=(N, H)).astype(np.float16) for name in ("layer0/h", "layer0/gates/i", "layer1/h")}
INITIAL = {name: RANDOM.normal(size=(len(STARTS) - 1, H)).astype(np.float16) for name in ("layer0/h", "layer1/h")}
TOKENS = RANDOM.integers(0, 3, N)


def write(path, first=0, behind=600, **changes):
    """Write the sequences from `first` up to `behind`, as a process of its own would."""
    starts = STARTS[first : behind + 1] - STARTS[first]
    attributes = {"vocabulary": ["a", "b", "c"], "weights_sha256": "1" * 64, "seed": 3, "settings": {"length": 5}}
    compression = changes.pop("compression", "none")
    spec = DumpSpec(
        arrays=changes.pop("arrays", dict.fromkeys(STATES, H)),
        sequence_starts=starts,
        document_starts=starts,
        initial=("h",),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(changes.pop("dtype", "float16")),
        attributes=attributes | changes,
        block_rows=BLOCK,
        compression=compression,
    )
    rows = slice(int(STARTS[first]), int(STARTS[behind]))
    with DumpWriter(path, spec) as writer:
        initial = {name: INITIAL[name][first:behind] for name in spec.initial_arrays}
        writer.write_initial(0, initial)
        writer.append(0, TOKENS[rows], {name: STATES[name][rows] for name in spec.arrays})
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return {
        compression: write(tmp_path_factory.mktemp("whole") / "states.zarr", compression=compression)
        for compression in ("none", "zstd")
    }


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("cuts", [(0, 300, 600), (0, 1, 2, 599, 600), (0, 64, 128, 600)])
def test_concatenated_parts_of_a_run_equal_the_whole_dump(tmp_path, whole, cuts, compression):
    parts = [write(tmp_path / f"{a}.zarr", a, b, compression=compression) for a, b in itertools.pairwise(cuts)]
    assert concatenate(parts, tmp_path / "all.zarr") == N
    assert contents(tmp_path / "all.zarr") == contents(whole[compression])
    # Repeating it changes nothing.
    assert concatenate(parts, tmp_path / "all.zarr") == N
    # Appending to the first part gives the same dump, and leaves nothing over.
    assert concatenate(parts, parts[0]) == N
    assert contents(parts[0]) == contents(whole[compression])
    assert sorted(os.listdir(tmp_path)) == sorted([*(part.name for part in parts), "all.zarr"])


def test_parts_may_be_strings_from_an_iterator(tmp_path, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.zarr", 0, 200)
    write("b.zarr", 200, 600)
    assert concatenate((name for name in ("a.zarr", "b.zarr")), "all.zarr") == N
    assert concatenate("a.zarr", "one.zarr") < N
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "a.zarr")
    # A copy of a part counts as another part; when the command is repeated, it finds the rows already there.
    write("copy.zarr", 0, 200)
    for _ in range(2):
        assert concatenate(["copy.zarr", "one.zarr"], "copy.zarr") == 2 * StateDump.open("one.zarr").n_rows
    with monkeypatch.context() as patch:
        # The same text with other states is another part.
        patch.setitem(STATES, "layer1/h", -STATES["layer1/h"])
        write("other.zarr", 0, 200)
    assert concatenate(["copy.zarr", "other.zarr"], "copy.zarr") == 3 * StateDump.open("one.zarr").n_rows
    for _ in range(2):
        assert concatenate(["a.zarr", "b.zarr"], "a.zarr") == N
    for name in ("all.zarr", "a.zarr"):
        assert contents(tmp_path / name) == contents(whole["none"])


def test_a_resumed_progress_bar_starts_at_the_existing_rows(tmp_path, monkeypatch):
    parts, bars = [write(tmp_path / f"{a}.zarr", a, b) for a, b in ((0, 11), (11, 600))], []

    def lines(description, total, unit, done):
        bars.append([done])

        def advance(amount, note=""):
            bars[-1].append(amount)
            if len(bars) == 1 and len(bars[0]) == 20:
                raise KeyboardInterrupt

        return advance

    monkeypatch.setattr(progress, "_lines", lines)
    with pytest.raises(KeyboardInterrupt):
        concatenate(parts, tmp_path / "out.zarr")
    concatenate(parts, tmp_path / "out.zarr")
    assert 0 < bars[1][0] < N and sum(bars[1]) == N


def test_full_blocks_are_shared_when_appending(tmp_path):
    one, two = write(tmp_path / "one.zarr", 0, 300), write(tmp_path / "two.zarr", 300, 600)
    before = {index: (one / "layer0/h" / f"c.{index}.0").stat().st_ino for index in range(1500 // BLOCK + 1)}
    concatenate([one, two], one)
    after = {index: (one / "layer0/h" / f"c.{index}.0").stat().st_ino for index in before}
    assert [index for index in before if before[index] != after[index]] == [1500 // BLOCK]


def test_differing_attributes_are_kept_per_part(tmp_path):
    parts = [write(tmp_path / f"{i}.zarr", i, i + 10, seed=i, temperature=0.8) for i in (1, 2, 3)]
    concatenate(parts[:2], tmp_path / "two.zarr")
    concatenate([tmp_path / "two.zarr", parts[2]], tmp_path / "three.zarr")
    attributes = StateDump.open(tmp_path / "three.zarr").attributes
    assert "seed" not in attributes and attributes["temperature"] == 0.8
    assert attributes["parts"] == [{"rows": 50, "seed": 1}, {"rows": 50, "seed": 2}, {"seed": 3, "rows": 50}]


def test_a_part_that_continues_a_document_does_not_start_one(tmp_path):
    parts = [write(tmp_path / "0.zarr", 0, 10, continues_document=True), write(tmp_path / "1.zarr", 10, 20)]
    parts.append(write(tmp_path / "2.zarr", 20, 25, continues_document=True))
    concatenate(parts, tmp_path / "all.zarr")
    dump = StateDump.open(tmp_path / "all.zarr")
    assert dump.document_starts.tolist() == [start for start in range(0, 126, 5) if start != 100]
    # The whole begins where its first part begins.
    assert dump.attributes["continues_document"] is True and "parts" not in dump.attributes
    concatenate(parts[1:], tmp_path / "rest.zarr")
    assert "continues_document" not in StateDump.open(tmp_path / "rest.zarr").attributes


DIFFERENT = [
    ({"weights_sha256": "2" * 64}, "weights_sha256 is '2222"),
    ({"vocabulary": ["a", "b", "d"]}, r"vocabulary is \['a', 'b', 'd'\] there and \['a', 'b', 'c'\] here"),
    ({"dtype": "float32"}, "dtype is 'float32' there and 'float16' here"),
    ({"arrays": {"layer0/h": H}}, "arrays is {'layer0/h': 4}"),
    ({"prime": "x"}, "prime is 'x' there and None here"),
]


@pytest.mark.parametrize(("changes", "message"), DIFFERENT)
def test_incompatible_dumps_are_refused(tmp_path, changes, message):
    parts = [write(tmp_path / "one.zarr", 0, 5), write(tmp_path / "two.zarr", 5, 9, **changes)]
    for out in (tmp_path / "all.zarr", parts[0]):
        before = contents(parts[0])
        with pytest.raises(InputError, match=f"two.zarr does not match .*one.zarr: {message}"):
            concatenate(parts, out)
        assert contents(parts[0]) == before
    assert sorted(os.listdir(tmp_path)) == ["one.zarr", "two.zarr"]


def test_empty_repeated_and_overlapping_arguments_are_refused(tmp_path):
    one, two = write(tmp_path / "one.zarr", 0, 5), write(tmp_path / "two.zarr", 5, 9)
    with pytest.raises(InputError, match="no dumps"):
        concatenate([], tmp_path / "all.zarr")
    with pytest.raises(InputError, match=r"one.zarr is given twice"):
        concatenate([one, two, one], tmp_path / "all.zarr")
    with pytest.raises(InputError, match=r"two.zarr is one of the dumps"):
        concatenate([one, two], two)
    with pytest.raises(InputError, match=r"copy.zarr is another dump, of 25 characters, and these have 20: choose"):
        concatenate([two], one.parent / shutil.copytree(one, tmp_path / "copy.zarr").name)
    three = write(tmp_path / "three.zarr", 5, 9, kind="sample", seed=4)
    concatenate([write(tmp_path / "four.zarr", 0, 5, kind="extract"), three], tmp_path / "both.zarr")
    with pytest.raises(InputError, match=r"both.zarr is another dump, of 45 .* \(extract and sample in 2 parts\), and"):
        concatenate([one, two], tmp_path / "both.zarr")
    block = two / "layer0/h/c.0.0"
    block.write_bytes(b"\1" + block.read_bytes()[1:])
    with pytest.raises(InputError, match=r"two.zarr is damaged: layer0/h: block 0 .* does not match its checksum"):
        concatenate([one, two], tmp_path / "all.zarr")
    assert not (tmp_path / "all.zarr").exists()


def _concatenate(parts, out):
    concatenate(parts, out)


def test_concatenation_survives_a_kill_at_any_write(tmp_path):
    parts = [write(tmp_path / "one.zarr", 0, 250), write(tmp_path / "two.zarr", 250, 600)]
    assert_survives_kills(_concatenate, lambda folder: (parts, folder), tmp_path / "out", n_kills=3)


def test_a_killed_append_leaves_the_old_dump_or_the_new_one(tmp_path):
    parts = [write(tmp_path / "one.zarr", 0, 250), write(tmp_path / "two.zarr", 250, 600)]
    old = contents(parts[0])
    shutil.copytree(parts[0], tmp_path / "kept.zarr")
    n_writes, _ = run_forked(_concatenate, (parts, parts[0]), tmp_path)
    new = contents(parts[0])
    seen = set()
    for kill_at in np.linspace(1, n_writes, 4).round().astype(int):
        shutil.rmtree(parts[0])
        shutil.copytree(tmp_path / "kept.zarr", parts[0])
        run_forked(_concatenate, (parts, parts[0]), tmp_path, int(kill_at))
        found = contents(parts[0])
        assert found in (old, new)
        seen.add(len(found))
        if found == old:
            concatenate(parts, parts[0])
        assert contents(parts[0]) == new
        assert sorted(os.listdir(tmp_path)) == ["kept.zarr", "one.zarr", "two.zarr"] or found == new
