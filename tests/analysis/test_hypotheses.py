import functools
import subprocess
import sys

import numpy as np
import pytest

from gatescope.analysis import hypotheses
from gatescope.analysis.hypotheses import Hypothesis, hypothesis, library, select
from gatescope.engine.errors import InputError


def made(function, values="boolean"):
    return Hypothesis("made", "any", values, "past", "", function)


def test_the_decorator_returns_the_function_and_registers_it():
    def after_comma(text):
        """The last character is a comma.

        Blanks do not count.
        """
        return [character == "," for character in text]

    assert hypothesis(language="any")(after_comma) is after_comma
    (found,) = select(["after_comma"], "english")
    assert found == Hypothesis("after_comma", "any", "boolean", "past", "The last character is a comma.", after_comma)
    values, defined = found.label("a,b")
    assert values.dtype == bool
    assert values.tolist() == [False, True, False]
    assert defined.tolist() == [True, True, True]
    assert library()[-1] == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"language": "cobol"}, "language='cobol'"),
        ({"language": "c", "values": "text"}, "values='text'"),
        ({"language": "c", "sees": "all"}, "sees='all'"),
    ],
)
def test_wrong_declarations(arguments, message):
    with pytest.raises(InputError, match=message):
        hypothesis(**arguments)


@pytest.mark.parametrize("name", ["inside_comment", "capitals", "newline_next"])
def test_a_built_in_name_is_taken(name):
    def function(text): ...

    function.__name__ = name
    with pytest.raises(InputError, match="exists already"):
        hypothesis(language="english")(function)


def test_a_name_is_taken_by_another_function_but_not_by_itself():
    def define(source, file):
        space = {"__name__": "notebook", "hypothesis": hypothesis}
        exec(compile(source, file, "exec"), space)

    cell = "@hypothesis(language='any')\ndef mine(text): return [True] * len(text)\n"
    define(cell, "<cell 1>")
    define(cell, "<cell 2>")
    with pytest.raises(InputError, match="'mine' exists already"):
        define(cell + "\n" + cell, "<cell 3>")
    assert [each.name for each in library()].count("mine") == 1


