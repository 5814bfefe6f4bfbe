"""A seeded fuzz of every command, flag and reader: a result or one line, never a traceback, never a partial file.

Each case takes a sound command line on tiny inputs, changes some of its words, and damages some of the files that it
reads. A case is reproduced by its number: `run_case(number, world, folder)`.
"""

import contextlib
import inspect
import io
import json
import random
import re
import shutil
import traceback
from dataclasses import fields, is_dataclass

import h5py
import numpy as np
import pandas
import pytest
import zarr
from killing import contents
from safetensors.numpy import save_file

from gatescope.analysis import commands
from gatescope.analysis.cli import COMMANDS, main
from gatescope.engine.files import PARTIAL

TEXT = "def f(x):\n    return [x, 'a']  # b\n\n" * 8
# Words that keep a case small; they are never taken away, and their values only grow small.
TRAIN = ["--hidden", "3", "--layers", "1", "--batch", "2", "--length", "5", "--steps", "2", "--evaluate-every", "1"]
SAMPLE = ["--sequences", "4", "--length", "6"]
PROBE = ["--hypotheses", "newline_next", "--bootstrap", "2"]
RUN = [
    f"--{stage}.{word[2:]}" if word[:2] == "--" else word
    for stage, part in (("train", TRAIN), ("sample", SAMPLE))
    for word in part
]
KEPT = {
    word for part in (TRAIN, SAMPLE, PROBE, RUN, ["--corpus", "--probe.bootstrap"]) for word in part if word[:2] == "--"
}
LINES = {
    "run": (
        ["--corpus", "{text}", "--out", "{out}", *RUN, "--hypotheses", "newline_next", "--probe.bootstrap", "2"],
        1,
    ),
    "corpus": (["{tree}", "--out", "{out}.txt", "--glob", "*.py"], 8),
    "train": (["{text}", "--out", "{out}", *TRAIN], 6),
    "sample": (["{model}", "--out", "{out}.zarr", *SAMPLE], 10),
    "extract": (["{model}", "{text}", "--out", "{out}.zarr", "--length", "9"], 10),
    "probe": (["{any_states}", "--out", "{out}", *PROBE], 12),
    "probe labels": (["{other}", "--labels", "{labels}", "--out", "{out}", "--bootstrap", "2"], 24),
    "export": (["{states}", "{out}.h5"], 10),
    "concat": (["{states}", "{more}", "--out", "{out}.zarr"], 10),
    "hypotheses": (["--show", "newline_next", "--text", "{text}"], 6),
    "report": (["{results}", "--out", "{out}"], 1),
    "info": (["{anything}"], 30),
}
VALUES = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "0.5",
    "1e400",
    "nan",
    "inf",
    "x",
    "",
    "é",
    "x" * 300,
    "[",
    "a=(",
    "a=b",
    "None",
    "True",
]
VALUES += [
    "h",
    "gates",
    "float32",
    "zstd",
    "auto",
    "cuda",
    "--",
    "-h",
    "layer0/h",
    "{text}",
    "{out}",
    "{tree}/absent",
    "/",
]


def world_flags():
    """Every flag of every command, found in the signatures that the command line is made of."""
    found = {}
    for name in COMMANDS:
        names = set()
        for parameter in inspect.signature(getattr(commands, name)).parameters.values():
            default = parameter.default
            if is_dataclass(default):
                inner = {field.name.replace("_", "-") for field in fields(default)}
                names |= (
                    {f"--{parameter.name}.{each}" for each in inner} if name == "run" else {f"--{e}" for e in inner}
                )
            else:
                names.add(f"--{parameter.name.replace('_', '-')}")
        found[name] = sorted(names - KEPT)
    return found


FLAGS = world_flags()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One sound input of every kind, by the names that LINES use."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "tree").mkdir()
    (folder / "tree" / "a.py").write_text(TEXT)
    (folder / "text").write_text(TEXT)
    sound = [
        ["train", str(folder / "text"), "--out", str(folder / "model"), *TRAIN],
        ["sample", str(folder / "model"), "--out", str(folder / "states.zarr"), *SAMPLE],
        ["sample", str(folder / "model"), "--out", str(folder / "more.zarr"), *SAMPLE, "--seed", "1"],
        ["probe", str(folder / "states.zarr"), "--out", str(folder / "results"), *PROBE],
        ["export", str(folder / "states.zarr"), str(folder / "lstmvis.h5")],
    ]
    for words in sound:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(words) == 0
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


CHOICES = {
    "other": [
        "rows.npy",
        "rows.npz",
        "small.npz",
        "rows.safetensors",
        "rows.zarr",
        "rows2.zarr",
        "neurox.h5",
        "lstmvis.h5",
    ],
    "labels": ["labels.csv", "labels.parquet", "labels.npz"],
    "states": ["states.zarr"],
    "more": ["more.zarr"],
    "model": ["model"],
    "results": ["results"],
    "tree": ["tree"],
    "text": ["text"],
}
CHOICES["any_states"] = [*CHOICES["states"], *CHOICES["other"]]
CHOICES["anything"] = [name for names in list(CHOICES.values()) for name in names]


