"""label_table.py and label_columns.py: labels given in a file, each file written by NumPy or pandas."""

import sys
from decimal import Decimal

import numpy as np
import pandas
import pytest

from gatescope.analysis.label_columns import read_columns
from gatescope.analysis.label_table import ids_of, labels_of, read_labels
from gatescope.engine.errors import InputError
from gatescope.engine.other_sequences import Cube

TABLE = pandas.DataFrame(
    {
        "flag": [True, False, True, False],
        "binary": [0, 1, 1, 0],
        "holes": [1.0, np.nan, 0.0, 1.0],
        "depth": [0, 3, 2, 1],
        "angle": [0.5, np.nan, -2.0, 1e30],
        "tag": ["NN", None, "VB", "NN"],
        "maybe": pandas.array([True, None, False, True], dtype="boolean"),
        "sequence_id": [7, 7, 3, 3],
        "token": ["a", "b", "c", "d"],
    }
)


@pytest.fixture(params=["csv", "parquet", "npz"])
def path(request, tmp_path):
    path = tmp_path / f"labels.{request.param}"
    if request.param == "csv":
        TABLE.to_csv(path)  # with pandas's index first, a column without a name
    elif request.param == "parquet":
        TABLE.to_parquet(path)
    else:
        columns = {name: TABLE[name].to_numpy() for name in TABLE.columns if name not in ("tag", "maybe")}
        columns |= {"tag": np.array(["NN", "", "VB", "NN"]), "maybe": np.array([1, np.nan, 0, 1])}
        np.savez(path, **{name: values.astype(str) if name == "token" else values for name, values in columns.items()})
    return path


def test_every_kind_of_column_is_read(path):
    table = read_labels(path)
    values = dict(zip([each.name for each in table.boolean.hypotheses], table.boolean.values.T, strict=True))
    defined = dict(zip(values, table.boolean.defined.T, strict=True))
    assert set(values) == {"flag", "binary", "holes", "tag=NN", "tag=VB", "maybe"}
    assert table.boolean.values.dtype == bool
    assert values["flag"].tolist() == [True, False, True, False] and defined["flag"].all()
    assert values["binary"].tolist() == [False, True, True, False]
    assert values["holes"].tolist() == [True, False, False, True]
    assert defined["holes"].tolist() == [True, False, True, True] == defined["maybe"].tolist()
    assert values["tag=NN"].tolist() == [True, False, False, True]
    assert defined["tag=NN"].tolist() == defined["tag=VB"].tolist() == [True, False, True, True]
    assert [each.name for each in table.continuous.hypotheses] == ["depth", "angle"]
    assert table.continuous.values.dtype == np.float64
    assert table.continuous.values.tolist() == [[0, 0.5], [3, 0], [2, -2], [1, 1e30]]
    assert table.continuous.defined[:, 1].tolist() == [True, False, True, True]
    assert ids_of(read_columns(path)).tolist() == [7, 7, 3, 3]
    assert set(table.names) == {*values, "depth", "angle"}


def test_only_keeps_the_named_columns(path):
    table = read_labels(path)
    some = table.only(["angle", "tag=VB", "nothing"])
    assert some.names == ["tag=VB", "angle"]
    np.testing.assert_array_equal(some.boolean.values[:, 0], table.boolean.values[:, table.names.index("tag=VB")])
    np.testing.assert_array_equal(some.continuous.values, table.continuous.values[:, 1:])
    np.testing.assert_array_equal(some.continuous.defined, table.continuous.defined[:, 1:])


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_columns_with_the_same_name_are_refused(tmp_path, suffix):
    separator = {"csv": ",", "tsv": "\t"}[suffix]
    (tmp_path / f"x.{suffix}").write_text(separator.join(["y", "z", "y"]) + "\n" + separator.join("101") + "\n")
    with pytest.raises(InputError, match="two columns are called 'y'"):
        read_labels(tmp_path / f"x.{suffix}")


def test_a_matrix_of_labels_is_read_with_its_names(tmp_path):
    matrix = np.array([[0, 1], [1, 1], [0, 0]])
    np.savez(tmp_path / "a.npz", labels=matrix, label_names=["odd", "even"], states=np.zeros((3, 5)))
    table = read_labels(tmp_path / "a.npz")
    assert table.names == ["odd", "even"] and np.array_equal(table.boolean.values, matrix == 1)
    np.savez(tmp_path / "b.npz", y=matrix)
    assert read_labels(tmp_path / "b.npz").names == ["y_0", "y_1"]


