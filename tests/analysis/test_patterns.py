import os
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatescope.analysis import patterns
from gatescope.analysis.patterns import CoveredBy
from gatescope.engine.errors import InputError

RUNAWAY = "(a+)+b"
LONG = "a" * 60


def process_of(covered):
    assert covered._process is not None
    return covered._process


@pytest.fixture(scope="module")
def words():
    return CoveredBy("words", r"\b\w+\b|(?<=-)>|^$|é+")


@settings(max_examples=50, deadline=None)
@given(text=st.text("ab é->\n", max_size=40) | st.text(max_size=20))
def test_covers_what_matches_cover(words, text):
    expected = [False] * len(text)
    for match in re.finditer(words.expression, text):
        expected[match.start() : match.end()] = [True] * (match.end() - match.start())
    assert words(text).tolist() == expected


def test_unpaired_surrogates_and_nul():
    assert CoveredBy("odd", "[\ud800\0]")("a\ud800\0b").tolist() == [False, True, True, False]


def test_a_long_text():
    text = "ab " * 400_000
    assert CoveredBy("a", "a")(text).sum() == 400_000


def test_a_runaway_expression_is_stopped_and_the_next_text_is_read():
    covered = CoveredBy("slow", RUNAWAY, seconds=0.5)
    assert covered("aab").all()
    with pytest.raises(InputError, match=r"pattern 'slow' took longer than .* on 60 characters") as caught:
        covered(LONG)
    assert "\n" not in str(caught.value)
    assert covered("aab").all()


def test_a_runaway_expression_is_stopped_in_a_thread():
    covered, caught = CoveredBy("slow", RUNAWAY, seconds=0.5), []

    def run():
        try:
            covered(LONG)
        except InputError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_the_process_serves_many_texts_and_ends_with_its_owner():
    covered = CoveredBy("a", "a")
    covered("a")
    process = process_of(covered)
    covered("b")
    assert process_of(covered) is process
    assert process.poll() is None
    del covered
    assert process.wait(timeout=10) != 0


def test_a_process_that_died_is_replaced():
    covered = CoveredBy("a", "a")
    covered("a")
    process_of(covered).kill()
    process_of(covered).wait()
    assert covered("ab").tolist() == [True, False]


def test_an_expression_that_fails_is_named():
    # Killed from outside, as for want of memory, while it works.
    covered = CoveredBy("slow", RUNAWAY)
    covered("a")

    def kill():
        time.sleep(0.3)
        process_of(covered).kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(InputError, match="pattern 'slow' failed on 60 characters"):
        covered(LONG)
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_copy_has_a_process_of_its_own():
    covered = CoveredBy("a", "a")
    covered("a")
    owner = process_of(covered).pid
    child = os.fork()
    if child == 0:
        found = covered("ba").tolist() == [False, True] and process_of(covered).pid != owner
        os._exit(0 if found else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert covered("ab").tolist() == [True, False]
    assert process_of(covered).pid == owner


def test_a_process_that_dies_at_its_start_is_named(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("raise SystemExit")
    monkeypatch.setattr(patterns, "WORKER", worker)
    long = "(" + "a|" * 100_000 + "b)"  # more than a pipe holds
    with pytest.raises(InputError, match="pattern 'a' failed"):
        CoveredBy("a", long)("a")
