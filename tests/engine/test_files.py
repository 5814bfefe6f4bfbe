"""Files are either whole or not there."""

import json
import os
import resource
import signal
import stat
import sys

import pytest

from gatescope.engine.files import (
    PARTIAL,
    exchange,
    partial_name,
    remove_partial,
    remove_partial_of,
    write_atomic,
    write_json,
    write_new,
)


@pytest.fixture
def small_files():
    """Let no file grow beyond 1000 bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "data", [b"", b"new", bytearray(b"new"), memoryview(b"new")], ids=["empty", "bytes", "array", "view"]
)
def test_write_atomic_replaces_the_whole_file(tmp_path, data):
    file = tmp_path / "file"
    file.write_bytes(b"an older and longer content")
    write_atomic(str(file), data)
    assert file.read_bytes() == bytes(data)
    assert os.listdir(tmp_path) == ["file"]


def test_write_atomic_gives_the_permissions_of_any_new_file(tmp_path):
    write_atomic(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")}
    assert len(modes) == 1


def test_write_atomic_leaves_the_old_file_when_the_disk_is_full(tmp_path, small_files):
    file = tmp_path / "file"
    write_atomic(file, b"old")
    with pytest.raises(OSError, match="too large"):
        write_atomic(file, bytes(3000))
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_new_file_is_gone_when_the_disk_is_full(tmp_path, small_files):
    write_new(tmp_path / "file", b"another, which it replaces")
    with pytest.raises(OSError, match="too large"):
        write_new(tmp_path / "file", bytes(3000))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("platform", [sys.platform, "darwin"])
def test_folders_change_names(tmp_path, monkeypatch, platform):
    """In one step where the system can, in three elsewhere."""
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"was {name}").touch()
    exchange(tmp_path / "new", tmp_path / "old")
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]
    assert (os.listdir(tmp_path / "new"), os.listdir(tmp_path / "old")) == (["was old"], ["was new"])


def test_write_atomic_does_not_create_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("event", ["open", "os.rename"])
def test_write_atomic_survives_a_kill_while_writing(tmp_path, event):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    child = os.fork()
    if child == 0:
        # Audit hooks run before the event: at `open` nothing is there yet, at the rename everything is.
        sys.addaudithook(lambda name, _: os.kill(os.getpid(), signal.SIGKILL) if name == event else None)
        write_atomic(file, b"new")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert file.read_bytes() == b"old"
    remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the name behind a descriptor")
def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """No test can cut the power, so this one records the order of the real calls."""
    calls = []

    def note(name, call):
        def noted(first, *rest):
            where = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
            calls.append((name, os.path.basename(where)))
            return call(first, *rest)

        monkeypatch.setattr(os, name, noted)

    note("fsync", os.fsync)
    note("replace", os.replace)
    write_atomic(tmp_path / "file", b"new")
    (_, partial), *_ = calls
    assert PARTIAL.fullmatch(partial)
    assert calls == [("fsync", partial), ("replace", partial), ("fsync", tmp_path.name)]


def test_remove_partial_removes_only_partial_files(tmp_path):
    kept = ["states.partial", "a.0123.partial", "b.txt", "inner/c.0123456789abcdef0123456789abcdef.partial.txt"]
    for name in kept:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    partial_name(tmp_path / "inner" / "line\nbreak").write_bytes(b"")
    folder = partial_name(tmp_path / "states.zarr")
    folder.mkdir()
    (folder / "inside").write_bytes(b"")
    remove_partial(tmp_path)
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()) == sorted(kept)
    assert not folder.exists()


def test_remove_partial_of_removes_only_leftovers_of_one_file(tmp_path):
    path = tmp_path / "text.txt"
    left, others = partial_name(path), [path, tmp_path / "text.txt.bak", partial_name(tmp_path / "text2.txt")]
    for each in (left, *others):
        each.write_text("x")
    folder = partial_name(path)
    folder.mkdir()
    remove_partial_of(path)
    assert sorted(tmp_path.iterdir()) == sorted([*others, folder])


def test_partial_names_differ(tmp_path):
    first, second = partial_name(tmp_path / "file"), partial_name(tmp_path / "file")
    assert first != second
    assert first.parent == tmp_path
    assert PARTIAL.fullmatch(first.name)


def test_write_json_round_trips_as_ascii(tmp_path):
    file = tmp_path / "value.json"
    value = {"b": [1, 2.5, None, True], "a": {"z": "ä\udcff\n", "y": 0.1}}
    write_json(file, value)
    text = file.read_text(encoding="ascii")
    assert json.loads(text) == value
    assert text.endswith("}\n") and text.index('"b"') < text.index('"a"')
    assert "\n  " in text


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_write_json_refuses_nonfinite_numbers(tmp_path, number):
    file = tmp_path / "value.json"
    write_json(file, 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"score": number})
    assert file.read_text() == "1\n"
