"""Tests of reading a state dump: values, text, alignment, and every kind of damage."""

import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray
import zarr

from gatescope.engine.dump import StateDump, attributes_checksum
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.errors import InputError

N, H, BLOCK = 1000, 5, 128
NAMES = ["layer0/h", "layer0/c", "layer0/gates/i", "layer1/h", "layer1/c", "layer1/gates/i"]
VOCABULARY = ["\n", " ", "a", "ä", "\0", "€", "𝄞", "\u2028", "z"]
STARTS = np.array([0, 100, 101, 300, 384, 700, 999, 1000], dtype=np.int64)
DOCUMENTS = np.array([0, 300, 999, 1000], dtype=np.int64)
RANDOM = np.random.default_rng(0)
STATES = {name: RANDOM.normal(size=(N, H)).astype(np.float32) for name in NAMES}
INITIAL = {name: RANDOM.normal(size=(len(STARTS) - 1, H)).astype(np.float32) for name in NAMES if "gates" not in name}
TOKENS = RANDOM.integers(0, len(VOCABULARY), N)
ATTRIBUTES = {"vocabulary": VOCABULARY, "alignment": "post", "temperature": 0.8, "cell": "lstm", "config": {"seed": 1}}


def write(path, dtype="float16", rows=N):
    spec = DumpSpec(
        arrays=dict.fromkeys(NAMES, H),
        sequence_starts=STARTS,
        document_starts=DOCUMENTS,
        initial=("h", "c"),
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(dtype),
        attributes=ATTRIBUTES,
        block_rows=BLOCK,
    )
    writer = DumpWriter(path, spec)
    writer.write_initial(0, INITIAL)
    writer.append(0, TOKENS[:rows], {name: values[:rows] for name, values in STATES.items()})
    if rows == N:
        writer.close()
    else:
        writer.__exit__(KeyboardInterrupt)
    return path


@pytest.fixture(scope="module", params=["float16", "float32"])
def path(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("dump") / "states.zarr", request.param)


@pytest.fixture(scope="module")
def dump(path):
    return StateDump.open(path)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("original") / "states.zarr")


@pytest.fixture
def own(original, tmp_path):
    """The path of a dump that a test may damage."""
    return shutil.copytree(original, tmp_path / "own.zarr")


def stored(name, dump):
    return STATES[name].astype(dump.dtype)


def test_states(dump):
    assert dump.names == NAMES
    for name in NAMES:
        assert dump.array(name).dtype == dump.dtype
        assert np.array_equal(np.asarray(dump.array(name)), stored(name, dump))
    assert [array.name for array in dump["h"]] == ["layer0/h", "layer1/h"]
    assert dump["gates/i"][1] is dump.array("layer1/gates/i")
    assert np.array_equal(dump["c"][0][120:140, 1:3], stored("layer0/c", dump)[120:140, 1:3])


def test_the_rest(dump):
    assert dump.n_rows == dump.committed_rows == N
    assert np.array_equal(dump.tokens, TOKENS) and dump.tokens.dtype == np.uint8
    assert np.array_equal(dump.sequence_starts, STARTS)
    assert np.array_equal(dump.document_starts, DOCUMENTS)
    assert dump.attributes == ATTRIBUTES and dump.vocabulary == VOCABULARY
    for name, values in INITIAL.items():
        assert np.array_equal(dump.initial(name), values.astype(dump.dtype))
    assert "rows=1000, sequences=7" in repr(dump)


def test_sequence_ids(dump):
    ids = [sequence for sequence in range(7) for _ in range(STARTS[sequence], STARTS[sequence + 1])]
    assert dump.sequence_ids.tolist() == ids


def test_text(dump):
    text = "".join(VOCABULARY[token] for token in TOKENS)
    assert dump.text() == text
    assert dump.text(130, 257) == text[130:257]
    assert dump.text(5, 5) == ""
    assert list(dump.documents()) == [(a, b, text[a:b]) for a, b in ((0, 300), (300, 999), (999, 1000))]


