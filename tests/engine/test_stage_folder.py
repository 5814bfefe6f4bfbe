"""Settings stored beside a stage's output, and who may write there."""

import math
from dataclasses import dataclass

import pytest

from gatescope.engine.errors import InputError
from gatescope.engine.files import partial_name
from gatescope.engine.stage_folder import KINDS, claimed, read_config, record_facts


@dataclass(frozen=True)
class Config:
    hidden: int = 3
    names: tuple[str, ...] = ("a",)


def claim(*given):
    with claimed(*given):
        pass


def test_equal_settings_resume_and_others_are_refused_by_name(tmp_path):
    folder = tmp_path / "out"
    claim(folder, "train", {"seed": 0, "train": Config()}, ("weights",), False)
    before = (folder / "config.json").read_bytes()
    claim(folder, "train", {"seed": 0, "train": Config()}, ("weights",), False)
    with pytest.raises(InputError, match=r"train\.hidden = 3, not 4.*--overwrite"):
        claim(folder, "train", {"seed": 0, "train": Config(hidden=4)}, ("weights",), False)
    with pytest.raises(InputError, match="output of `gatescope train`"):
        claim(folder, "probe", {"seed": 0}, ("weights",), False)
    assert (folder / "config.json").read_bytes() == before


def test_overwrite_removes_only_what_the_stage_writes(tmp_path):
    claim(tmp_path, "train", {"seed": 0}, ("weights", "figures"), False)
    (tmp_path / "weights").write_text("old")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_text("old")
    (tmp_path / "thesis.txt").write_text("precious")
    claim(tmp_path, "train", {"seed": 1}, ("weights", "figures"), True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "thesis.txt"]
    assert read_config(tmp_path)["settings"] == {"seed": 1}


def test_only_its_own_partial_files_are_removed(tmp_path):
    claim(tmp_path, "probe", {}, ("records", "figures"), False)
    (tmp_path / "figures").mkdir()
    (tmp_path / "other").mkdir()
    own = [tmp_path / "config.json", tmp_path / "records", tmp_path / "figures" / "a.png"]
    others = [tmp_path / "states.zarr", tmp_path / "text", tmp_path / "other" / "records"]
    own, others = ([partial_name(path) for path in paths] for paths in (own, others))
    for path in (*own, *others):
        path.write_text("half")
    claim(tmp_path, "probe", {}, ("records", "figures"), False)
    assert not any(path.exists() for path in own)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("overwrite", [False, True])
def test_output_of_another_stage_is_left_alone(tmp_path, overwrite):
    claim(tmp_path, "run", {"seed": 0}, ("states.zarr", "records"), False)
    (tmp_path / "records").write_text("of a run")
    with pytest.raises(InputError, match="output of `gatescope run`: choose another --out, or remove it"):
        claim(tmp_path, "probe", {}, ("records",), overwrite)
    assert (tmp_path / "records").read_text() == "of a run"


def test_infinity_is_distinguished_from_other_settings(tmp_path):
    claim(tmp_path, "probe", {"C": math.inf}, ("records",), False)
    claim(tmp_path, "probe", {"C": math.inf}, ("records",), False)
    with pytest.raises(InputError, match=r"was made with C = 'inf', not 1\.0"):
        claim(tmp_path, "probe", {"C": 1.0}, ("records",), False)


@pytest.mark.parametrize("before", [{}, {"baselines": "of old"}, {KINDS: {"intervals": "of old"}}])
def test_output_of_another_version_is_not_resumed(tmp_path, before):
    claim(tmp_path, "probe", {"seed": 0, **before}, ("records",), False)
    now = {"seed": 0, KINDS: {"intervals": "of now"}}
    with pytest.raises(InputError, match="made by another version of gatescope, whose results differ in kind"):
        claim(tmp_path, "probe", now, ("records",), False)
    claim(tmp_path, "probe", now, ("records",), True)
    claim(tmp_path, "probe", now, ("records",), False)


@pytest.mark.parametrize("content", ["theme: dark", '{"theme": "dark"}'])
def test_overwrite_leaves_a_config_of_another_program_alone(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        claim(tmp_path, "train", {}, ("weights",), True)
    assert (tmp_path / "config.json").read_text() == content


def test_output_of_unknown_origin_is_left_alone(tmp_path):
    (tmp_path / "weights").write_text("mine")
    with pytest.raises(InputError, match=r"holds weights but no config\.json"):
        claim(tmp_path, "train", {}, ("weights",), False)
    assert (tmp_path / "weights").read_text() == "mine"


def test_facts_are_stored_beside_the_settings(tmp_path):
    claim(tmp_path, "probe", {"seed": 0}, (), False)
    record_facts(tmp_path, {"rows": 3})
    assert read_config(tmp_path) == {"stage": "probe", "settings": {"seed": 0}, "facts": {"rows": 3}}
    claim(tmp_path, "probe", {"seed": 0}, (), False)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b'{"a": 1}', b"[" * 200_000], ids=range(5))
def test_a_damaged_or_foreign_config_is_a_one_line_error(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        claim(tmp_path, "train", {}, (), False)


def test_out_may_link_to_a_folder_that_does_not_exist_yet(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "other" / "disk")
    claim(tmp_path / "link", "train", {}, (), False)
    assert (tmp_path / "link").is_symlink() and [each.name for each in (tmp_path / "other/disk").iterdir()] == [
        "config.json"
    ]


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file: give a folder"):
        claim(tmp_path / "file", "train", {}, (), False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_out_that_is_a_dump_is_refused(tmp_path, overwrite):
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(InputError, match="holds a state dump: choose another folder"):
        claim(tmp_path, "probe", {}, (), overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_program_in_the_same_folder_is_refused(tmp_path, overwrite):
    with claimed(tmp_path / "out", "train", {}, ("weights",), False):
        (tmp_path / "out" / f"weights.{'0' * 32}.partial").write_text("half")
        before = sorted((tmp_path / "out").iterdir())
        with pytest.raises(InputError, match="out is being written by another program: wait for it"):
            claim(tmp_path / "out", "train", {}, ("weights",), overwrite)
        assert sorted((tmp_path / "out").iterdir()) == before
    claim(tmp_path / "out", "train", {}, ("weights",), overwrite)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
