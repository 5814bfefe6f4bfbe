"""A seeded fuzz of every command, flag and reader: a result or one line, never a traceback, never a stray file.

Each case takes a valid command line on tiny inputs, changes some of its words, damages some of the files it reads, and
gives some of them as a URL. The first cases, and the first that only the long test runs, try each flag of each command
with a value of its kind. To reproduce a case, give its number: `run_case(number, world, folder)`.
"""

import contextlib
import io
import json
import random
import shutil
import traceback
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pandas
import pytest
import zarr
from command_lines import (
    CHOICES,
    HELD,
    LETTER,
    LINES,
    MODEL,
    PROBE,
    REMOTE,
    SAMPLE,
    SHORT,
    TRAIN,
    damage,
    drawn,
    every_flag,
    flags_of,
)
from safetensors.numpy import save_file
from web_server import serving

from gatescope.analysis.cli import COMMANDS, main
from gatescope.engine.files import PARTIAL

TEXT = "def f(x):\n    return [x, 'a']  # b\n\n" * 8
FUNCTIONS = """from gatescope.analysis.hypotheses import hypothesis


@hypothesis(language="any", values="boolean", sees="past")
def after_bracket(text):
    'The character before is an opening bracket.'
    return [i > 0 and text[i - 1] in "([" for i in range(len(text))]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One valid input of every kind, under the names that LINES use."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "tree").mkdir()
    (folder / "tree" / "a.py").write_text(TEXT)
    (folder / "text").write_text(TEXT)
    (folder / "functions.py").write_text(FUNCTIONS)
    sound = [
        ["train", str(folder / "text"), "--out", str(folder / "model"), *TRAIN, "--keep", "0", "2"],
        ["sample", str(folder / "model"), "--out", str(folder / "states.zarr"), *SAMPLE],
        ["sample", str(folder / "model"), "--out", str(folder / "more.zarr"), *SAMPLE, "--seed", "1"],
        ["probe", str(folder / "states.zarr"), "--out", str(folder / "results"), *PROBE, *LETTER],
        ["ablate", str(folder / "results"), *(f"--{each}={folder / name}" for each, name in MODEL), *HELD],
        ["export", str(folder / "states.zarr"), str(folder / "lstmvis.h5")],
    ]
    for words in sound:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(words) == 0
    gates = [{"layer": 0, "gate": gate, "open": [0.5, 0, 1], "shut": [0.25, 1, 0]} for gate in "ifo"]
    (folder / "results" / "gates.json").write_text(json.dumps(gates))
    shutil.copytree(folder / "results", folder / "second")
    rows = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    ids = np.repeat(np.arange(4), 6)
    np.save(folder / "rows.npy", rows)
    np.savez(folder / "rows.npz", h=rows, sequence_ids=ids)
    np.savez_compressed(folder / "small.npz", h=rows, sequence_ids=ids)
    save_file({"h": rows}, folder / "rows.safetensors")
    group = zarr.create_group(folder / "rows.zarr")
    group.create_array("h", data=rows, chunks=(10, 3))
    zarr.create_group(folder / "rows2.zarr", zarr_format=2).create_array("h", data=rows)
    with h5py.File(folder / "neurox.h5", "w") as file:
        for i in range(4):
            file[str(i)] = rows[6 * i : 6 * i + 6].reshape(1, 6, 3)
        index = {" ".join("abcdef"[i:] + "abcdef"[:i]): str(i) for i in range(4)}
        file.create_dataset("sentence_to_index", data=[json.dumps(index)], dtype=h5py.string_dtype())
    labels = pandas.DataFrame({"y": rows[:, 0] > 0, "z": rows[:, 1], "w": list("ab") * 12, "sequence_id": ids})
    labels.to_csv(folder / "labels.csv", index=False)
    labels.to_parquet(folder / "labels.parquet")
    np.savez(folder / "labels.npz", y=labels["y"], z=labels["z"], sequence_id=ids)
    return folder


@pytest.fixture
def served(tmp_path):
    """A folder, and the URL under which a web server of this machine serves it."""
    with serving(tmp_path) as url:
        yield tmp_path, url


def as_url(chance, path, url):
    """Return the URL of a case's file or folder."""
    protocol = chance.choice(["file", "memory", "http"])
    if protocol == "memory":
        system = fsspec.filesystem("memory")
        if system.exists("/case"):
            system.rm("/case", recursive=True)
        system.mkdir("/case")
        for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
            system.pipe_file(f"/case/{file.relative_to(path.parent)}", file.read_bytes())
        return f"memory://case/{path.name}"
    return f"file://{path}" if protocol == "file" else f"{url}/case/{path.name}"


