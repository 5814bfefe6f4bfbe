"""The terminal page of a single unit."""

import numpy as np
from rich.console import Console

from gatescope.analysis.cli import main
from gatescope.analysis.unit_page import unit_page
from gatescope.analysis.unit_view import Place, Told, UnitView
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter

TOLD = [
    Told("inside [bold]", "boolean", 0.913, 0.88, 0.95, False),
    Told("column", "continuous", 0.4, np.nan, np.nan, True),
    Told("rare", "boolean", 0.6, np.nan, np.nan, True),
]


def view(**changed):
    values = {
        "name": "layer0/c 18",
        "of_each_row": "character",
        "n_rows": 12_000,
        "n_sequences": 24,
        "mean": 0.125,
        "sd": 0.5,
        "least": -1.5,
        "greatest": 2.25,
        "memory": 14,
        "of_last_character": 0.35,
        "characters": [("a", 1.0, 20), ("\n", 0.5, 30), ("\x1b", -0.25, 40)],
        "told": TOLD,
        "highest": [Place(2.25, "a\tb\n", "\x1b[31m next")],
        "lowest": [Place(-1.5, "x", "")],
        "text": "ab\nc\x1b",
        "values": np.array([-1.5, 0, 0, 0, 2.25]),
        "not_evaluated": {},
    }
    return UnitView(**values | changed)


def printed(view, width=80):
    console = Console(width=width, record=True, color_system="truecolor", force_terminal=True)
    console.print(unit_page(view))
    return console.export_text(clear=False), console.export_text(styles=True)


def test_the_page_shows_everything_in_the_view():
    lines = printed(view())[0].splitlines()
    text = " ".join(" ".join(line.split()) for line in lines)
    for words in (
        "layer0/c 18 on 12,000 characters of 24 sequences: mean 0.12, standard deviation 0.50, from -1.50 to 2.25.",
        "falls below 1/e after 14 characters; .35 of its variance",
        "inside [bold] AUROC .91 .88–.95 it does not hold",
        "column r .40 – it is high",
        "rare AUROC .60 – it holds",
        "mean by the last character read: 'a' 1.00, ↵ 0.50; lowest '\\x1b' -0.25",
        "2.25 a→b↵ U+001B[31m next",
        "-1.50 x",
        "from −1.5 to 2.2:",
    ):
        assert words in text, words
    assert max(map(len, lines)) <= 80
    assert lines[-2:] == ["ab↵", "cU+001B"]


def test_text_is_painted_by_value_with_escapes_neutralised():
    styled = printed(view())[1]
    painted = styled[styled.rindex("to 2.2:") :]
    assert "\x1b[31m" not in styled
    # Teal below the mean (0.15), orange above: red is the smaller channel of teal and the larger of orange.
    colours = [part.partition("m")[0] for part in painted.split("48;2;")[1:]]
    channels = [tuple(map(int, colour.split(";"))) for colour in colours]
    assert channels[0][0] < channels[0][1] and channels[-1][0] > channels[-1][2]


def test_a_constant_has_a_page():
    text = printed(view(told=[], characters=[], memory=None, of_last_character=np.nan, values=np.zeros(5)))[0]
    assert "1/e later than could be measured; – of its variance" in " ".join(text.split())
    assert "hypothesis" not in text and "character read:" not in text


def test_without_a_text_rows_are_named():
    places = [Place(2.25, "row 1,234, step 4 of sequence 7", "")]
    lines = printed(view(of_each_row="row", text="", values=np.zeros(5), characters=[], highest=places))[0].splitlines()
    text = " ".join(" ".join(line.split()) for line in lines)
    assert "layer0/c 18 on 12,000 rows of 24 sequences" in text and "falls below 1/e after 14 rows." in text
    assert "2.25 row 1,234, step 4 of sequence 7" in text and "where it varies most" not in text and "next" not in text


def test_no_character_is_listed_as_both_highest_and_lowest():
    for n, said in ((1, "read: 'a' 1.00"), (2, "read: 'a' 1.00; lowest '\\n' 0.50")):
        text = printed(view(characters=[("a", 1.0, 20), ("\n", 0.5, 30)][:n]))[0]
        assert said.replace("'\\n'", "↵") in text and ("lowest" in text.partition("highest, after")[0]) == (n > 1)


def test_the_unit_command_prints_the_page(tmp_path, capsys):
    rng = np.random.default_rng(0)
    tokens, starts = rng.integers(3, size=900).astype(np.uint8), np.arange(0, 901, 90)
    about = {"vocabulary": list("ab\n")}
    spec = DumpSpec({"layer0/h": 2}, starts, starts, (), np.dtype(np.uint8), np.dtype(np.float16), about)
    path = tmp_path / "states.zarr"
    with DumpWriter(path, spec) as writer:
        writer.append(0, tokens, {"layer0/h": np.stack([tokens == 1, rng.normal(size=900)], axis=1)})
    words = ["unit", str(path), "layer0/h", "0", "--hypotheses", "--pattern", "b=b"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "layer0/h 0 on 900 characters of 10 sequences" in said and "AUROC 1.00" in said
    assert main([*words[:3], "2"]) == 2
    assert "has units 0 to 1, not 2" in capsys.readouterr().err
    np.save(tmp_path / "states.npy", np.zeros((9, 2), np.float32))
    assert main(["unit", str(tmp_path / "states.npy"), "states", "0"]) == 2
    assert "give a text of 9 characters with --text, or your own hypotheses with --labels" in capsys.readouterr().err
    np.savez(tmp_path / "labels.npz", tall=np.arange(9) > 3, of=np.arange(9) % 4)
    labelled = ["unit", str(tmp_path / "states.npy"), "states", "0", "--labels", str(tmp_path / "labels.npz")]
    assert main(labelled) == 0
    said = capsys.readouterr().out
    assert "states 0 on 9 rows of 1 sequence" in said and "tall" in said and "row 0, step 0 of sequence 0" in said
    assert main([*labelled, "--hypotheses", "tell"]) == 2
    assert "named 'tell'; did you mean tall?" in capsys.readouterr().err
    np.savez(tmp_path / "labels.npz", tall=np.arange(8) > 3)
    assert main(labelled) == 2
    assert "has 8 rows, and" in capsys.readouterr().err


def test_a_unit_of_words_is_shown_in_words(tmp_path, capsys):
    rng = np.random.default_rng(0)
    tokens, starts = rng.integers(3, size=900).astype(np.uint8), np.arange(0, 901, 90)
    states = np.stack([tokens == 1, rng.normal(size=900)], axis=1).astype(np.float32)
    words = np.array(["the", "[dog]", "sees"])
    np.savez(tmp_path / "s.npz", h=states, words=words[tokens], sequence_starts=starts)
    assert main(["unit", str(tmp_path / "s.npz"), "h", "0"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "h 0 on 900 tokens of 10 sequences" in said and "1.00 of its variance is explained by the last token" in said
    assert "mean by the last token read: '[dog]' 1.00" in said and "hypothesis" not in said
    assert said.partition("lowest, after reading")[0].count("[dog] ") >= 8 and "the [dog]" in said
    assert main(["unit", str(tmp_path / "s.npz"), "h", "0", "--hypotheses", "any"]) == 2
    assert "is of words, and these hypotheses are about characters" in capsys.readouterr().err