def test_a_set_can_be_imported_first():
    program = (
        "from gatescope.analysis.english import capitals\n"
        "from gatescope.analysis.hypotheses import library, select\n"
        "print(library()[0].language, len(select(['auto'], 'c')), 'nltk' in __import__('sys').modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["c", "17", "False"], done.stderr


AUTO = [("c", 12, 5), ("python", 13, 4), ("english", 9, 3), ("any", 1, 2)]


@pytest.mark.parametrize(("language", "booleans", "continuous"), AUTO)
def test_auto(language, booleans, continuous):
    found = select(["auto"], language)
    assert {each.language for each in found} == {language, "any"}
    assert sum(each.values == "boolean" for each in found) == booleans
    assert sum(each.values == "continuous" for each in found) == continuous
    assert len({each.name for each in found}) == len(found)


@pytest.mark.parametrize("name", ["c", "python", "english", "any", "legacy"])
def test_a_default_set_names_only_what_there_is(name):
    module = sys.modules[hypotheses.SETS[name]]
    assert {each.name for each in select([name], "any")} == set(module.DEFAULT)
    assert len(module.DEFAULT) == len(set(module.DEFAULT))


def test_a_selection_is_in_the_library_s_order_and_names_each_once():
    found = select(["capitals", "inside_string", "auto", "inside_comment", "any", "column"], "c")
    order = library()
    assert [order.index(each) for each in found] == sorted(order.index(each) for each in found)
    names = [each.name for each in found]
    assert len(names) == len(set(names))
    assert {"capitals", "column"} <= set(names)
    assert names[:6] == [
        *("inside_parentheses", "inside_string", "inside_comment", "indent_gt_1", "indent_gt_2", "indent_gt_3")
    ]
    assert select([], "c") == []


@pytest.mark.parametrize(("language", "expected"), [("c", "c"), ("python", "python"), ("english", "c")])
def test_the_language_decides_between_namesakes(language, expected):
    (found,) = select(["inside_comment"], language)
    assert found.language == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inside_coment", "did you mean inside_comment"),
        ("pyton", "did you mean python"),
        ("qqqqqq", "`gatescope hypotheses` lists them"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(InputError, match=message) as caught:
        select([name], "c")
    assert repr(name) in str(caught.value)


def test_unknown_language():
    with pytest.raises(InputError, match="language='latin'; expected one of c, python, english, any"):
        select(["auto"], "latin")


def test_every_hypothesis_has_a_description_of_one_line():
    for each in library():
        assert each.description.endswith("."), each.name
        assert len(each.description) < 110, each.name


def test_undefined_values_are_false_or_zero():
    defined = [True, False, True]
    values, mask = made(lambda text: ([1, 1, 0], defined)).label("abc")
    assert (values.tolist(), mask.tolist()) == ([True, False, False], defined)
    values, _ = made(lambda text: (np.array([1.5, np.nan, 2]), np.array(defined)), "continuous").label("abc")
    assert values.dtype == np.float64
    assert values.tolist() == [1.5, 0, 2]


def test_a_text_of_two_characters_is_no_pair():
    assert made(lambda text: (True, False)).label("ab")[0].tolist() == [True, False]


def test_the_prime_is_read_and_not_scored():
    seen = []

    def function(text):
        seen.append(text)
        return np.arange(len(text)), np.arange(len(text)) != 3

    values, defined = made(function, "continuous").label("cd", prime="ab")
    assert seen == ["abcd"]
    assert (values.tolist(), defined.tolist()) == ([2, 0], [True, False])


def test_an_empty_text():
    for values in ("boolean", "continuous"):
        found, defined = made(lambda text: [], values).label("")
        assert found.shape == defined.shape == (0,)


def raises(text):
    return [1 / (len(text) - 3)]


@pytest.mark.parametrize(
    ("function", "values", "message"),
    {
        "raises": (raises, "boolean", r"'made' at test_hypotheses.py, line \d+: ZeroDivisionError: division by zero"),
        "exits": (lambda text: sys.exit(3), "boolean", "SystemExit: 3"),
        "too short": (lambda text: [True], "boolean", r"values of shape \(1,\) for a text of 3 characters"),
        "too long": (lambda text: [True] * 4, "boolean", r"values of shape \(4,\) for a text of 3 characters"),
        "two dimensions": (lambda text: np.ones((3, 1)), "boolean", r"shape \(3, 1\)"),
        "mask too short": (lambda text: ([True] * 3, [True]), "boolean", r"defined of shape \(1,\)"),
        "nothing": (lambda text: None, "boolean", "values of type object"),
        "strings": (lambda text: list(text), "boolean", "values of type <U1"),
        "complex": (lambda text: [1j] * 3, "continuous", "values of type complex"),
        "ragged": (lambda text: [[1], [1, 2], 3], "boolean", "inhomogeneous"),
        "not boolean": (lambda text: [0, 1, 2], "boolean", "returned 2 at character 2"),
        "NaN in a boolean": (lambda text: [0, np.nan, 1], "boolean", "returned nan at character 1"),
        "NaN": (lambda text: [0, np.nan, 1], "continuous", "returned nan at character 1"),
        "infinite": (lambda text: [np.inf, 0, 1], "continuous", "returned inf at character 0"),
        "beyond float32": (lambda text: [0, 1, 1e39], "continuous", r"returned 1e\+39 at character 2"),
    }.values(),
)
def test_what_a_function_does_wrong(function, values, message):
    with pytest.raises(InputError, match=message) as caught:
        made(function, values).label("abc")
    assert "'made'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupt_is_not_swallowed():
    def function(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(function).label("abc")


C_LINES = '#define A(x) \\\n\tf((x)\n/* one\n * two */ int a; // three\nif (a) {\n\tb = "x";\n}\n'
PYTHON_LINES = 'def f(x):\n    """Say.\n\n    More."""\n    if (x and\n            y):  # why\n        return x\n'
ENGLISH_LINES = 'First Citizen:\nHe said, "Speak.\nNow"\n\nAnd then. Was it so?\n'


@pytest.mark.parametrize(
    ("language", "text"), [("c", C_LINES), ("python", PYTHON_LINES), ("english", ENGLISH_LINES), ("any", C_LINES)]
)
def test_lines_that_end_with_a_return_have_the_labels_of_those_that_do_not(language, text):
    for each in select(["auto"], language):
        if "verb" in each.name or "noun" in each.name:
            continue
        values, defined = each.label(text)
        again, where = each.label(text.replace("\n", "\r\n"))
        kept = np.array([character != "\r" for character in text.replace("\n", "\r\n")])
        assert again[kept].tolist() == values.tolist(), each.name
        assert where[kept].tolist() == defined.tolist(), each.name
        # The return itself is as what stands before it.
        returns = np.flatnonzero(~kept)
        inner = returns[(returns > 0) & kept[returns - 1]]
        assert again[inner].tolist() == again[inner - 1].tolist(), each.name


@pytest.mark.parametrize("text", ["ab\r\ncd", "ab\rcd\r", "\r\r\nab", "if (a)\r\n\tb;\r\r\n"])
def test_at_a_return_nothing_tells_whether_a_newline_follows(text):
    for each in library():
        if each.sees != "past":
            continue
        values, defined = each.label(text)
        for cut in range(len(text)):
            early, where = each.label(text[:cut])
            assert (early.tolist(), where.tolist()) == (values[:cut].tolist(), defined[:cut].tolist()), each.name


def test_a_return_that_ends_a_text_has_no_next_character():
    (newline_next,) = select(["newline_next"], "any")
    assert newline_next.label("ab\r")[1].tolist() == [True, True, False]


def test_a_return_that_begins_a_text_is_undefined():
    (column,) = select(["column"], "any")
    assert column.label("\r\nab")[1].tolist() == [False, True, True, True]
    assert column.label("\rab")[0].tolist() == [0, 2, 3]


def test_a_return_in_the_prime_is_read_with_it():
    (comment,) = select(["inside_comment"], "c")
    assert comment.label("b*/c\r\n", "/*\r\n")[0].tolist() == comment.label("b*/c\n\n", "/*\n")[0].tolist()


def test_a_user_s_function_reads_what_is_there():
    seen = []
    made(lambda text: seen.append(text) or [True] * len(text)).label("a\r\nb")
    assert seen == ["a\r\nb"]


def test_what_a_masked_array_masks_is_undefined():
    def blank(text):
        return np.ma.masked_array([True] * len(text), [character == " " for character in text])

    for function in (blank, lambda text: (blank(text), [True] * len(text))):
        each = Hypothesis("blank", "any", "boolean", "past", "", function)
        assert each.label("b c", "a ")[1].tolist() == [True, False, True]
        assert each.label("b c", "a ")[0].tolist() == [True, False, True]


def test_a_callable_without_a_name_is_refused_and_with_one_registered():
    class Fixed:
        """Always so."""

        def __call__(self, text):
            return [True] * len(text)

    def constant(value, text):
        """Always the same."""
        return [value] * len(text)

    for function, name in ((functools.partial(constant, True), "partial"), (Fixed(), "Fixed")):
        with pytest.raises(InputError, match=f"a {name} has no name: set its __name__"):
            hypothesis(language="any")(function)
        function.__name__ = f"named_{name}"
        before = dict(hypotheses._registry)
        try:
            assert hypothesis(language="any")(function) is function
            hypothesis(language="any")(function)
            (found,) = select([f"named_{name}"], "any")
            assert found.description.startswith("Always") and found.label("ab")[0].tolist() == [True, True]
        finally:
            hypotheses._registry.clear()
            hypotheses._registry.update(before)