def test_features_after_the_character(dump):
    features = dump.features(["layer1/c", "layer0/gates/i"])
    assert features.dtype == dump.dtype
    assert np.array_equal(features, np.hstack([stored("layer1/c", dump), stored("layer0/gates/i", dump)]))
    assert dump.features([]).shape == (N, 0)


def test_features_before_the_character(dump):
    features = dump.features(["layer0/h", "layer1/c"], alignment="pre")
    for row in range(N):
        for name, part in (("layer0/h", features[row, :H]), ("layer1/c", features[row, H:])):
            sequence = np.flatnonzero(np.equal(STARTS, row))
            before = INITIAL[name][sequence[0]].astype(dump.dtype) if len(sequence) else stored(name, dump)[row - 1]
            assert np.array_equal(part, before)


def test_what_is_not_there(dump):
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


def test_zarr_alone_reads_it(path):
    """In a process without gatescope, and with every warning an error."""
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


def test_xarray_reads_it(path, dump):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xarray.open_datatree(path, engine="zarr")
    assert dict(tree["layer1/gates/i"].sizes) == {"row": N, "unit": H}
    assert dict(tree["initial/layer1/c"].sizes) == {"sequence": 7, "unit": H}
    assert np.array_equal(np.asarray(tree["layer1/gates/i"]), stored("layer1/gates/i", dump))
    assert np.array_equal(np.asarray(tree["tokens"]), TOKENS)
    assert tree.attrs["temperature"] == 0.8
    assert np.array_equal(tree["layer0"]["h"].isel(row=slice(3, 5), unit=2), stored("layer0/h", dump)[3:5, 2])


def rewritten(original, path):
    """A copy that zarr-python wrote with other codecs and without consolidated metadata."""
    theirs = zarr.open_group(original, mode="r")
    copy = zarr.create_group(path, attributes=theirs.attrs.asdict())
    for name, member in theirs.members(max_depth=None):
        if isinstance(member, zarr.Array):
            codec = zarr.codecs.ZstdCodec()
            copy.create_array(name, data=np.asarray(member[:]), chunks=member.chunks, compressors=codec)
    return path


@pytest.mark.parametrize("consolidated", [{}, {"consolidated_metadata": None}], ids=["absent", "null"])
def test_compressed_by_another_program(original, tmp_path, consolidated):
    """Another program's copy is still a dump."""
    path = rewritten(original, tmp_path / "copy.zarr")
    group = json.loads((path / "zarr.json").read_text())
    group.pop("consolidated_metadata", None)
    (path / "zarr.json").write_text(json.dumps(group | consolidated))
    dump = StateDump.open(path)
    assert dump.verify() == []
    assert np.array_equal(dump.features(["layer1/h"], "pre"), StateDump.open(original).features(["layer1/h"], "pre"))
    assert dump.text() == StateDump.open(original).text()
    (tmp_path / "copy.zarr" / "layer1" / "h" / "c" / "3" / "0").write_bytes(b"not zstd")
    assert [problem[:37] for problem in dump.verify()] == ["layer1/h: block 3 (rows 384 to 511) c"]


def test_a_whole_dump_has_no_problem(dump):
    assert dump.verify() == []


def test_what_is_not_whole_is_refused_with_all_faults(own):
    StateDump.open(own).require_whole()
    for file in ("layer1/h/c.3.0", "tokens/c.0"):
        (own / file).unlink()
    with pytest.raises(InputError, match=r"own\.zarr is not whole: tokens: .*; layer1/h: .*; record the states again$"):
        StateDump.open(own).require_whole()


def problems(path):
    return StateDump.open(path, finished=False).verify()


