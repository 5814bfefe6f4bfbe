"""Two torchrun processes: what one refuses, and what the other sees when one ends."""

import os
import time
from datetime import timedelta
from functools import partial

import pytest
import torch
from forked import SERVER
from torch import distributed

from gatescope.engine.errors import InputError, RefusedElsewhere
from gatescope.engine.processes import everybody, joined, own_rows

# The store exists already, as under torchrun, which holds it in a process of its own.
HELD_STORE = {"TORCHELASTIC_USE_AGENT_STORE": "True"}


def _run(function, rank, port, answers, environment=HELD_STORE):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= environment
    try:
        with joined("cpu"):
            answers[rank].send(function())
    except Exception as error:
        answers[rank].send(error)


def answers_of(function):
    """What a function returns or raises in each of two processes; None for a process that dies."""
    # With port 0 the system chooses a port that no other process can take.
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ends = [SERVER.Pipe(duplex=False) for _ in range(2)]
    senders = [sender for _, sender in ends]
    processes = [SERVER.Process(target=_run, args=(function, rank, store.port, senders)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [receiver.recv() if receiver.poll() else None for receiver, _ in ends]


def _refuse_in_one():
    with everybody().together():
        if everybody().rank == 0:
            raise InputError("no such thing")


def test_a_refusal_in_one_process_ends_the_others():
    one, other = answers_of(_refuse_in_one)
    assert type(one) is InputError and str(one) == "no such thing"
    assert type(other) is RefusedElsewhere and str(other) == "another process rejected its input: see its message"


def _bounds():
    numbers, everyone = [everybody().rank, -everybody().rank, 2**62], everybody()
    return everyone.smallest(numbers).tolist(), everyone.largest(numbers).tolist(), float(everyone.smallest(numbers[0]))


def test_processes_share_the_smallest_and_largest_number():
    assert _bounds() == ([0, 0, 2**62], [0, 0, 2**62], 0)
    assert answers_of(_bounds) == [([0, -1, 2**62], [1, 0, 2**62], 0)] * 2


def test_processes_divide_rows_without_gaps():
    assert own_rows(7) == (0, 7)
    assert answers_of(partial(own_rows, 7)) == [(0, 3), (3, 7)]
    assert answers_of(partial(own_rows, 1)) == [(0, 0), (0, 1)]


def _write_in_the_block(folder):
    with everybody().together():
        if everybody().rank == 0:
            time.sleep(0.3)
            (folder / "written").touch()
    return (folder / "written").exists()


def test_all_processes_wait_for_the_last(tmp_path):
    assert answers_of(partial(_write_in_the_block, tmp_path)) == [True, True]


def _die():
    everybody().meet()
    if everybody().rank == 0:
        os._exit(9)
    everybody().meet()


def _die_before_an_average():
    everybody().meet()
    if everybody().rank == 0:
        os._exit(9)
    return everybody().total(torch.ones(()))


@pytest.mark.parametrize("function", [_die, _die_before_an_average])
def test_the_death_of_a_process_is_reported_in_one_line(function):
    one, other = answers_of(function)
    assert one is None
    assert type(other) is InputError and str(other) == "another process ended: see its message"


def _meet():
    everybody().meet()


def _die_before_the_other_has_joined(port):
    store = distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    port.send(store.port)
    while store.num_keys() < 2:
        time.sleep(0.01)
    os._exit(9)


def test_a_death_before_all_have_joined_is_reported_in_one_line():
    (port, port_sender), (receiver, sender) = (SERVER.Pipe(duplex=False) for _ in range(2))
    first = SERVER.Process(target=_die_before_the_other_has_joined, args=(port_sender,))
    first.start()
    second = SERVER.Process(target=_run, args=(_meet, 1, port.recv(), [None, sender], {}))
    second.start()
    for process in (first, second):
        process.join()
    error = receiver.recv()
    assert type(error) is InputError
    assert str(error).startswith("torchrun's processes could not connect (") and str(error).endswith("see its message")


def _fault():
    raise RuntimeError("a fault of our own")


def test_other_exceptions_pass_unchanged():
    assert [type(answer) for answer in answers_of(_fault)] == [RuntimeError] * 2


def _patience():
    return distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout


def test_waiting_for_the_first_process_does_not_time_out():
    """The first process verifies and copies a whole dump, but torch gives up after 30 minutes."""
    assert all(patience > timedelta(days=7) for patience in answers_of(_patience))
