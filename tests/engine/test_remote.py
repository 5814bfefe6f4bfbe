"""Reading a dump from URLs: fsspec's file system in memory, and a web server on this machine."""

import fsspec
import numpy as np
import pytest
import web_server
import zarr
from web_server import serving

from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.other_dumps import open_states


@pytest.fixture
def web(tmp_path):
    """Serve a folder over HTTP; yield it and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as url:
        yield folder, url


@pytest.fixture
def memory(small_dump, tmp_path):
    """A dump in fsspec's memory, and the same one on disk."""
    path = small_dump(tmp_path / "states.zarr")
    system = fsspec.filesystem("memory")
    system.put(str(path), "/remote", recursive=True)
    yield "memory://remote/states.zarr" if system.exists("/remote/states.zarr") else "memory://remote", path
    system.rm("/remote", recursive=True)


def assert_same(remote, local):
    assert remote.verify() == [] and remote.names == local.names
    assert remote.text() == local.text() and np.array_equal(remote.sequence_starts, local.sequence_starts)
    for name in local.names:
        assert np.array_equal(np.asarray(remote.array(name)), np.asarray(local.array(name)))
    assert np.array_equal(remote.features(["layer1/h"], "pre"), local.features(["layer1/h"], "pre"))
    assert remote.identity() == local.identity()


def test_a_dump_in_memory_equals_one_on_disk(memory):
    url, path = memory
    assert_same(StateDump.open(url), StateDump.open(path))
    assert isinstance(open_states(url), StateDump)
    with pytest.raises(InputError, match="is a URL: copy the dump to this machine"):
        _ = StateDump.open(url).path


def test_a_dump_on_a_web_server_equals_one_on_disk(web, small_dump):
    folder, url = web
    small_dump(folder / "states.zarr")
    assert_same(StateDump.open(f"{url}/states.zarr"), StateDump.open(folder / "states.zarr"))
    with pytest.raises(InputError, match=r"other.zarr does not exist"):
        StateDump.open(f"{url}/other.zarr")


def test_a_dump_is_opened_with_few_requests(web, small_dump, monkeypatch):
    """However many arrays there are: the group's metadata, read by us and by zarr-python, and the bounds."""
    folder, url = web
    small_dump(folder / "states.zarr")
    requests = []
    monkeypatch.setattr(web_server._Quiet, "log_request", lambda self, *_: requests.append(self.path))
    dump = StateDump.open(f"{url}/states.zarr")
    files = ["document_starts/c.0", "sequence_starts/c.0", "zarr.json", "zarr.json"]
    assert sorted(requests) == [f"/states.zarr/{file}" for file in files]
    requests.clear()
    assert dump.array("layer1/c")[20:30].shape == (10, 3)
    assert requests == ["/states.zarr/layer1/c/c.1.0"]


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.h5", "x.safetensors"])
def test_files_that_are_not_zarr_are_refused_at_a_url(web, name):
    folder, url = web
    (folder / name).write_bytes(b"")
    for place in (f"{url}/{name}", f"file://{folder}/{name}"):
        with pytest.raises(
            InputError, match=f"{name} is a URL, but only Zarr can be read from one: copy the file"
        ) as raised:
            open_states(place)
        assert "\n" not in str(raised.value)


def test_damage_is_seen_when_a_block_is_read(memory):
    url, _ = memory
    system = fsspec.filesystem("memory")
    root = url.removeprefix("memory:/")
    for fault, change in (
        ("does not match its checksum", lambda content: content[:9] + bytes([content[9] ^ 4]) + content[10:]),
        ("truncated", lambda content: content[:-5]),
        ("missing", None),
    ):
        key = f"{root}/layer1/c/c.1.0"
        content = system.cat_file(key)
        if change:
            system.pipe_file(key, change(content))
        else:
            system.rm_file(key)
        dump = StateDump.open(url)
        assert len(dump.verify()) == 1 and fault in dump.verify()[0]
        with pytest.raises(InputError, match=rf"layer1/c: block 1 \(rows 16 to 31\) .*{fault}"):
            dump.array("layer1/c")[20]
        system.pipe_file(key, content)


def test_plain_zarr_in_memory_is_read():
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    group = zarr.create_group("memory://plain")
    group.create_array("h", data=values, chunks=(7, 3))
    source = open_states("memory://plain")
    assert source.names == ["h"] and np.array_equal(source.features(["h"]), values)
    fsspec.filesystem("memory").rm("/plain", recursive=True)


@pytest.mark.parametrize("url", ["nonsense://x/y", "http://127.0.0.1:9/states.zarr", "memory://nothing/there"])
def test_an_unreachable_url_is_a_one_line_error(url):
    for reader in (StateDump.open, open_states):
        with pytest.raises(InputError, match=r"cannot be read|does not exist") as raised:
            reader(url)
        assert "\n" not in str(raised.value)
