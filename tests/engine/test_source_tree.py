"""One text out of a source tree."""

import errno
import hashlib
import json

import pytest

from gatescope.engine import source_tree
from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name
from gatescope.engine.source_tree import TreeConfig, file_lengths, write_corpus


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    contents = {"b.c": b"int b;\n", "a/z.h": b"no newline", "a.c": b"int a;\n", "x.py": b"x = 1\n", "empty.c": b""}
    contents["latin.c"] = b"caf\xe9\n"
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "link.c").symlink_to(root / "b.c")
    (root / "loop").symlink_to(root)
    return root


def test_files_come_in_order_of_their_paths_with_a_manifest(tree, tmp_path):
    out = tmp_path / "out" / "text.txt"
    manifest = write_corpus(str(tree), str(out), TreeConfig())
    assert out.read_text() == "int a;\nno newline\nint b;\n"
    assert [file["path"] for file in manifest["files"]] == ["a.c", "a/z.h", "b.c"]
    assert [file["path"] for file in manifest["left_out"]] == ["empty.c", "latin.c", "link.c"]
    assert manifest["left_out"][2]["why"] == "a symbolic link"
    assert "byte 3 is not UTF-8" in manifest["left_out"][1]["why"]
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "out" / "text.txt.manifest.json").read_text()) == manifest
    assert sorted(path.name for path in out.parent.iterdir()) == ["text.txt", "text.txt.manifest.json"]


def test_glob_shuffle_and_limit_select_files(tree, tmp_path):
    def written(config, seed=0):
        return write_corpus(tree, tmp_path / "t", config, seed, overwrite=True)

    assert written(TreeConfig(glob=("*.py",)))["bytes"] == 6
    orders = set()
    for seed in range(8):
        files = written(TreeConfig(shuffle=True), seed)["files"]
        assert files == written(TreeConfig(shuffle=True), seed)["files"]
        orders.add(tuple(file["path"] for file in files))
    assert len(orders) > 1
    assert written(TreeConfig(limit=18))["bytes"] == 18
    assert written(TreeConfig(limit=17))["bytes"] == 7


def test_output_written_into_the_tree_is_not_a_source(tree):
    out = tree / "a" / ".." / "all.c"
    config = TreeConfig(glob=("*.c", "*.json"))
    first = write_corpus(tree, out, config)
    assert [file["path"] for file in first["files"]] == ["a.c", "b.c"]
    assert write_corpus(tree, out, config, overwrite=True) == first


def test_leftovers_of_a_killed_program_are_removed(tree, tmp_path):
    left = [partial_name(tmp_path / name) for name in ("text", "text.manifest.json")]
    other = partial_name(tmp_path / "another")
    for path in (*left, other):
        path.write_text("half")
    write_corpus(tree, tmp_path / "text", TreeConfig())
    assert not any(path.exists() for path in left) and other.exists()


def test_an_existing_text_is_kept_or_refused(tree, tmp_path):
    out = tmp_path / "text.txt"
    first = write_corpus(tree, out, TreeConfig())
    (tree / "new.c").write_text("int c;\n")
    assert write_corpus(tree, out, TreeConfig()) == first
    with pytest.raises(InputError, match="was made with seed = 0, not 1"):
        write_corpus(tree, out, TreeConfig(), 1)
    with pytest.raises(InputError, match="was made with shuffle = False, not True"):
        write_corpus(tree, out, TreeConfig(shuffle=True))
    assert len(write_corpus(tree, out, TreeConfig(), overwrite=True)["files"]) == len(first["files"]) + 1
    mine = tmp_path / "thesis.txt"
    for manifest in (None, "{", "{}", "[]", "[" * 100_000):
        mine.write_text("years of work")
        if manifest is not None:
            (tmp_path / "thesis.txt.manifest.json").write_text(manifest)
        with pytest.raises(InputError, match="exists, but has no manifest"):
            write_corpus(tree, mine, TreeConfig())
        assert mine.read_text() == "years of work"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TreeConfig(glob=("*.rs",)), r"matches --glob \*.rs"),
        (TreeConfig(limit=3), "alone is larger than --limit 3 bytes: raise the limit"),
    ],
)
def test_an_empty_selection_is_refused_and_writes_nothing(tree, tmp_path, config, message):
    out = tmp_path / "out" / "text.txt"
    with pytest.raises(InputError, match=message):
        write_corpus(tree, out, config)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"glob": ()}, "--glob is empty"),
        ({"glob": ("*.h", "**/*.c")}, r"--glob '\*\*/\*\.c': expected a pattern of file names"),
        ({"limit": -5}, "--limit -5 is negative"),
    ],
)
def test_invalid_tree_settings_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        TreeConfig(**given)


def test_a_missing_tree_is_refused(tmp_path):
    with pytest.raises(InputError, match="absent' does not exist: give the folder"):
        write_corpus(tmp_path / "absent", tmp_path / "t", TreeConfig())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file' is not a folder"):
        write_corpus(tmp_path / "file", tmp_path / "t", TreeConfig())


def test_an_unreadable_folder_stops_the_corpus(tree, tmp_path, monkeypatch):
    def forbidden(top, onerror=None, **options):
        onerror(PermissionError(errno.EACCES, "Permission denied", str(tree / "a")))
        return iter(())

    monkeypatch.setattr(source_tree.os, "walk", forbidden)
    with pytest.raises(PermissionError):
        write_corpus(tree, tmp_path / "t", TreeConfig())
    assert not (tmp_path / "t").exists()


def test_an_altered_text_does_not_match_its_manifest(tree, tmp_path):
    write_corpus(tree, tmp_path / "t", TreeConfig())
    whole = (tmp_path / "t").read_bytes()
    for altered in (whole[:-3], whole.replace(b"int", b"INT")):
        (tmp_path / "t").write_bytes(altered)
        with pytest.raises(InputError, match="is not the text that its manifest describes"):
            write_corpus(tree, tmp_path / "t", TreeConfig())
    (tmp_path / "t").write_bytes(whole)
    assert len(write_corpus(tree, tmp_path / "t", TreeConfig())["files"]) == 3


def test_a_file_larger_than_the_limit_is_named(tree, tmp_path):
    (tree / "a.c").write_bytes(b"")
    with pytest.raises(InputError, match=r"a/z\.h alone is larger than --limit 5 bytes"):
        write_corpus(tree, tmp_path / "t", TreeConfig(limit=5))


def test_lengths_follow_the_manifest_and_other_texts_have_their_own(tree, tmp_path):
    text = tmp_path / "text.txt"
    manifest, told = write_corpus(tree, text, TreeConfig()), tmp_path / "text.txt.manifest.json"
    n, lengths = manifest["characters"], [file["characters"] for file in manifest["files"]]
    assert len(lengths) == 3 and sum(lengths) == n == len(text.read_text(encoding="utf-8"))
    assert file_lengths(str(text), n) == lengths
    assert file_lengths(str(text), n + 1) == [n + 1] and file_lengths("stdlib", 5) == [5]
    for entries in ([], [{"characters": n}, {"characters": 0}], [{"characters": "x"}], [{}], [1], 7):
        told.write_text(json.dumps(manifest | {"files": entries}))
        assert file_lengths(str(text), n) == [n], entries
    for content in ("", "[]", "[" * 100_000):
        told.write_text(content)
        assert file_lengths(str(text), n) == [n], content
    # The same number of characters, but different ones.
    told.write_text(json.dumps(manifest))
    text.write_text("é" * n, encoding="utf-8")
    assert file_lengths(str(text), n) == [n]
