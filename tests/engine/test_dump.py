"""Reading a state dump: values, text, alignment, other readers, and dumps that are unfinished or replaced."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray
import zarr
from known_dump import ATTRIBUTES, DOCUMENTS, INITIAL, NAMES, STARTS, STATES, TOKENS, VOCABULARY, H, N, rewritten, write

from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError


@pytest.fixture(scope="module", params=["float16", "float32"])
def path(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("dump") / "states.zarr", request.param)


@pytest.fixture(scope="module")
def dump(path):
    return StateDump.open(path)


def stored(name, dump):
    return STATES[name].astype(dump.dtype)


def test_arrays_are_found_by_name_and_state(dump):
    assert dump.names == NAMES
    for name in NAMES:
        assert dump.array(name).dtype == dump.dtype
        assert np.array_equal(np.asarray(dump.array(name)), stored(name, dump))
    assert [array.name for array in dump["h"]] == ["layer0/h", "layer1/h"]
    assert dump["gates/i"][1] is dump.array("layer1/gates/i")
    assert np.array_equal(dump["c"][0][120:140, 1:3], stored("layer0/c", dump)[120:140, 1:3])


def test_tokens_starts_and_attributes_are_read(dump):
    assert dump.n_rows == dump.committed_rows == N
    assert np.array_equal(dump.tokens, TOKENS) and dump.tokens.dtype == np.uint8
    assert np.array_equal(dump.sequence_starts, STARTS)
    assert np.array_equal(dump.document_starts, DOCUMENTS)
    assert dump.attributes == ATTRIBUTES and dump.vocabulary == VOCABULARY
    for name, values in INITIAL.items():
        assert np.array_equal(dump.initial(name), values.astype(dump.dtype))
    assert "rows=1000, sequences=7" in repr(dump)


def test_sequence_ids_number_the_sequences(dump):
    ids = [sequence for sequence in range(7) for _ in range(STARTS[sequence], STARTS[sequence + 1])]
    assert dump.sequence_ids.tolist() == ids


def test_text_is_decoded_by_the_vocabulary(dump):
    text = "".join(VOCABULARY[token] for token in TOKENS)
    assert dump.text() == text
    assert dump.text(130, 257) == text[130:257]
    assert dump.text(5, 5) == ""
    assert list(dump.documents()) == [(a, b, text[a:b]) for a, b in ((0, 300), (300, 999), (999, 1000))]


def test_post_features_are_the_stored_states(dump):
    features = dump.features(["layer1/c", "layer0/gates/i"])
    assert features.dtype == dump.dtype
    assert np.array_equal(features, np.hstack([stored("layer1/c", dump), stored("layer0/gates/i", dump)]))
    assert dump.features([]).shape == (N, 0)


@pytest.mark.parametrize("alignment", ["post", "pre"])
def test_a_single_name_selects_a_single_array(dump, alignment):
    expected = dump.features(["layer1/c"], alignment)
    assert np.array_equal(dump.features("layer1/c", alignment), expected)
    if alignment == "post":
        assert np.array_equal(dump.states("layer1/c")[:], expected)


def test_pre_features_are_the_states_before_each_character(dump):
    features = dump.features(["layer0/h", "layer1/c"], alignment="pre")
    for row in range(N):
        for name, part in (("layer0/h", features[row, :H]), ("layer1/c", features[row, H:])):
            sequence = np.flatnonzero(np.equal(STARTS, row))
            before = INITIAL[name][sequence[0]].astype(dump.dtype) if len(sequence) else stored(name, dump)[row - 1]
            assert np.array_equal(part, before)


def test_missing_arrays_are_refused(dump):
    with pytest.raises(InputError, match=r"has no 'layer2/h': it has layer0/h, layer0/c, layer0/gates/i, layer1/h"):
        dump.array("layer2/h")
    with pytest.raises(InputError, match="has no 'tokens'"):
        dump.features(["layer0/h", "tokens"])
    with pytest.raises(InputError, match="has no 'gates/f'"):
        dump["gates/f"]
    with pytest.raises(InputError, match="layer0/gates/i has no state before"):
        dump.features(["layer0/gates/i"], alignment="pre")
    with pytest.raises(InputError, match="has no 'h'"):
        dump.initial("h")
    with pytest.raises(InputError, match="'post' or 'pre'"):
        dump.features(["layer0/h"], alignment="before")


def test_zarr_reads_a_dump_without_gatescope(path):
    """zarr-python reads it in a process without gatescope, where every warning is an error."""
    program = (
        "import sys, zarr\n"
        "group = zarr.open_group(sys.argv[1], mode='r')\n"
        "print(group['layer1/c'][500:502, 2].tolist(), float(group['initial/layer0/h'][6, 1]))\n"
        "print(group['tokens'][:3].tolist(), group.attrs['temperature'])\n"
        "print(group['layer0/h'].metadata.dimension_names, 'gatescope' in sys.modules)\n"
    )
    run = [sys.executable, "-W", "error", "-c", program, path]
    lines = subprocess.run(run, capture_output=True, check=True, text=True).stdout.splitlines()
    dtype = StateDump.open(path).dtype
    states, first = STATES["layer1/c"].astype(dtype), INITIAL["layer0/h"].astype(dtype)
    assert lines[0] == f"{states[500:502, 2].tolist()} {float(first[6, 1])}"
    assert lines[1] == f"{TOKENS[:3].tolist()} 0.8"
    assert lines[2] == "('row', 'unit') False"


def test_xarray_reads_a_dump(path, dump):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xarray.open_datatree(path, engine="zarr")
    assert dict(tree["layer1/gates/i"].sizes) == {"row": N, "unit": H}
    assert dict(tree["initial/layer1/c"].sizes) == {"sequence": 7, "unit": H}
    assert np.array_equal(np.asarray(tree["layer1/gates/i"]), stored("layer1/gates/i", dump))
    assert np.array_equal(np.asarray(tree["tokens"]), TOKENS)
    assert tree.attrs["temperature"] == 0.8
    assert np.array_equal(tree["layer0"]["h"].isel(row=slice(3, 5), unit=2), stored("layer0/h", dump)[3:5, 2])


def test_an_intact_dump_has_no_problems(dump):
    assert dump.verify() == []


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("compression", ["none", "zstd", "of another program"])
def test_reading_a_dump_after_it_was_replaced_is_refused(small_dump, tmp_path, compression, times):
    """The second replacement is likely to get the inode of the first dump's folder."""
    path = small_dump(tmp_path / "states.zarr", compression="zstd" if compression == "zstd" else "none")
    if compression == "of another program":
        path = rewritten(path, tmp_path / "theirs.zarr")
    dump = StateDump.open(path)
    held = dump.array("layer0/h")[:16]
    expected = held.copy()
    for number in range(times):
        small_dump(path, seed=number + 1, overwrite=True, lengths=(7, 1, 12, 4 + number))
    for read in (
        *(lambda: dump.tokens, lambda: dump.initial("layer0/h"), lambda: np.asarray(dump.array("layer1/h"))),
        *(lambda: dump.array("layer0/c")[20:23], lambda: dump.array("layer0/c")[-1], dump.verify),
    ):
        with pytest.raises(InputError, match=r"\.zarr was replaced while it was being read: open it again"):
            read()
    assert np.array_equal(held, expected)
    assert StateDump.open(path).verify() == []


