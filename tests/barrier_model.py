"""A model of the grid barrier, and its exhaustive exploration.

Participants (the programs of one group) have threads that run in any order. In each step every thread waits for the
counter, reads what all threads of all participants wrote in the previous step, and writes its own part; then the
threads of a participant meet (the CTA barrier) and its first thread adds one to the counter.

A store is certain to be visible to other participants only after a release: by the storing thread itself, or by a
thread of its participant that it has met at a CTA barrier after the store. Each store has its own address, and only
reading too early can be wrong, so a store that nothing has released is taken to be invisible: any error that would
arise if it became visible sooner arises here too. An atomic addition is visible at once.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Barrier:
    """The protocol, with the mistakes that the exploration must find."""

    release: bool = True  # the addition publishes earlier stores
    meets: bool = True  # the participant's threads meet before the addition
    fresh: bool = True  # the counter is zero when the kernel starts; else it keeps the last launch's value
    missing: int = 0  # arrivals for which the wait does not wait


# What a thread does in a step, in order; its position in a run is (step, place in this list).
ACTIONS = ("wait", "read", "write", "meet", "add")


RIGHT = Barrier()


def arrivals_before(step, n_participants):
    """The value that the counter must reach before a participant that has arrived `step` times may read."""
    return step * n_participants


def explore(n_participants, n_threads, n_steps, barrier=RIGHT):
    """Return "safe", "early read" or "deadlock", and the number of states seen.

    A state holds, for each participant, each thread's position and which of its stores are met (step + 1 of the last)
    and released, and the counter.
    """
    start_count = 0 if barrier.fresh else n_participants * (n_steps - 1)
    first = (((0,) * n_threads, (-1,) * n_threads, (-1,) * n_threads),) * n_participants
    stack = [(first, start_count)]
    seen = set(stack)
    end = n_steps * len(ACTIONS)
    while stack:
        participants, count = stack.pop()
        moves = []
        for p in range(n_participants):
            for thread in range(n_threads):
                moved = _move(participants, count, p, thread, barrier, end)
                if moved == "early read":
                    return "early read", len(seen)
                if moved is not None:
                    moves.append(moved)
        if not moves and any(position < end for positions, _, _ in participants for position in positions):
            return "deadlock", len(seen)
        for state in moves:
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return "safe", len(seen)


def _move(participants, count, p, thread, barrier, end):
    """The state after a thread's next action, None if it cannot act now, or "early read" if it reads too early."""
    positions, stored, released = participants[p]
    position = positions[thread]
    if position == end:
        return None
    step, place = divmod(position, len(ACTIONS))
    action = ACTIONS[place]
    n_participants = len(participants)
    if action == "wait" and count < arrivals_before(step, n_participants) - (barrier.missing if step else 0):
        return None
    if action == "read" and step > 0:
        for other, (_, theirs, public) in enumerate(participants):
            visible = theirs if other == p else public
            if min(visible) < step - 1:
                return "early read"
    if action == "write":
        stored = _changed(stored, thread, step)
    if action == "meet" and barrier.meets:
        here = [divmod(each, len(ACTIONS)) for each in positions]
        if any((s, k) < (step, place) for s, k in here):
            return None
    if action == "add" and thread == 0:
        count += 1
        if barrier.release:
            # The stores of threads that have met are released too; without a meeting only this thread's own are certain
            # to be.
            released = tuple(stored) if barrier.meets else _changed(released, 0, stored[0])
    positions = _changed(positions, thread, position + 1)
    return (*participants[:p], (positions, stored, released), *participants[p + 1 :]), count


def _changed(values, place, value):
    return (*values[:place], value, *values[place + 1 :])
