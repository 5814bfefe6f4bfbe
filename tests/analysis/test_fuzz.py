"""A seeded fuzz of every command, flag and reader: a result or one line, never a traceback, never a file beside it.

Each case takes a sound command line on tiny inputs, changes some of its words, damages some of the files that it reads,
and gives some of them as a URL. The first cases are one for each flag of each command, with a value of its kind, and so
are the first that only the long test has. A case is reproduced by its number: `run_case(number, world, folder)`.
"""

import contextlib
import functools
import io
import json
import random
import re
import shutil
import traceback
from collections import Counter
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pandas
import pytest
import zarr
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
# Words that keep a case small; they are never taken away, and their values only grow small.
TRAIN = ["--hidden", "3", "--layers", "1", "--batch", "2", "--length", "5", "--steps", "2", "--evaluate-every", "1"]
SAMPLE = ["--sequences", "4", "--length", "6"]
PROBE = ["--hypotheses", "newline_next", "--bootstrap", "2"]
LETTER = ["--pattern", "letter=[a-z]"]
HELD = ["--hypothesis", "letter", "--sequences", "3", "--length", "5"]
MODEL = [("model", "model"), ("states", "states.zarr")]
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
    "train": (["{text}", "--out", "{out}", *TRAIN], 7),
    "sample": (["{model}", "--out", "{out}.zarr", *SAMPLE], 10),
    "extract": (["{model}", "{text}", "--out", "{out}.zarr", "--length", "9"], 7),
    "extract documents": (["{model}", "{text}", "{text}", "--out", "{out}.zarr", "--length", "9"], 3),
    "probe": (["{any_states}", "--out", "{out}", *PROBE], 12),
    "probe labels": (["{other}", "--labels", "{labels}", "--out", "{out}", "--bootstrap", "2"], 24),
    "ablate": (
        [
            *("{results}", "--model", "{model}", "--states", "{states}", "--out", "{out}", *HELD),
        ],
        8,
    ),
    # Its texts are long and its models large: what goes through is tested elsewhere.
    "reproduce": (["shakespeare", "--corpus", "{text}", "--out", "{out}", "--steps", "1", "--sequences", "4"], 7),
    "export": (["{states}", "{out}.h5"], 10),
    "concat": (["{states}", "{more}", "--out", "{out}.zarr"], 10),
    "hypotheses": (["--show", "newline_next", "--text", "{text}"], 6),
    "unit": (["{any_states}", "layer0/h", "1", "--hypotheses", "newline_next"], 6),
    "report": (["{results}", "--out", "{out}"], 1),
    "info": (["{anything}"], 30),
}
SHORT = 500  # cases of the short test
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


# What kinds of values there are, as --help names them.
OF_KIND = {
    "INT": ["0", "1", "2", "3", "-1"],
    "FLOAT": ["0.5", "0.9", "1", "0", "-1", "nan", "inf", "1e-300"],
    "STR": ["ab", "newline_next", "a=b", "h", "h.*", ""],
    "PATH": ["{text}", "{functions}", "{labels}", "{model}", "{tree}/absent"],
}


def help_flags(name):
    """Return the flags that a command's own help lists, each with values of its kind; a switch has none."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([name, "--help"]) == 0
    found = {}
    for line in out.getvalue().splitlines():
        flag = re.match(r"[│ ]{1,3}(--[A-Za-z][\w.-]*)(?:, (--[\w.-]+))?(?: (\S+(?: \[\S+)?))?", line)
        if flag is None:
            continue
        kinds = re.sub(r"[][{}]|\.\.\.|None\}\||REQUIRED", "", flag[3] or "")
        values = [each for kind in re.split(r"[,|]", kinds) for each in OF_KIND.get(kind.split(" ")[0], [kind.strip()])]
        found |= dict.fromkeys(filter(None, flag.group(1, 2)), [] if flag[2] else values)
    return found


@functools.cache
def every_flag():
    """Every flag of every command, and the pairs of both, in the order of the first cases."""
    flags = {name: help_flags(name) for name in COMMANDS}
    return flags, [(name, flag) for name in flags for flag in flags[name]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One sound input of every kind, by the names that LINES use."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "tree").mkdir()
    (folder / "tree" / "a.py").write_text(TEXT)
    (folder / "text").write_text(TEXT)
    (folder / "functions.py").write_text(FUNCTIONS)
    sound = [
        ["train", str(folder / "text"), "--out", str(folder / "model"), *TRAIN],
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
    "functions": ["functions.py"],
}
# What may be a URL.
REMOTE = ("other", "states", "any_states", "anything")
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
    flags = every_flag()[0][name]
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
            flag = chance.choice([each for each in flags if each not in KEPT])
            value = [chance.choice(chance.choice([VALUES, flags[flag] or VALUES]))] if chance.random() < 0.8 else []
            words[place:place] = [flag, *value]
    return words


def drawn(number):
    """Return the sound line that a case begins with and the words that it makes of it, places not filled in yet."""
    chance = random.Random(f"words {number}")
    flags, pairs = every_flag()
    place = number - SHORT if number >= SHORT else number
    if place >= len(pairs):
        line = chance.choices(list(LINES), [weight for _, weight in LINES.values()])[0]
        return line, mutated(chance, line.split()[0], LINES[line][0])
    name, flag = pairs[place]
    line = chance.choice([each for each in LINES if each.split()[0] == name])
    words = list(LINES[line][0])
    value = [chance.choice(flags[name][flag])] if flags[name][flag] else []
    if flag in words:
        words[words.index(flag) + 1 : words.index(flag) + 2] = value if flag not in KEPT else ["1"]
    else:
        words += [flag, *value]
    # A whole run takes a second and more: these are refused for their last flag, those of the long test go through.
    return line, words + ["--probe.bootstrap", "0"] * (name == "run" and number < SHORT)


@pytest.fixture
def served(tmp_path):
    """A folder, and the URL under which a web server of this machine has it."""
    with serving(tmp_path) as url:
        yield tmp_path, url


def as_url(chance, path, url):
    """Return a URL of a case's file or folder."""
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
    """Return all that a folder holds: the bytes of every file and None for every folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def run_case(number, world, served):
    """Run one case; return what it broke, or None, and its exit code."""
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
        # Changed words may name a text, a folder or functions too.
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
    # Both ends are reached: sound command lines are among them, and unsound ones.
    assert 0.1 < codes.count(0) / len(codes) < 0.9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(4))
def test_five_hundred_cases(part, world, served):
    run_cases(range(part, SHORT, 4), world, served)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_cases(part, world, served):
    run_cases(range(part, 10_000, 10), world, served)


def flags_of(numbers):
    """Count the flags that cases really have, by command."""
    counts = Counter()
    for number in numbers:
        line, words = drawn(number)
        counts.update((line.split()[0], word) for word in words if word in every_flag()[0][line.split()[0]])
    return counts


def test_every_flag_of_every_command_is_drawn():
    flags, pairs = every_flag()
    assert {line.split()[0] for line in LINES} == set(COMMANDS)
    # What the help lists is what there is.
    assert {"--out", "--seed", "--train.no-reset-after", "--sample.top-p", "--pattern"} <= set(flags["run"])
    assert flags["probe"]["--alignment"] == ["post", "pre"] and "{functions}" in flags["probe"]["--functions"]
    assert len(pairs) > 120 and set(flags_of(range(SHORT))) == set(pairs)
    counts = flags_of(range(10_000))
    assert min(counts[pair] for pair in pairs if pair[0] not in ("run", "report")) >= 10
    assert min(counts.values()) >= 2