@pytest.mark.parametrize("batch_first", [False, True])
def test_labels_in_the_shape_of_states_of_three_dimensions(tmp_path, batch_first):
    """Sequence by sequence, without the padding, as the states are read; a flat column in that order is the same."""
    of_each = np.random.default_rng(0).random((3, 5)) < 0.5  # three sequences of at most five steps
    both, lengths = np.stack([of_each, ~of_each], axis=2), np.array([5, 2, 4])
    flat = np.concatenate([row[:n] for row, n in zip(of_each, lengths, strict=True)])
    cube = Cube((3, 5) if batch_first else (5, 3), batch_first, lengths)
    turned = (lambda values: values) if batch_first else (lambda values: values.swapaxes(0, 1))
    np.savez(tmp_path / "a.npz", one=turned(of_each), flat=flat, labels_like=flat[:, None])
    table = labels_of(tmp_path / "a.npz", read_columns(tmp_path / "a.npz"), cube=cube)
    assert table.names == ["one", "flat", "labels_like_0"]
    assert (table.boolean.values == flat[:, None]).all()
    np.savez(tmp_path / "b.npz", labels=turned(both), label_names=["yes", "no"])
    table = labels_of(tmp_path / "b.npz", read_columns(tmp_path / "b.npz"), cube=cube)
    assert table.names == ["yes", "no"]
    assert np.array_equal(table.boolean.values, np.stack([flat, ~flat], axis=1))


@pytest.mark.parametrize("name", ["labels.tsv", "labels.csv.gz", "labels.tsv.gz", "labels.jsonl"])
def test_json_lines_and_text_tables_are_read(tmp_path, name):
    columns = TABLE[["flag", "depth", "tag", "sequence_id"]]
    if name == "labels.jsonl":
        columns.to_json(tmp_path / name, orient="records", lines=True)
    else:
        columns.to_csv(tmp_path / name, sep="\t" if "tsv" in name else ",", index=False)
    table = read_labels(str(tmp_path / name))
    assert ids_of(read_columns(tmp_path / name)).tolist() == [7, 7, 3, 3]
    assert table.names == ["flag", "tag=NN", "tag=VB", "depth"]
    assert table.boolean.values[:, 1].tolist() == [True, False, False, True]
    assert table.boolean.defined[:, 1].tolist() == [True, False, True, True]
    assert table.continuous.values.tolist() == [[0], [3], [2], [1]]


@pytest.mark.parametrize("index", ["sequence_id", ["sequence_id", "token"], ["depth", "sequence_id"]])
def test_sequences_may_be_the_index_of_a_dataframe(tmp_path, index):
    TABLE.set_index(index).to_parquet(tmp_path / "labels.parquet")
    table = read_labels(tmp_path / "labels.parquet")
    assert ids_of(read_columns(tmp_path / "labels.parquet")).tolist() == [7, 7, 3, 3]
    assert "sequence_id" not in table.names and {"flag", "angle"} < set(table.names)


def test_decimal_numbers_are_numbers(tmp_path):
    columns = {"binary": ["0", "1", None, "0"], "depth": ["0.0", "3.5", None, "-1.0"]}
    decimals = {name: [each and Decimal(each) for each in values] for name, values in columns.items()}
    pandas.DataFrame(decimals).to_parquet(tmp_path / "labels.parquet")
    table = read_labels(tmp_path / "labels.parquet")
    assert [each.name for each in table.boolean.hypotheses] == ["binary"]
    assert table.boolean.values[:, 0].tolist() == [False, True, False, False]
    assert table.continuous.values[:, 0].tolist() == [0, 3.5, 0, -1]
    assert table.continuous.defined[:, 0].tolist() == [True, True, False, True]


def test_the_last_suffix_decides_the_format(tmp_path):
    with (tmp_path / "labels.csv.npz").open("wb") as file:
        np.savez(file, flag=np.array([True, False]))
    assert read_labels(tmp_path / "labels.csv.npz").names == ["flag"]
    (tmp_path / "labels.csv.bak").write_text("flag\n1\n0\n")
    with pytest.raises(InputError, match=r"labels\.csv\.bak"):
        read_labels(tmp_path / "labels.csv.bak")


