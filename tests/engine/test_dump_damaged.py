"""Reading a dump names every kind of damage, and finds none in a copy written by another program."""

import copy
import functools
import json
import shutil

import numpy as np
import pytest
import zarr
from known_dump import VOCABULARY, rewritten, write

from gatescope.engine.dump import StateDump, attributes_checksum
from gatescope.engine.errors import InputError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("original") / "states.zarr")


@pytest.fixture
def own(original, tmp_path):
    """The path of a dump that a test may damage."""
    return shutil.copytree(original, tmp_path / "own.zarr")


@pytest.mark.parametrize("consolidated", [{}, {"consolidated_metadata": None}], ids=["absent", "null"])
def test_a_copy_written_by_another_program_is_read(original, tmp_path, consolidated):
    """A copy written by another program is still a dump."""
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


def test_a_damaged_dump_is_refused_with_all_faults_listed(own):
    StateDump.open(own).require_whole()
    for file in ("layer1/h/c.3.0", "tokens/c.0"):
        (own / file).unlink()
    with pytest.raises(InputError, match=r"own\.zarr is damaged: tokens: .*; layer1/h: .*; record the states again$"):
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
def test_a_folder_in_place_of_a_block_is_reported(small_dump, tmp_path, compression):
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
def test_swapped_blocks_are_reported(own, one, other):
    data = [(own / file).read_bytes() for file in (one, other)]
    for file, content in zip((other, one), data, strict=True):
        (own / file).write_bytes(content)
    expected = "its blocks are whole, but not those that were written: some were swapped or come from another dump"
    assert problems(own) == [expected]
    for file, content in zip((one, other), data, strict=True):
        (own / file).write_bytes(content)
    assert problems(own) == []


@pytest.mark.parametrize("name", ["layer0/h", "sequence_starts", "initial/layer1/c", "all"])
def test_another_chunk_layout_of_another_program_is_accepted(original, tmp_path, name):
    theirs = zarr.open_group(original, mode="r")
    copy = zarr.create_group(tmp_path / "copy.zarr", attributes=theirs.attrs.asdict())
    for each, member in theirs.members(max_depth=None):
        if isinstance(member, zarr.Array):
            rows = max(1, member.chunks[0] // 2) if name in (each, "all") else member.chunks[0]
            codec = zarr.codecs.Crc32cCodec()
            copy.create_array(each, data=np.asarray(member[:]), chunks=(rows, *member.chunks[1:]), compressors=codec)
    assert problems(tmp_path / "copy.zarr") == []


def test_a_dump_decompressed_by_another_program_is_intact(small_dump, tmp_path):
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
    expected = ["tokens: block 7 goes beyond the vocabulary's 9 entries", "layer1/c: nan at row 130, unit 4"]
    assert problems(own) == expected
    with pytest.raises(InputError, match="token 9 in a vocabulary of 9 entries"):
        StateDump.open(own).text()


def test_initial_states_of_all_started_sequences_are_checked(own, tmp_path):
    zarr.open_array(own / "initial/layer0/c", mode="r+")[6, 2] = np.inf
    assert problems(own) == ["initial/layer0/c: inf at row 6, unit 2"]
    # The last committed row belongs to the fifth sequence.
    unfinished = write(tmp_path / "states.zarr", rows=700)
    initial = zarr.open_array(unfinished / "initial/layer0/c", mode="r+")
    initial[5] = np.nan
    assert problems(unfinished) == ["not finished: 640 of 1000 rows are written"]
    initial[4, 0] = np.nan
    assert problems(unfinished)[1:] == ["initial/layer0/c: nan at row 4, unit 0"]


def test_differing_metadata_of_an_array_are_reported(own):
    file = own / "layer0" / "c" / "zarr.json"
    file.write_text(file.read_text().replace("float16", "float32"))
    assert problems(own) == ["layer0/c: its zarr.json is missing or differs from the group's description"]
    file.unlink()
    assert len(problems(own)) == 1


@pytest.mark.parametrize(
    ("before", "after"), [('"seed": 1', '"seed": 2'), ('"ä"', '"u"'), ('"block_rows": 128', '"block_rows": 129')]
)
def test_altered_attributes_are_reported(own, before, after):
    file = own / "zarr.json"
    group = json.loads(file.read_text())
    text = json.dumps(group["attributes"], ensure_ascii=False)
    assert before in text
    group["attributes"] = json.loads(text.replace(before, after, 1))
    file.write_text(json.dumps(group))
    assert problems(own) == ["zarr.json: its attributes do not match their checksum: they were altered"]


def test_attributes_may_be_in_any_order(own):
    file = own / "zarr.json"
    group = json.loads(file.read_text())
    group["attributes"] = dict(reversed(group["attributes"].items()))
    group["attributes"]["gatescope"] = dict(reversed(group["attributes"]["gatescope"].items()))
    file.write_text(json.dumps(group))
    assert problems(own) == []


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("checksum", "its attributes do not match their checksum: they were altered"),
        ("blocks", "it has no digest of the blocks: it was altered"),
    ],
)
def test_a_removed_checksum_is_reported(own, entry, problem):
    edit(own, lambda group, header, arrays: header.pop(entry))
    assert problems(own) == [f"zarr.json: {problem}"]