def everything(folder):
    """Return a folder's contents by relative path: the bytes of every file, and None for every folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def run_case(number, world, served):
    """Run one case; return the rule it broke, or None, and its exit code."""
    folder, url = served
    line, words = drawn(number)
    chance = random.Random(number)
    name = line.split()[0]
    case = folder / "case"
    case.mkdir()
    places = {"out": case / "out"}
    for key, names in CHOICES.items():
        source = world / chance.choice(names)
        places[key] = source
        # Changed words may be the name of a text, a folder or a functions file, too.
        if key in ("text", "tree", "functions") or f"{{{key}}}" in " ".join(LINES[line][0]):
            places[key] = case / f"{key}{source.suffix}"
            (shutil.copytree if source.is_dir() else shutil.copy)(source, places[key])
            if chance.random() < 0.4:
                damage(chance, places[key])
            if key in REMOTE and name != "concat" and chance.random() < 0.25:
                places[key] = as_url(chance, places[key], url)
    words = [name, *(word.format(**places) for word in words)]
    before = everything(case)
    out, err = io.StringIO(), io.StringIO()
    try:
        # A changed word may be a relative path.
        with contextlib.chdir(case), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    except BaseException:
        return f"case {number}: {words}\n{traceback.format_exc()}", None
    try:
        assert code in (0, 2), f"exit code {code}"
        lines = err.getvalue().splitlines()
        assert all(each.startswith("gatescope: ") for each in lines), "not one line"
        assert code == 0 or lines, "no line"
        assert not any("Traceback" in each for each in lines)
        after = everything(case)
        left = [path for path in after if PARTIAL.fullmatch(path.rpartition("/")[2])]
        assert not left, f"left {left}"
        if code == 2:
            changed = [path for path in {**before, **after} if before.get(path, "") != after.get(path, "")]
            assert not changed, f"changed {changed}"
    except AssertionError as error:
        return f"case {number}: {words}\n{error}\n{err.getvalue()[-2000:]}", code
    finally:
        shutil.rmtree(case)
    return None, code


def run_cases(numbers, world, served):
    codes, broken = [], []
    for number in numbers:
        problem, code = run_case(number, world, served)
        codes.append(code)
        if problem:
            broken.append(problem)
            shutil.rmtree(served[0] / "case", ignore_errors=True)
    assert not broken, f"{len(broken)} of {len(codes)} cases:\n" + "\n".join(broken[:20])
    # Both outcomes occur: some command lines are valid, and some are not.
    assert 0.1 < codes.count(0) / len(codes) < 0.9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(4))
def test_five_hundred_command_lines_break_no_rule(part, world, served):
    run_cases(range(part, SHORT, 4), world, served)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_command_lines_break_no_rule(part, world, served):
    run_cases(range(part, 10_000, 10), world, served)


def test_every_flag_of_every_command_is_drawn():
    flags, pairs = every_flag()
    assert {line.split()[0] for line in LINES} == set(COMMANDS)
    # The help lists exactly the flags that exist.
    assert {"--out", "--seed", "--train.no-reset-after", "--sample.top-p", "--pattern"} <= set(flags["run"])
    assert flags["probe"]["--alignment"] == ["post", "pre"] and "{functions}" in flags["probe"]["--functions"]
    assert len(pairs) > 120 and set(flags_of(range(SHORT))) == set(pairs)
    counts = flags_of(range(10_000))
    assert min(counts[pair] for pair in pairs if pair[0] not in ("run", "report")) >= 10
    assert min(counts.values()) >= 2
