"""The list of hypotheses, and a hypothesis painted on a text."""

import pytest
from rich.console import Console

from gatescope.analysis.cli import main
from gatescope.analysis.hypotheses import library, registered_by, select
from gatescope.analysis.own_hypotheses import load_functions
from gatescope.analysis.paint import list_hypotheses, paint_hypothesis
from gatescope.engine.errors import InputError

PYTHON = "def f(self):\n    # a comment\n    return None\n"


def marked(painted):
    """The characters with a background colour."""
    return "".join(painted.plain[span.start : span.end] for span in painted.spans if "on rgb" in str(span.style))


def test_every_hypothesis_is_listed():
    table = list_hypotheses()
    names = list(table.columns[0].cells)
    assert [name.rstrip("*") for name in names] == [each.name for each in library()]
    starred = {(name[:-1], each.language) for name, each in zip(names, library(), strict=True) if name.endswith("*")}
    assert starred == {
        (each.name, each.language) for name in ("c", "python", "english", "any") for each in select([name], "any")
    }
    assert "in the default set" in str(table.caption)
    assert len(select(["c", "python", "english", "any", "legacy"], "any")) < len(library())
    console = Console(width=160, record=True)
    console.print(table)
    assert "bracket_depth_ge_2" in console.export_text()


def test_a_boolean_hypothesis_is_painted_where_it_holds(tmp_path):
    path = tmp_path / "text.py"
    path.write_text(PYTHON)
    painted = paint_hypothesis("inside_comment", path)
    assert painted.plain == PYTHON
    (hypothesis,) = select(["inside_comment"], "python")
    values, _ = hypothesis.label(PYTHON)
    assert marked(painted) == "".join(c for c, value in zip(PYTHON, values, strict=True) if value) != ""


def test_undefined_characters_are_dim_and_equal_styles_merge(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abc\n\nde")
    painted = paint_hypothesis("newline_next", path)
    assert [(painted.plain[each.start : each.end], str(each.style)) for each in painted.spans] == [
        ("c\n", "black on rgb(100,100,255)"),
        ("e", "dim"),
    ]


def test_a_continuous_hypothesis_is_painted_from_pale_to_dark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcd")
    styles = [str(span.style) for span in paint_hypothesis("column", path).spans]
    assert len(styles) == 3 and len(set(styles)) == 3  # the lowest value, 0, has no colour
    assert styles == sorted(styles, reverse=True)


def test_control_characters_are_shown_by_code_point(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a\x1b[2J\u202eb\tc\n")
    painted = paint_hypothesis("letter=[a-c]", path)
    assert painted.plain == "aU+001B[2JU+202Eb\tc\n"
    assert marked(painted) == "abc"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c", "x", "is a set of hypotheses"),
        ("auto", "x", "is a set of hypotheses"),
        ("inside_coment", "x", "did you mean inside_comment"),
        ("column", "", "is empty"),
    ],
)
def test_unpaintable_input_is_refused(tmp_path, name, text, message):
    path = tmp_path / "text.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        paint_hypothesis(name, path)


def test_user_patterns_and_functions_are_painted(tmp_path, capsys, monkeypatch):
    (tmp_path / "text.txt").write_text("a1b22\n")
    assert marked(paint_hypothesis("n=[0-9]+", tmp_path / "text.txt")) == "122"
    (tmp_path / "own.py").write_text(
        "from gatescope.analysis.hypotheses import hypothesis\n"
        '@hypothesis(language="any", values="boolean")\n'
        'def is_b(text):\n    "A b."\n    return [c == "b" for c in text]\n'
    )
    monkeypatch.setenv("FORCE_COLOR", "1")
    words = [
        "hypotheses",
        "--show",
        "is_b",
        "--text",
        str(tmp_path / "text.txt"),
        "--functions",
        str(tmp_path / "own.py"),
    ]
    assert main(words) == 0
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.delenv("FORCE_COLOR")
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == "a1b22\n\n" and "set FORCE_COLOR=1" in said.err
    with registered_by(load_functions(tmp_path / "own.py")[0].function.__module__):
        pass
