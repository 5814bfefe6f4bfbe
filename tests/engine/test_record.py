"""record.py: the room and the precision that recording needs, and what a failed attempt leaves."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from sampled_states import sampled

from gatescope.engine import dump_writer, walk
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError
from gatescope.engine.free_memory import size
from gatescope.engine.resume_points import RESUME_FILE
from gatescope.engine.sample import SampleConfig, sample_in_memory


def test_bfloat16_is_only_for_memory_and_16_bit_precision_only_for_gpus(lstm):
    config = SampleConfig(sequences=3, length=5, dtype="float32")
    states, wide = sample_in_memory(lstm, config, dtype=torch.bfloat16), sample_in_memory(lstm, config)
    assert states.arrays["layer0/c"].dtype == torch.bfloat16
    assert torch.equal(states.arrays["layer0/c"], wide.arrays["layer0/c"].bfloat16())
    with pytest.raises(InputError, match="--dtype 'bfloat16' is unknown: expected float16 or float32"):
        SampleConfig(dtype="bfloat16")
    with pytest.raises(InputError, match="--precision float16 needs a GPU"):
        sample_in_memory(lstm, SampleConfig(precision="float16"))


def test_dumps_too_large_for_the_disk_are_refused_without_files(lstm, tmp_path):
    with pytest.raises(
        InputError, match=r"its states take 8[0-9],[0-9,.]+ GB and the disk has .* GB free: record fewer"
    ):
        sampled(lstm, tmp_path / "s.zarr", sequences=1000, length=10**9)
    assert not any(tmp_path.glob("s.zarr*"))
    assert sampled(lstm, tmp_path / "s.zarr", sequences=2, length=5).n_rows == 10


def test_a_dump_too_large_for_the_disk_replaces_nothing(lstm, tmp_path, monkeypatch):
    path = tmp_path / "s.zarr"
    before = sampled(lstm, path, sequences=2, length=5000).text()
    n_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
        with pytest.raises(InputError, match=f"the disk has {size(n_bytes + 1000)} free"):
            sampled(lstm, path, sequences=2, length=10_000, overwrite=True)
        assert StateDump.open(path).text() == before
        # The dump that is replaced makes room for the new one.
        assert sampled(lstm, path, sequences=2, length=4000, overwrite=True).n_rows == 8000


def test_free_space_is_checked_on_the_target_of_a_link(lstm, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "large" / "disk" / "s.zarr")
    rooms = {tmp_path: 1000, tmp_path / "large" / "disk": 10**9}
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=rooms[place]))
    assert sampled(lstm, tmp_path / "link", sequences=2, length=5000).n_rows == 10_000
    assert (tmp_path / "link").is_symlink() and (tmp_path / "large/disk/s.zarr/zarr.json").exists()


def test_a_dump_that_cannot_be_opened_leaves_no_files(lstm, tmp_path, monkeypatch):
    def fails(*arguments):
        raise MemoryError("too large")

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(dump_writer, "BlockWriter", fails)
        sampled(lstm, tmp_path / "s.zarr", length=7)
    assert not any(tmp_path.glob("s.zarr*"))
    sampled(lstm, tmp_path / "s.zarr", length=5)
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(dump_writer, "BlockWriter", fails)
        sampled(lstm, tmp_path / "s.zarr", length=5)
    assert StateDump.open(tmp_path / "s.zarr").verify() == []


def test_a_resumed_dump_reuses_its_allocated_space(lstm, tmp_path, monkeypatch):
    """Its blocks take their full length on the disk from the start, whether their rows count yet or not."""
    config = {"sequences": 4, "length": 300}
    count_steps = DumpWriter.count_steps

    def count(self, point, start):
        count_steps(self, point, start)
        raise KeyboardInterrupt

    monkeypatch.setattr(walk, "PIECE_BYTES", 1)
    for committed in (True, False):
        path = tmp_path / str(committed)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(DumpWriter, "count_steps", count)
            sampled(lstm, path, **config)
        if not committed:
            (path / RESUME_FILE).unlink()
        assert StateDump.open(path, finished=False).committed_rows == 0
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
            assert sampled(lstm, path, **config).verify() == []
