import functools
import subprocess
import sys

import pytest

from gatescope.analysis import hypotheses
from gatescope.analysis.hypotheses import hypothesis, library, select
from gatescope.analysis.hypothesis import Hypothesis
from gatescope.engine.errors import InputError


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
def test_wrong_declarations_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        hypothesis(**arguments)


@pytest.mark.parametrize("name", ["inside_comment", "capitals", "newline_next"])
def test_built_in_names_cannot_be_reused(name):
    def function(text): ...

    function.__name__ = name
    with pytest.raises(InputError, match="already exists"):
        hypothesis(language="english")(function)


@pytest.mark.parametrize("name", ["auto", "python", "any"])
def test_names_of_sets_cannot_be_reused(name):
    def function(text): ...

    function.__name__ = name
    with pytest.raises(InputError, match=f"a set of hypotheses is already named '{name}'"):
        hypothesis(language="any")(function)
    assert not any(each.name == name for each in library())


def test_a_name_may_be_registered_again_only_by_its_own_function():
    def define(source, file):
        space = {"__name__": "notebook", "hypothesis": hypothesis}
        exec(compile(source, file, "exec"), space)

    cell = "@hypothesis(language='any')\ndef mine(text): return [True] * len(text)\n"
    define(cell, "<cell 1>")
    define(cell, "<cell 2>")
    with pytest.raises(InputError, match="'mine' already exists"):
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


AUTO = [("c", 12, 5), ("python", 13, 4), ("english", 10, 3), ("any", 1, 2)]


@pytest.mark.parametrize(("language", "booleans", "continuous"), AUTO)
def test_auto_selects_the_language_and_general_hypotheses(language, booleans, continuous):
    found = select(["auto"], language)
    assert {each.language for each in found} == {language, "any"}
    assert sum(each.values == "boolean" for each in found) == booleans
    assert sum(each.values == "continuous" for each in found) == continuous
    assert len({each.name for each in found}) == len(found)


@pytest.mark.parametrize("name", ["c", "python", "english", "any", "legacy"])
def test_a_default_set_names_only_existing_hypotheses(name):
    module = sys.modules[hypotheses.SETS[name]]
    assert {each.name for each in select([name], "any")} == set(module.DEFAULT)
    assert len(module.DEFAULT) == len(set(module.DEFAULT))


def test_a_selection_follows_the_library_order_without_repeats():
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
def test_the_language_decides_between_equal_names(language, expected):
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
def test_unknown_names_are_refused(name, message):
    with pytest.raises(InputError, match=message) as caught:
        select([name], "c")
    assert repr(name) in str(caught.value)


def test_an_unknown_language_is_refused():
    with pytest.raises(InputError, match="language='latin'; expected one of c, python, english, any"):
        select(["auto"], "latin")


def test_every_hypothesis_has_a_description_of_one_line():
    for each in library():
        assert each.description[0].isupper() and each.description.endswith("."), each.name
        assert len(each.description) < 110, each.name


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