def damage(chance, path):
    """Change a file, or one in a folder: flip a bit, cut, grow, empty, remove, or change a word of JSON."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    kind = chance.randrange(8)
    if kind == 0 and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        content = content[: chance.randrange(len(content) + 1)]
    elif kind == 2:
        place = chance.randrange(len(content) + 1)
        content[place:place] = chance.randbytes(chance.randrange(1, 9))
    elif kind == 3:
        content = bytearray()
    elif kind == 4 and content:
        for _ in range(5):
            content[chance.randrange(len(content))] = chance.randrange(256)
    elif kind == 5:
        file.unlink()
        return
    elif kind == 6:
        file.unlink()
        file.mkdir()
        return
    else:
        tokens = list(re.finditer(rb'-?[0-9.]+|"[^"]*"|true|null', bytes(content[:4000])))
        if tokens:
            found = chance.choice(tokens)
            value = chance.choice([b"-1", b"0", b"3", b"1e99", b'"x"', b"null", b"[]", b"{}", b'"float32"', b"12345"])
            content[found.start() : found.end()] = value
    file.write_bytes(content)


def mutated(chance, name, words):
    """Change some words of a command line, but none that keeps the work small."""
    words = list(words)
    for _ in range(chance.choice([0, 0, 1, 1, 2, 3])):
        kept = {i + offset for i, word in enumerate(words) if word in KEPT for offset in (0, 1)}
        free = [i for i in range(len(words)) if i not in kept]
        place = chance.choice([*free, len(words)])
        kind = chance.randrange(5)
        if kind == 0 and place < len(words):
            del words[place]
        elif kind == 1 and place < len(words):
            words[place] = chance.choice(VALUES)
        elif kind == 2 and kept:
            value = chance.choice([i for i in kept if i < len(words) and words[i] not in KEPT] or [place])
            words[value : value + 1] = [chance.choice(["-1", "0", "1", "2", "x", "", "nan"])]
        else:
            value = [chance.choice(VALUES)] if chance.random() < 0.8 else []
            words[place:place] = [chance.choice(FLAGS[name]), *value]
    return words


def run_case(number, world, folder):
    """Run one case; return what it broke, or None, and its exit code."""
    chance = random.Random(number)
    line = chance.choices(list(LINES), [weight for _, weight in LINES.values()])[0]
    name = line.split()[0]
    case = folder / "case"
    case.mkdir()
    places = {"out": case / "out"}
    for key, names in CHOICES.items():
        source = world / chance.choice(names)
        places[key] = source
        # Changed words may name a text and a folder too.
        if key in ("text", "tree") or f"{{{key}}}" in " ".join(LINES[line][0]):
            places[key] = case / f"{key}{source.suffix}"
            (shutil.copytree if source.is_dir() else shutil.copy)(source, places[key])
            if chance.random() < 0.4:
                damage(chance, places[key])
    words = [name, *(word.format(**places) for word in mutated(chance, name, LINES[line][0]))]
    before = contents(case)
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
        left = [path.name for path in case.rglob("*") if PARTIAL.fullmatch(path.name)]
        assert not left, f"left {left}"
        if code == 2:
            changed = [path for path, content in before.items() if contents(case).get(path) != content]
            assert not changed, f"changed {changed}"
    except AssertionError as error:
        return f"case {number}: {words}\n{error}\n{err.getvalue()[-2000:]}", code
    finally:
        shutil.rmtree(case)
    return None, code


def run_cases(numbers, world, folder):
    codes, broken = [], []
    for number in numbers:
        problem, code = run_case(number, world, folder)
        codes.append(code)
        if problem:
            broken.append(problem)
            shutil.rmtree(folder / "case", ignore_errors=True)
    assert not broken, f"{len(broken)} of {len(codes)} cases:\n" + "\n".join(broken[:20])
    # Both ends are reached: sound command lines are among them, and unsound ones.
    assert 0.1 < codes.count(0) / len(codes) < 0.9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(4))
def test_five_hundred_cases(part, world, tmp_path):
    run_cases(range(part, 500, 4), world, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_cases(part, world, tmp_path):
    run_cases(range(part, 10_000, 10), world, tmp_path)


def test_every_command_and_flag_is_reached():
    assert {line.split()[0] for line in LINES} == set(COMMANDS)
    reached = {word for name in FLAGS for word in FLAGS[name]} | KEPT
    for flag in ("--labels", "--text", "--arrays", "--batch-first", "--sequence-length", "--capture", "--overwrite"):
        assert flag in reached
    assert "--train.cell" in reached and "--sample.top-p" in reached and "--probe.alignment" in reached
