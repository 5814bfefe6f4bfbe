import re
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import own_hypotheses
from gatescope.analysis.hypotheses import library
from gatescope.analysis.own_hypotheses import load_functions, pattern
from gatescope.analysis.report_text import SEES
from gatescope.engine.errors import InputError


def test_a_pattern_marks_its_matches():
    found = pattern(r"number=\d+|\bx")
    assert (found.name, found.language, found.values, found.sees) == ("number", "any", "boolean", "future")
    values, defined = found.label("a 42 x", prime="4")
    assert values.tolist() == [False, False, True, True, False, True]
    assert defined.all()
    assert pattern("a=b=c").label("b=c")[0].all()


REPEATABLE = st.sampled_from(["a", ".", r"\w", r"\d", r"\s", "[ab]", "[^a]", "(a|b)", "(?:ab)", "é"])
PIECES = st.sampled_from(["^", "$", r"\b", "(?=b)", "(?<=-)", "(?!c)"]) | st.tuples(
    REPEATABLE, st.sampled_from(["", "*", "+", "?", "{1,2}", "*?", "+?"])
).map("".join)


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(PIECES, min_size=1, max_size=5), text=st.text("ab1 é-\n", max_size=30) | st.text(max_size=20))
def test_matches_equal_re(pieces, text):
    expression = "".join(pieces)
    expected = [False] * len(text)
    for match in re.finditer(expression, text):
        expected[match.start() : match.end()] = [True] * (match.end() - match.start())
    assert pattern(f"x={expression}").label(text)[0].tolist() == expected


def test_patterns_handle_unpaired_surrogates_and_nul():
    assert pattern("x=[\ud800\0]").label("a\ud800\0b")[0].tolist() == [False, True, True, False]


def test_a_runaway_expression_is_stopped_in_every_thread(monkeypatch):
    monkeypatch.setattr(own_hypotheses, "SECONDS", 0.2)
    slow, caught = pattern("slow=(?:a|aa|aaa)+$"), []

    def label():
        try:
            slow.label("a" * 80 + "b")
        except InputError as error:
            caught.append(str(error))

    thread = threading.Thread(target=label)
    thread.start()
    thread.join()
    label()
    assert caught == [caught[0]] * 2
    assert re.fullmatch(r"pattern 'slow' took longer than .* on 81 characters; .*", caught[0])
    assert slow.label("baa")[0].tolist() == [False, True, True]


@pytest.mark.parametrize(("expression", "needs_later"), [(r"\d", False), (r"\d+a", True)])
def test_a_pattern_may_need_later_characters(expression, needs_later):
    found, text = pattern(f"digits={expression}"), "b 42a 7"
    whole = found.label(text)[0].tolist()
    early = [found.label(text[: end + 1])[0].tolist()[end] for end in range(len(text))]
    assert (early != whole) == needs_later
    # The report's words for `sees` fit both cases.
    assert SEES[found.sees].startswith("The label may depend on later characters")


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("number", "has no '='"),
        ("=a", "the name is invalid at position 0"),
        ("1a=a", "the name is invalid at position 0"),
        ("a b=a", "the name is invalid at position 1"),
        ("é=a", "the name is invalid at position 0"),
        ("a=", "empty at position 2"),
        ("ab=x(y", r"missing \) at position 6"),
        ("a=*", "nothing to repeat at position 2"),
        ("a=[b", "unterminated character set at position 4"),
        ("a=b{99999999999}", "repeat count too big at position 4"),
        ("capitals=a", "'capitals' already exists"),
        # A probe would test the pattern in place of the set.
        ("auto=a", "'auto' already exists"),
        ("c=a", "'c' already exists"),
    ],
)
def test_bad_patterns_are_refused(specification, message):
    with pytest.raises(InputError, match=message) as caught:
        pattern(specification)
    assert repr(specification) in str(caught.value)
    assert "\n" not in str(caught.value)


GOOD = """
from gatescope.analysis.hypotheses import hypothesis
import beside
@hypothesis(language="any", values="continuous")
def place(text):
    "Offset in the text."
    return beside.places(text)
@hypothesis(language="c")
def never(text):
    return [False] * len(text)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "beside.py").write_text("def places(text): return range(len(text))\n")
    path = list(sys.path)
    yield tmp_path / "my functions.py"
    sys.modules.pop("beside", None)
    sys.path[:] = path


def test_load_functions_registers_functions_of_a_file(file):
    file.write_text(GOOD)
    path = list(sys.path)
    found = load_functions(file)
    assert [(each.name, each.language) for each in found] == [("place", "any"), ("never", "c")]
    assert found[0].label("abc")[0].tolist() == [0, 1, 2]
    # At the end of the path, so that it hides no library.
    assert sys.path == [*path, str(file.parent)]
    assert not list(file.parent.glob("**/my*.pyc"))
    # Loading the file again, changed or not, replaces what it registered.
    file.write_text("\n\n" + GOOD)
    again = load_functions(file)
    assert [each.name for each in again] == ["place", "never"]
    assert [each.name for each in library()].count("place") == 1


def test_functions_may_import_late_and_change_the_folder(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    late = GOOD.replace("import beside\n", "import os\nos.chdir('/')\n")
    file.write_text(late.replace("    return beside", "    import beside\n    return beside"))
    found = load_functions(file.name)
    assert found[0].label("abc")[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("source", "message"),
    {
        "syntax": ("a = 1\nb = (\n", r"my functions.py, line 2: SyntaxError"),
        "raises": ("\n\nraise KeyError('x')\n", r"my functions.py, line 3: KeyError: 'x'"),
        "deep": ("def f():\n    return 1 / 0\nf()\n", r"my functions.py, line 2: ZeroDivisionError"),
        "exits": ("import sys\nsys.exit('bye')\n", r"my functions.py, line 2: SystemExit: bye"),
        "nothing": ("a = 1\n", r"my functions.py registers no hypothesis"),
        "taken": (
            GOOD.replace("place", "capitals"),
            r"my functions.py, line \d: InputError: a hypothesis named 'capitals' already exists",
        ),
        "empty": ("", "registers no hypothesis"),
        "NUL": ("a = '\0'\n", "my functions.py.*: "),
    }.values(),
)
def test_bad_files_are_refused(file, source, message):
    file.write_text(source)
    before = library()
    with pytest.raises(InputError, match=message) as caught:
        load_functions(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    assert library() == before


def test_a_failing_file_keeps_its_earlier_registrations(file):
    file.write_text(GOOD)
    load_functions(file)
    file.write_text(GOOD + "\n1 / 0\n")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        load_functions(file)
    assert [each.name for each in library()].count("place") == 1


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_missing_file_is_refused(tmp_path, kind):
    path = tmp_path if kind == "folder" else tmp_path / "nothing.py"
    with pytest.raises(InputError, match="expected a Python file"):
        load_functions(path)