def test_json_lines_keep_their_types(tmp_path):
    lines = [
        '{"date": "2020-01-02", "flag": true, "n": 3}',
        "",
        '{"date": "07", "n": null}',
        '{"flag": false, "n": 0.5}',
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    table = read_labels(tmp_path / "labels.jsonl")
    assert table.names == ["date=07", "date=2020-01-02", "flag", "n"]
    assert table.boolean.defined.T.tolist() == [[True, True, False], [True, True, False], [True, False, True]]
    assert table.boolean.values[:, 0].tolist()[:2] == [False, True]
    assert table.continuous.defined[:, 0].tolist() == [True, False, True]


def test_a_trailing_comma_on_each_row_shifts_no_columns(tmp_path):
    (tmp_path / "labels.csv").write_text("a,b,tag\n1,5,NN,\n0,6,NA,\n1,7,,\n")
    table = read_labels(tmp_path / "labels.csv")
    assert table.names == ["a", "tag=NA", "tag=NN", "b"]
    assert table.boolean.values[:, 0].tolist() == [True, False, True]
    assert table.boolean.defined[:, 1].tolist() == [True, True, False]
    assert table.continuous.values[:, 0].tolist() == [5, 6, 7]


def test_words_of_digits_stay_words_in_long_files(tmp_path):
    # pandas reads a long file in pieces, each with its own type; here the first half looks like numbers.
    rows, others = 40_000, 60
    words = ["07" if row % 2 else "" if row < rows // 2 else "NN" for row in range(rows)]
    names = ",".join(f"x{other}" for other in range(others))
    (tmp_path / "labels.csv").write_text(f"{names},tag\n" + "".join("1," * others + f"{word}\n" for word in words))
    table = read_labels(tmp_path / "labels.csv")
    assert table.names[others:] == ["tag=07", "tag=NN"]
    assert table.boolean.values[:, others:].sum(axis=0).tolist() == [rows // 2, rows // 4]


def test_an_empty_word_is_undefined_in_every_format(tmp_path):
    words = ["NN", "", "VB"]
    pandas.DataFrame({"tag": words}).to_parquet(tmp_path / "a.parquet")
    pandas.DataFrame({"tag": words}).to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "a.npz", tag=np.array(words))
    for name in ("a.parquet", "a.csv", "a.npz"):
        table = read_labels(tmp_path / name)
        assert table.names == ["tag=NN", "tag=VB"] and table.boolean.defined[:, 0].tolist() == [True, False, True]


def test_a_list_in_a_row_is_refused(tmp_path):
    pandas.DataFrame({"a": [[1], [2, 3]]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a holds a ndarray in a row, expected a number or a word"):
        read_labels(tmp_path / "a.parquet")


BAD = [
    ("more.csv", b"a,b\n1,0,5\n0,1,6\n", "more fields than its first line has names: separate columns with commas"),
    ("one_more.csv", b"a,b\n1,0,\n0,1,6\n", "more fields than its first line"),
    ("semicolons.csv", b"a;b\n0;1\n1;0\n", "only column is called 'a;b': separate columns with commas"),
    ("tabs.csv", b"a\tb\n0\t1\n", r"separate columns with commas"),
    ("commas.tsv", b"a,b\n0,1\n", "only column is called 'a,b': separate columns with tabs"),
    ("damaged.jsonl", b'{"a":', "cannot be read"),
    ("bytes.jsonl", b'{"a": "\xff"}', "cannot be read"),
    ("lists.jsonl", b'{"a": 1}\n[1]\n', "a line holds a list, expected an object"),
    ("labels.txt", b"a\n1\n", "has an unknown format"),
    ("absent.csv", None, "does not exist"),
    ("empty.csv", b"", "cannot be read"),
    ("damaged.parquet", b"PAR1", "cannot be read"),
    ("damaged.npz", b"PK\3\4", "cannot be read"),
    ("only.csv", b"sequence_id\n1\n2\n", "no column of labels, only sequence_id"),
    ("infinite.csv", b"a\n2\ninf\n", "a is inf in row 1"),
    (
        "texts.csv",
        b"a\n" + b"".join(b"word%d\n" % i for i in range(1001)),
        "a has 1,001 different words, such as .word0.: expected numbers",
    ),
    ("header.csv", b"a,b\n", "rows|no column"),
]


def test_tables_without_pandas_name_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "labels.csv").write_text("a\n0\n1\n")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"tables need pandas and pyarrow: pip install 'gatescope\[files\]'"):
        read_labels(tmp_path / "labels.csv")


def test_columns_of_one_name_in_a_parquet_file_are_refused(tmp_path):
    pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    parquet.write_table(pyarrow.table([[0, 1], [1, 0]], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(InputError, match=r"twice\.parquet"):
        read_labels(tmp_path / "twice.parquet")


def test_columns_without_labels_are_skipped_if_others_are_requested(tmp_path):
    words = [f"word{i}" for i in range(1001)]
    table = {"lemma": words, "verb": [i % 2 for i in range(1001)], "tag": ["NN", "VB", "IN"] * 333 + ["NN", "NN"]}
    pandas.DataFrame(table).to_parquet(tmp_path / "t.parquet")
    for asked in (["verb"], ["tag=NN", "capitals"], ["tag=NN", "verb"]):
        assert read_labels(tmp_path / "t.parquet", asked).names == ["verb", "tag=IN", "tag=NN", "tag=VB"]
    for asked in ([], ["lemma"], ["lemma=word3", "verb"], ["capitals"]):
        with pytest.raises(InputError, match="lemma has 1,001 different words"):
            read_labels(tmp_path / "t.parquet", asked)


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[case[0] for case in BAD])
def test_bad_files_give_a_one_line_error(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        table = read_labels(tmp_path / name)
        raise InputError(f"{len(table.boolean.values)} rows")
    assert "\n" not in str(raised.value)


def test_columns_of_different_lengths_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3), b=np.zeros(4))
    with pytest.raises(InputError, match="3 to 4 rows"):
        read_labels(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", labels=np.zeros((3, 2)), label_names=["one"])
    with pytest.raises(InputError, match="1 label_names for 2 labels"):
        read_labels(tmp_path / "b.npz")


def test_words_like_none_and_na_stay_words(tmp_path):
    (tmp_path / "labels.csv").write_text("entity,score\nNone,1.5\nNA,\nLOC,nan\n,2\n")
    table = read_labels(tmp_path / "labels.csv")
    assert [each.name for each in table.boolean.hypotheses] == ["entity=LOC", "entity=NA", "entity=None"]
    assert table.boolean.defined[:, 0].tolist() == [True, True, True, False]
    assert table.continuous.defined[:, 0].tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.eye(3)[:, :2], "label_names": np.array(["a", "a"])}, "two hypotheses are called 'a'"),
        ({"x": np.eye(3)[:, :2], "x_1": np.ones(3)}, "two hypotheses are called 'x_1'"),
        ({"tag": np.array(["NN", "VB", "NN"]), "tag=NN": np.ones(3)}, "two hypotheses are called 'tag=NN'"),
        ({"x": np.zeros((3, 2, 2))}, "x has 3 dimensions, expected"),
        ({"x": np.zeros(3, complex)}, "x is complex128, expected numbers, booleans or words"),
    ],
)
def test_ambiguous_names_and_extra_dimensions_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "labels.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.npz")