@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("layer1/h/c.3.0", r"layer1/h: block 3 (rows 384 to 511)"),
        ("layer0/gates/i/c.7.0", "layer0/gates/i: block 7 (rows 896 to 999)"),
        ("tokens/c.0", "tokens: block 0 (rows 0 to 127)"),
        ("initial/layer0/c/c.0.0", "initial/layer0/c: block 0 (rows 0 to 6)"),
    ],
)
def test_damaged_blocks_are_named(own, file, where):
    data = (own / file).read_bytes()
    (own / file).write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    assert problems(own) == [f"{where} does not match its checksum"]
    (own / file).write_bytes(data[:-9])
    size = f"{len(data) - 9} bytes, expected {len(data)}"
    assert problems(own) == [f"{where} is truncated: {size}; write the dump again"]
    (own / file).unlink()
    assert problems(own) == [f"{where} is missing: write the dump again"]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_folder_in_the_place_of_a_block(small_dump, tmp_path, compression):
    path = small_dump(tmp_path / "s.zarr", compression=compression)
    block = path / "layer0/h/c.0.0"
    block.unlink()
    block.mkdir()
    (problem,) = problems(path)
    assert problem.startswith("layer0/h: block 0") and "is a folder, expected a file" in problem
    with pytest.raises(InputError, match="is a folder, expected a file"):
        StateDump.open(path).array("layer0/h")[:2, :1].sum()


@pytest.mark.parametrize(
    ("one", "other"),
    [("layer1/h/c.3.0", "layer1/h/c.2.0"), ("layer1/h/c.3.0", "layer0/c/c.3.0"), ("tokens/c.0", "tokens/c.1")],
)
def test_whole_blocks_in_each_other_s_places(own, one, other):
    data = [(own / file).read_bytes() for file in (one, other)]
    for file, content in zip((other, one), data, strict=True):
        (own / file).write_bytes(content)
    expected = "its blocks are whole, but not those that were written: some are exchanged, or another's"
    assert problems(own) == [expected]
    for file, content in zip((one, other), data, strict=True):
        (own / file).write_bytes(content)
    assert problems(own) == []


@pytest.mark.parametrize("name", ["layer0/h", "sequence_starts", "initial/layer1/c", "all"])
def test_blocks_that_another_program_cuts_otherwise_are_no_fault(original, tmp_path, name):
    theirs = zarr.open_group(original, mode="r")
    copy = zarr.create_group(tmp_path / "copy.zarr", attributes=theirs.attrs.asdict())
    for each, member in theirs.members(max_depth=None):
        if isinstance(member, zarr.Array):
            rows = max(1, member.chunks[0] // 2) if name in (each, "all") else member.chunks[0]
            codec = zarr.codecs.Crc32cCodec()
            copy.create_array(each, data=np.asarray(member[:]), chunks=(rows, *member.chunks[1:]), compressors=codec)
    assert problems(tmp_path / "copy.zarr") == []


def test_a_compressed_dump_that_another_program_writes_plainly_is_whole(small_dump, tmp_path):
    theirs = zarr.open_group(small_dump(tmp_path / "s.zarr", compression="zstd"), mode="r")
    copy = zarr.create_group(tmp_path / "copy.zarr", attributes=theirs.attrs.asdict())
    for each, member in theirs.members(max_depth=None):
        if isinstance(member, zarr.Array):
            codec = zarr.codecs.Crc32cCodec()
            copy.create_array(each, data=np.asarray(member[:]), chunks=member.chunks, compressors=codec)
    assert problems(tmp_path / "copy.zarr") == []


def test_a_block_with_a_right_checksum_may_still_be_wrong(own):
    zarr.open_array(own / "layer1/c", mode="r+")[130, 4] = np.nan
    zarr.open_array(own / "tokens", mode="r+")[999] = len(VOCABULARY)
    expected = ["tokens: block 7 goes beyond the vocabulary's 9 characters", "layer1/c: nan at row 130, unit 4"]
    assert problems(own) == expected
    with pytest.raises(InputError, match="token 9 in a vocabulary of 9"):
        StateDump.open(own).text()


def test_metadata_of_an_array_that_differ(own):
    file = own / "layer0" / "c" / "zarr.json"
    file.write_text(file.read_text().replace("float16", "float32"))
    assert problems(own) == ["layer0/c: its zarr.json is missing or differs from what the group's says of it"]
    file.unlink()
    assert len(problems(own)) == 1


@pytest.mark.parametrize(
    ("before", "after"), [('"seed": 1', '"seed": 2'), ('"ä"', '"u"'), ('"block_rows": 128', '"block_rows": 129')]
)
def test_altered_attributes(own, before, after):
    file = own / "zarr.json"
    group = json.loads(file.read_text())
    text = json.dumps(group["attributes"], ensure_ascii=False)
    assert before in text
    group["attributes"] = json.loads(text.replace(before, after, 1))
    file.write_text(json.dumps(group))
    assert problems(own) == ["zarr.json: its attributes do not match their checksum, something altered them"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("checksum", "its attributes do not match their checksum, something altered them"),
        ("blocks", "it has no digest of the blocks, something altered it"),
    ],
)
def test_a_checksum_that_was_removed(own, entry, problem):
    edit(own, lambda group, header, arrays: header.pop(entry))
    assert problems(own) == [f"zarr.json: {problem}"]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("compression", ["none", "zstd", "of another program"])