def edit(own, change):
    file = own / "zarr.json"
    group = json.loads(file.read_text())
    change(group, group["attributes"]["gatescope"], group["consolidated_metadata"]["metadata"])
    file.write_text(json.dumps(group))


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
        (lambda group, header, arrays: header["initial"].append("layer0/gates"), "layer0/gates"),
        (lambda group, header, arrays: group["attributes"].pop("vocabulary"), "is damaged: KeyError: 'vocabulary'"),
        (
            lambda group, header, arrays: group["attributes"].update(vocabulary=["ab", ""]),
            "not a list of characters or",
        ),
        (lambda group, header, arrays: group["attributes"].update(alignment="pre"), "alignment 'pre', expected 'post'"),
    ],
)
def test_damaged_metadata_are_refused_in_one_line(own, change, message):
    edit(own, change)
    with pytest.raises(InputError, match=message) as error:
        StateDump.open(own)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*stored chunk shape")
@pytest.mark.parametrize("name", ["tokens", "sequence_starts", "layer0/c", "initial/layer0/h"])
def test_blocks_without_rows_are_refused(own, name):
    """By their shape, or by their size: zarr-python 3.4 reads 0 rows as 1."""

    def change(group, header, arrays):
        arrays[name]["chunk_grid"]["configuration"]["chunk_shape"][0] = 0

    edit(own, change)
    with pytest.raises(InputError, match=r"has blocks of the shape \(0,|is too long"):
        StateDump.open(own).require_whole()


@pytest.mark.parametrize("value", [None, "many", 7.5])
def test_a_header_without_block_rows_is_accepted(own, value):
    def change(group, header, arrays):
        header.pop("block_rows") if value is None else header.update(block_rows=value)
        header["checksum"] = attributes_checksum(group["attributes"])

    edit(own, change)
    assert problems(own) == []


@pytest.mark.parametrize("values", [[0, 300, 200, 1000], [1, 300, 999, 1000], [0, 300, 300, 1000], [0, 300, 999, 998]])
def test_damaged_document_starts_are_refused(own, values):
    zarr.open_array(own / "document_starts", mode="r+")[:] = values
    with pytest.raises(InputError, match="document_starts does not increase from 0 to 1000"):
        StateDump.open(own)


def test_a_group_file_that_is_not_json_is_refused(own):
    file = own / "zarr.json"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is damaged: zarr.json is not JSON"):
        StateDump.open(own)


def test_random_damage_gives_a_one_line_error_or_a_dump(own):
    """Bytes of the group's metadata are changed, cut out or doubled anywhere."""
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


STRANGE = [None, True, 0, 1.0, 2, -1, 2**70, 1e999, "", "uint8", "little", "zstd", ".", "/", [], [1], {}]


def places(value, place=()):
    """Yield the path to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*place, key)
        yield from places(child, (*place, key))


def test_metadata_of_another_shape_give_a_one_line_error_or_a_dump(own):
    """A value of the group's metadata is removed, or replaced by something odd."""
    file = own / "zarr.json"
    whole = json.loads(file.read_text())
    random = np.random.default_rng(3)
    opened, every = 0, list(places(whole))
    for number in random.choice(len(every), 200, replace=False):
        *outer, last = every[number]
        document = copy.deepcopy(whole)
        parent = functools.reduce(lambda value, key: value[key], outer, document)
        if random.random() < 0.3:
            del parent[last]
        else:
            parent[last] = STRANGE[random.integers(len(STRANGE))]
        file.write_text(json.dumps(document))
        try:
            StateDump.open(own).verify()
            opened += 1
        except InputError as error:
            assert "\n" not in str(error)
    assert 0 < opened < 200
