"""Shares of a dump are whole tiles, one after another, and together equal the dump of a single process."""

import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from killing import contents

from gatescope.engine import dump_parts
from gatescope.engine.concat import concatenate
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_folder import reserved
from gatescope.engine.dump_parts import part_path, shares_of
from gatescope.engine.extract import ExtractConfig, extract_states
from gatescope.engine.sample import SampleConfig, sample_states
from gatescope.engine.trained_model import load_model


@pytest.mark.parametrize("n_sequences", [1, 99, 100, 101, 350, 1234])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_whole_tiles_and_cover_everything(n_sequences, size):
    shares = shares_of(n_sequences, 100, size)
    assert [each for share in shares for each in share] == list(range(n_sequences))
    assert len(shares) == size and all(share.start % 100 == 0 for share in shares if share)
    tiles = [-(-len(share) // 100) for share in shares]
    assert max(tiles) - min(tiles) <= 1


def take_turn(monkeypatch, number, size):
    """Make this process one of several that do not wait for each other."""
    turn = SimpleNamespace(rank=number, size=size, meet=lambda: None, together=nullcontext)
    for module in ("dump_parts", "record"):
        monkeypatch.setattr(f"gatescope.engine.{module}.everybody", lambda: turn)


def assert_parts_are_the_whole(record, tmp_path, monkeypatch, size):
    """Let each of several processes write its part in turn; compare with one process alone."""
    record(tmp_path / "whole.zarr")
    whole, parts_seen = StateDump.open(tmp_path / "whole.zarr"), []

    def look(files, out, overwrite):
        parts_seen.extend(StateDump.open(file) for file in files)
        assert all(dump.verify() == [] for dump in parts_seen)
        return concatenate(files, out, overwrite=overwrite)

    monkeypatch.setattr(dump_parts, "concatenate", look)
    # The first process comes last: it puts the parts together.
    for number in reversed(range(size)):
        take_turn(monkeypatch, number, size)
        assert record(tmp_path / "out.zarr") == whole.n_rows
    assert contents(tmp_path / "out.zarr") == contents(tmp_path / "whole.zarr")
    assert sorted(file.name for file in tmp_path.glob("*.zarr")) == ["out.zarr", "whole.zarr"]
    return parts_seen


@pytest.mark.parametrize("size", [2, 3])
def test_parts_of_a_sample_equal_the_whole(lstm, tmp_path, monkeypatch, size):
    config = SampleConfig(sequences=130, length=20, capture=("h", "c", "entropy"))
    dumps = assert_parts_are_the_whole(
        lambda out: sample_states(lstm, out, config, seed=4), tmp_path, monkeypatch, size
    )
    assert not any("continues_document" in dump.attributes for dump in dumps)


def test_parts_of_a_text_equal_the_whole(lstm, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("(abc) {def} ghij\n" * 90)
    config = ExtractConfig(length=11, context=5)
    dumps = assert_parts_are_the_whole(
        lambda out: extract_states(lstm, str(text), out, config), tmp_path, monkeypatch, 2
    )
    assert [dump.attributes.get("continues_document", False) for dump in dumps] == [False, True]


def test_parts_of_documents_equal_the_whole(lstm, tmp_path, monkeypatch):
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    for file, n in zip(files, (40, 90, 1), strict=True):
        file.write_text("(abc) {def} ghij\n" * n)
    config = ExtractConfig(length=11, context=5)
    dumps = assert_parts_are_the_whole(
        lambda out: extract_states(lstm, [str(file) for file in files], out, config), tmp_path, monkeypatch, 2
    )
    assert [dump.document_starts.tolist() for dump in dumps] == [[0, 680, 1098], [0, 1112, 1129]]


def interrupted_together(lstm, out, config, seed, monkeypatch):
    """Leave the parts of two processes that were killed before the parts were put together."""

    def killed(*given, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dump_parts, "concatenate", killed)
        for number in (1, 0):
            take_turn(patch, number, 2)
            with pytest.raises(KeyboardInterrupt) if number == 0 else nullcontext():
                sample_states(lstm, out, config, seed=seed)
    return sorted(file.name for file in out.parent.glob("*.part*"))


@pytest.mark.parametrize("repeated", [False, True], ids=["unfinished", "whole"])
def test_parts_are_removed_when_one_process_finishes_the_dump(lstm, tmp_path, monkeypatch, repeated):
    config, out = SampleConfig(sequences=130, length=20), tmp_path / "states.zarr"
    if repeated:
        sample_states(lstm, out, config, seed=4)
        (tmp_path / "aside").mkdir()
        out.rename(tmp_path / "aside" / out.name)
    names = ["states.part0of2.zarr", "states.part1of2.zarr"]
    assert interrupted_together(lstm, out, config, 4, monkeypatch) == names
    if repeated:
        (tmp_path / "aside" / out.name).rename(out)
    # Parts of another seed, parts of another dump, and a folder that is a part in name only.
    others = tmp_path / "others"
    others.mkdir()
    interrupted_together(lstm, others / "states.zarr", config, 5, monkeypatch)
    (others / names[0]).rename(tmp_path / "states.part0of3.zarr")
    (others / names[1]).rename(tmp_path / "other.part1of2.zarr")
    (tmp_path / "states.part2of3.zarr").mkdir()
    sample_states(lstm, out, config, seed=4)
    left = ["other.part1of2.zarr", "states.part0of3.zarr", "states.part2of3.zarr", "states.zarr"]
    assert sorted(file.name for file in tmp_path.glob("*.zarr")) == left


def test_a_part_that_is_being_written_is_kept(lstm, tmp_path, monkeypatch):
    config, out = SampleConfig(sequences=130, length=20), tmp_path / "states.zarr"
    second = interrupted_together(lstm, out, config, 4, monkeypatch)[1]
    with reserved(tmp_path / second):
        sample_states(lstm, out, config, seed=4)
    assert sorted(file.name for file in tmp_path.glob("*.zarr")) == [second, "states.zarr"]


def test_part_paths_name_their_index_and_count(tmp_path):
    assert part_path(tmp_path / "states.zarr", 1, 4) == tmp_path / "states.part1of4.zarr"


def test_torchrun_samples_the_dump_of_one_process(make_model, tmp_path):
    """Run two processes through the real command line."""
    model = make_model()
    sample_states(load_model(model), tmp_path / "one.zarr", SampleConfig(sequences=130, length=20), seed=7)
    flags = ["--sequences", "130", "--length", "20", "--seed", "7", "--device", "cpu"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "gatescope.analysis.cli"]
    done = subprocess.run(
        [*command, "sample", str(model), "--out", str(tmp_path / "two.zarr"), *flags],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{tmp_path / 'two.zarr'}: 2,600 characters\n"
    assert contents(tmp_path / "two.zarr") == contents(tmp_path / "one.zarr")
    assert sorted(file.name for file in tmp_path.glob("*.zarr")) == ["one.zarr", "two.zarr"]