def test_a_dump_that_is_replaced_while_it_is_read(small_dump, tmp_path, compression, times):
    """The second replacement is likely to be given the inode of the first dump's folder."""
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
        with pytest.raises(InputError, match=r"\.zarr was replaced while it was read: open it again"):
            read()
    assert np.array_equal(held, expected)
    assert StateDump.open(path).verify() == []


def test_unfinished(tmp_path):
    path = write(tmp_path / "states.zarr", rows=700)
    with pytest.raises(InputError, match=r"is not finished: 640 of 1000 rows are written; repeat the command"):
        StateDump.open(path)
    dump = StateDump.open(path, finished=False)
    assert dump.verify() == ["not finished: 640 of 1000 rows are written"]
    assert np.array_equal(dump["h"][0][:640], STATES["layer0/h"][:640].astype(np.float16))
    (path / "layer0" / "h" / "c.4.0").unlink()
    assert len(dump.verify()) == 2


def test_not_a_dump(tmp_path):
    with pytest.raises(InputError, match="missing does not exist"):
        StateDump.open(tmp_path / "missing")
    (tmp_path / "text").write_text("x")
    (tmp_path / "empty").mkdir()
    zarr.create_group(tmp_path / "foreign.zarr", attributes={"gatescope": "something else"})
    zarr.create_array(tmp_path / "array.zarr", shape=(3,), dtype="float32")
    for name in ("text", "empty", "foreign.zarr", "array.zarr"):
        with pytest.raises(InputError, match=f"{name} is not a state dump: expected a folder that"):
            StateDump.open(str(tmp_path / name))


def edit(own, change):
    file = own / "zarr.json"
    group = json.loads(file.read_text())
    change(group, group["attributes"]["gatescope"], group["consolidated_metadata"]["metadata"])
    file.write_text(json.dumps(group))


BLOCKED = ["tokens", "sequence_starts", "layer0/c", "initial/layer0/h"]


