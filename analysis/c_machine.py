"""Conditions and their bodies in C, from the brackets and semicolons of its code.

A condition runs from the `(` after `if`, `while`, `for` or `switch` to its matching `)`. Its body begins with the next
character of code. It ends with its own `}` if it began with `{`, else with the next `;` at the same depth. A body that
begins with another condition ends where that condition's body ends. What follows `else` or `do` is not a body, because
no condition precedes it; the semicolon after `do ... while (...)` is a body of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

KEYWORD_OPEN, CLOSE_FUNCTION = ord("k"), ord("0")  # `(` after a keyword, `}` in column 0
EARLIER, NOT_FRESH = -1, -2
_CLOSE, _OPEN_BRACE, _SEMICOLON = b"){;"


class Body(NamedTuple):
    """A body: the depths around it, whether the enclosing body ends with it, and whether it began with `{`."""

    parentheses: int
    braces: int
    chained: bool
    braced: bool = False

    def at(self, parentheses: int, braces: int) -> bool:
        return self.parentheses == parentheses and self.braces == braces


@dataclass
class ConditionMachine:
    """The open conditions and bodies, which are all that the machine remembers; without arguments, the start of a text.

    Args:
        conditions: depth around each open condition, and whether its keyword begins a body; outermost first.
        bodies: the open bodies, outermost first.
        awaiting: the body of a condition that has closed, if the body has not begun yet.
        fresh: place where the last body began if no event has followed, EARLIER if in an earlier piece, else NOT_FRESH.
    """

    conditions: list[tuple[int, bool]] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    awaiting: Body | None = None
    fresh: int = NOT_FRESH

    def run(
        self, events: Iterable[tuple[int, int, int, int, int]], first: int, n: int
    ) -> tuple[list[int], list[int], ConditionMachine]:
        """Step over the events of a piece of n characters; the machine itself is not changed.

        Args:
            events: for each `)`, `{`, `}`, `;`, KEYWORD_OPEN and CLOSE_FUNCTION in order: its place, its kind, the
                depth of parentheses and of braces after it, and the place of the next code, or n if there is none.
            first: place of the first code in the piece, or n if there is none.
            n: number of characters of the piece.

        Returns:
            The places where "in a condition" flips, those where "in a body" flips, and the machine after the piece.
        """
        after = replace(self, conditions=list(self.conditions), bodies=list(self.bodies))
        condition_flips: list[int] = []
        body_flips: list[int] = []
        if after.fresh != NOT_FRESH:
            after.fresh = EARLIER
        if after.awaiting:
            after._begin_body(after.awaiting, first, n, body_flips)
        bodies, conditions = after.bodies, after.conditions
        for place, kind, parentheses, braces, following in events:
            fresh, after.fresh = after.fresh, NOT_FRESH
            # A body ends at the latest with the brackets that enclose it.
            while bodies and (bodies[-1].parentheses > parentheses or bodies[-1].braces > braces):
                after._end_body(place, body_flips)
            if kind == KEYWORD_OPEN:
                if not conditions:
                    condition_flips.append(place)
                chained = fresh != NOT_FRESH and bodies[-1].parentheses == parentheses - 1
                conditions.append((parentheses - 1, chained))
            elif kind == _CLOSE:
                if conditions and conditions[-1][0] == parentheses:
                    _, chained = conditions.pop()
                    if not conditions:
                        condition_flips.append(place)
                    after._begin_body(Body(parentheses, braces, chained), following, n, body_flips)
            elif kind == _SEMICOLON:
                while bodies and not bodies[-1].braced and bodies[-1].at(parentheses, braces):
                    after._end_body(place + 1, body_flips)
            elif kind == _OPEN_BRACE:
                if place == fresh:
                    bodies[-1] = bodies[-1]._replace(braced=True)
            else:
                if bodies and bodies[-1].braced and bodies[-1].at(parentheses, braces):
                    while after._end_body(place + 1, body_flips).chained and bodies:
                        pass
                if kind == CLOSE_FUNCTION:
                    if conditions:
                        condition_flips.append(place)
                        conditions.clear()
                    while bodies:
                        after._end_body(place, body_flips)
        return condition_flips, body_flips, after

    def _begin_body(self, body: Body, place: int, n: int, flips: list[int]) -> None:
        self.awaiting = body if place == n else None
        if self.awaiting:
            return
        if not self.bodies:
            flips.append(place)
        self.bodies.append(body)
        self.fresh = place

    def _end_body(self, flip: int, flips: list[int]) -> Body:
        body = self.bodies.pop()
        if not self.bodies:
            flips.append(flip)
        return body
