import pytest

from gatescope.analysis.c_machine import CLOSE_FUNCTION, KEYWORD_OPEN, Body, ConditionMachine

KINDS = {"k": KEYWORD_OPEN, "0": CLOSE_FUNCTION}


def events(text):
    """Read `k` as the parenthesis of a keyword, `0` as the brace that ends a function, letters as other code."""
    parentheses = braces = 0
    for place, character in enumerate(text):
        parentheses = 0 if character == "0" else parentheses + (character in "(k") - (character == ")")
        braces = 0 if character == "0" else braces + (character == "{") - (character == "}")
        if character in "k){};0":
            following = next((i for i in range(place + 1, len(text)) if text[i] != " "), len(text))
            yield place, KINDS.get(character, ord(character)), parentheses, braces, following


@pytest.mark.parametrize(
    ("text", "conditions", "bodies"),
    [
        ("k)a;b", [0, 1], [2, 4]),
        ("k) {a;}b", [0, 1], [3, 7]),
        ("k(a))b;", [0, 4], [5, 7]),
        ("k)k)a;b", [0, 1, 2, 3], [2, 6]),
        ("k)k){a;}b", [0, 1, 2, 3], [2, 8]),
        ("k){k){a;}}b", [0, 1, 3, 4], [2, 10]),
        ("k)a;k)b;", [0, 1, 4, 5], [2, 4, 6, 8]),
        ("k)", [0, 1], []),
        ("ka0", [0, 2], []),
        ("{k)a}b;", [1, 2], [3, 4]),
        ("(k)a)b;", [1, 2], [3, 4]),
    ],
)
def test_conditions_and_bodies_flip_at_the_expected_places(text, conditions, bodies):
    found = ConditionMachine().run(events(text), 0, len(text))
    assert found[:2] == (conditions, bodies)


def test_a_body_may_begin_in_the_next_piece():
    _, flips, machine = ConditionMachine().run(events("k)"), 0, 2)
    assert machine.awaiting == Body(parentheses=0, braces=0, chained=False)
    assert flips == []
    # Only blanks.
    _, flips, still = machine.run([], first=3, n=3)
    assert (still, flips) == (machine, [])
    _, flips, after = still.run(events(" a;"), first=1, n=3)
    assert flips == [1, 3]
    assert after == ConditionMachine(fresh=after.fresh)


def test_a_run_does_not_modify_the_machine():
    machine = ConditionMachine()
    machine.run(events("k"), 0, 1)
    assert machine == ConditionMachine()