def no_rows(document):
    document["chunk_grid"]["configuration"]["chunk_shape"][0] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda group, header, arrays: header.update(version=2), "is a dump of version 2, expected 1"),
        (lambda group, header, arrays: header.pop("rows"), "is damaged: 1000 of None rows"),
        (lambda group, header, arrays: header.update(rows=999), "is damaged: 1000 of 999 rows are written"),
        (lambda group, header, arrays: header.update(rows=1001, rows_committed=1001), r"expected \(1001, 5\)"),
        (lambda group, header, arrays: header.update(rows_committed=-1), "is damaged: -1 of 1000 rows"),
        (lambda group, header, arrays: header.update(rows=float("inf")), "is damaged: 1000 of inf rows"),
        (lambda group, header, arrays: header["arrays"].update({"layer0/h": 6}), r"layer0/h has the shape \(1000, 5\)"),
        (lambda group, header, arrays: header.update(dtype="float32"), "has the dtype float16, expected float32"),
        (lambda group, header, arrays: arrays.pop("layer1/c"), "is damaged: KeyError"),
        (lambda group, header, arrays: arrays["layer0/c"].update(shape=[7, 5]), r"layer0/c has the shape \(7, 5\)"),
        (lambda group, header, arrays: arrays["tokens"].update(data_type="int8"), "tokens are not 1000 unsigned"),
        (lambda group, header, arrays: arrays["layer0/c"].update(codecs=[]), "is damaged"),
        *(
            (lambda group, header, arrays, name=name: no_rows(arrays[name]), r"has blocks of the shape \(0,")
            for name in BLOCKED
        ),
        (lambda group, header, arrays: header["initial"].append("layer0/gates"), "layer0/gates"),
        (lambda group, header, arrays: group["attributes"].pop("vocabulary"), "is damaged: KeyError: 'vocabulary'"),
        (lambda group, header, arrays: group["attributes"].update(vocabulary=["ab"]), "not a list of characters"),
        (lambda group, header, arrays: group["attributes"].update(alignment="pre"), "alignment 'pre', expected 'post'"),
    ],
)
def test_damaged_metadata(own, change, message):
    edit(own, change)
    with pytest.raises(InputError, match=message) as error:
        StateDump.open(own)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, "many", 7.5])
def test_a_header_without_a_number_of_rows_in_a_block(own, value):
    def change(group, header, arrays):
        header.pop("block_rows") if value is None else header.update(block_rows=value)
        header["checksum"] = attributes_checksum(group["attributes"])

    edit(own, change)
    assert problems(own) == []


@pytest.mark.parametrize("values", [[0, 300, 200, 1000], [1, 300, 999, 1000], [0, 300, 300, 1000], [0, 300, 999, 998]])
def test_damaged_document_starts(own, values):
    zarr.open_array(own / "document_starts", mode="r+")[:] = values
    with pytest.raises(InputError, match="document_starts does not rise from 0 to 1000"):
        StateDump.open(own)


def test_group_file_that_is_not_json(own):
    file = own / "zarr.json"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is damaged: zarr.json is not JSON"):
        StateDump.open(own)


def test_random_damage_gives_one_line_or_a_dump(own):
    """Bytes changed, cut out or doubled anywhere in the group's metadata."""
    file = own / "zarr.json"
    whole = file.read_bytes()
    random = np.random.default_rng(7)
    opened = 0
    for _ in range(150):
        data = bytearray(whole)
        place, length = int(random.integers(len(data))), int(random.integers(1, 9))
        kind = random.integers(3)
        if kind == 0:
            data[place] = int(random.integers(32, 127))
        elif kind == 1:
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length]
        file.write_bytes(data)
        try:
            StateDump.open(own).verify()
            opened += 1
        except InputError as error:
            assert "\n" not in str(error)
    assert 0 < opened < 150


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory of the process")
@pytest.mark.parametrize("n_blocks", [8, pytest.param(1250, marks=pytest.mark.slow)], ids=["64 MiB", "10 GB"])
def test_iterating_holds_less_than_one_block(tmp_path, n_blocks):
    """Of its own the reading process holds what it copied, and of the mapped file the blocks that are still in use."""
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
        "for columns in (None, [1, 2, 300]):\n"
        "    for block in hidden.blocks(columns=columns):\n"
        "        block.max()\n"
        "        sizes.append(resident())\n"
        "most = [max(each) for each in zip(*sizes)]\n"
        "print(len(sizes), *(peak - begun for peak, begun in zip(most, before)), most[0])\n"
    )
    run = [sys.executable, "-c", program, tmp_path / "states.zarr"]
    done = subprocess.run(run, capture_output=True, check=True, text=True).stdout
    blocks, growth, mapped, most = map(int, done.split())
    assert blocks == 2 * n_blocks
    assert growth * 1024 < block.nbytes
    # The block in use and the one before, which the name holds until the next is there.
    assert mapped * 1024 < 3 * block.nbytes
    assert most * 1024 < 1e9