def test_an_unfinished_dump_is_refused_by_default(tmp_path):
    path = write(tmp_path / "states.zarr", rows=700)
    with pytest.raises(InputError, match=r"is not finished: 640 of 1000 rows are written; repeat the command"):
        StateDump.open(path)
    dump = StateDump.open(path, finished=False)
    assert dump.verify() == ["not finished: 640 of 1000 rows are written"]
    assert np.array_equal(dump["h"][0][:640], STATES["layer0/h"][:640].astype(np.float16))
    (path / "layer0" / "h" / "c.4.0").unlink()
    assert len(dump.verify()) == 2


def test_paths_that_hold_no_dump_are_refused(tmp_path):
    with pytest.raises(InputError, match="missing does not exist"):
        StateDump.open(tmp_path / "missing")
    (tmp_path / "text").write_text("x")
    (tmp_path / "empty").mkdir()
    zarr.create_group(tmp_path / "foreign.zarr", attributes={"gatescope": "something else"})
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="float32")
    for name in ("text", "empty", "foreign.zarr", "array.zarr"):
        with pytest.raises(InputError, match=f"{name} is not a state dump: expected a folder that"):
            StateDump.open(str(tmp_path / name))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory of the process")
@pytest.mark.parametrize("n_blocks", [8, pytest.param(1250, marks=pytest.mark.slow)], ids=["64 MiB", "10 GB"])
def test_iterating_holds_less_than_one_block(tmp_path, n_blocks):
    """The process owns only the rows that it copied; of the mapped file it holds the blocks still in use."""
    rows, width = 8192, 512
    spec = DumpSpec(
        arrays={"layer0/h": width},
        sequence_starts=np.array([0, n_blocks * rows], dtype=np.int64),
        document_starts=np.array([0, n_blocks * rows], dtype=np.int64),
        initial=(),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float16),
        attributes={"vocabulary": ["a"]},
        block_rows=rows,
    )
    block = np.random.default_rng(0).random((rows, width), dtype=np.float32).astype(np.float16)
    with DumpWriter(tmp_path / "states.zarr", spec) as writer:
        for index in range(n_blocks):
            writer.append(index * rows, np.zeros(rows, np.uint8), {"layer0/h": block})
    program = (
        "import sys\n"
        "from gatescope.engine.dump import StateDump\n"
        "def resident():\n"
        "    status = open('/proc/self/status').read()\n"
        "    return [int(status.split(name + ':')[1].split()[0]) for name in ('RssAnon', 'RssFile')]\n"
        "hidden = StateDump.open(sys.argv[1])['h'][0]\n"
        "before, sizes = resident(), []\n"
        "for columns in (slice(None), [1, 2, 300]):\n"
        "    for block in hidden.blocks():\n"
        "        block[:, columns].max()\n"
        "        sizes.append(resident())\n"
        "most = [max(each) for each in zip(*sizes)]\n"
        "print(len(sizes), *(peak - begun for peak, begun in zip(most, before)), most[0])\n"
    )
    run = [sys.executable, "-c", program, tmp_path / "states.zarr"]
    done = subprocess.run(run, capture_output=True, check=True, text=True).stdout
    blocks, growth, mapped, most = map(int, done.split())
    assert blocks == 2 * n_blocks
    assert growth * 1024 < block.nbytes
    # The block in use and the one before it, which the name holds until the next is assigned.
    assert mapped * 1024 < 3 * block.nbytes
    assert most * 1024 < 1e9