def test_missing_markers_among_numbers_are_missing(tmp_path):
    (tmp_path / "labels.csv").write_text("closed,x,flag\n1,0.5,True\n0,NA,False\nNA,0.25,N/A\n1,1.5,True\n")
    table = read_labels(tmp_path / "labels.csv")
    assert [each.name for each in table.boolean.hypotheses] == ["closed", "flag"]
    assert table.boolean.defined.tolist() == [[True, True], [True, True], [False, False], [True, True]]
    assert [each.name for each in table.continuous.hypotheses] == ["x"]
    assert table.continuous.defined[:, 0].tolist() == [True, False, True, True]


def test_a_fully_defined_mask_takes_no_memory(tmp_path):
    whole = {"a": np.array([True, False, True]), "b": np.array([1.0, 0.0, 0.0]), "word": np.array(["x", "y", "x"])}
    np.savez(tmp_path / "whole.npz", **whole)
    labels = read_labels(tmp_path / "whole.npz").boolean
    assert labels.defined.all() and labels.defined.shape == (3, 4) and labels.defined.strides == (0, 0)
    np.savez(tmp_path / "holes.npz", **whole, c=np.array([1.0, np.nan, 0.0]))
    labels = read_labels(tmp_path / "holes.npz").boolean
    assert [each.name for each in labels.hypotheses] == ["a", "b", "word=x", "word=y", "c"]
    assert labels.defined.all(axis=0).tolist() == [True] * 4 + [False] and labels.defined[:, 4].tolist() == [1, 0, 1]
