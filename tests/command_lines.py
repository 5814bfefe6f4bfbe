"""Valid command lines of every command on tiny inputs, and random changes of their words and of the files they read."""

import contextlib
import functools
import io
import random
import re
from collections import Counter

from gatescope.analysis.cli import COMMANDS, main

# Words that keep a case small; they are never removed, and their values only get small.
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
    "train": (["{text}", "--out", "{out}", *TRAIN, "--keep", "0", "1"], 9),
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
    # Its texts are long and its models large: its success is tested elsewhere.
    "reproduce": (["shakespeare", "--corpus", "{text}", "--out", "{out}", "--steps", "1", "--sequences", "4"], 7),
    "export": (["{states}", "{out}.h5"], 10),
    "concat": (["{states}", "{more}", "--out", "{out}.zarr"], 10),
    "hypotheses": (["--show", "newline_next", "--text", "{text}"], 6),
    "unit": (["{any_states}", "layer0/h", "1", "--hypotheses", "newline_next"], 6),
    "unit labels": (["{other}", "h", "1", "--labels", "{labels}"], 4),
    "report": (["{results}", "--out", "{out}"], 1),
    "report two": (["{results}", "{second}", "--out", "{out}"], 1),
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
# Kinds of values, as --help names them.
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
    """Every flag of every command, and the (command, flag) pairs in the order of the first cases."""
    flags = {name: help_flags(name) for name in COMMANDS}
    return flags, [(name, flag) for name in flags for flag in flags[name]]


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
    "second": ["second"],
    "tree": ["tree"],
    "text": ["text"],
    "functions": ["functions.py"],
}
# Placeholders that may become a URL.
REMOTE = ("other", "states", "any_states", "anything")
CHOICES["any_states"] = [*CHOICES["states"], *CHOICES["other"]]
CHOICES["anything"] = [name for names in list(CHOICES.values()) for name in names]


def damage(chance, path):
    """Damage a file, or one in a folder: flip a bit, cut, grow, empty or remove it, or change a word of JSON."""
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
    """Change some words of a command line, but none of those that keep the work small."""
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
    """Return the valid line that a case starts from and its changed words, in which places are not filled in yet."""
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
    # A whole run takes over a second: in the short test these are refused for their last flag, in the long test they
    # run.
    return line, words + ["--probe.bootstrap", "0"] * (name == "run" and number < SHORT)


def flags_of(numbers):
    """Count the flags that occur in cases, by command."""
    counts = Counter()
    for number in numbers:
        line, words = drawn(number)
        counts.update((line.split()[0], word) for word in words if word in every_flag()[0][line.split()[0]])
    return counts
