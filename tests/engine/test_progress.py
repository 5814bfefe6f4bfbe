"""progress.py: a bar on a terminal, lines of a log elsewhere."""

from types import SimpleNamespace

import pytest

from gatescope.engine import progress
from gatescope.engine.progress import progress_bar


def test_a_bar_shows_the_finished_share_and_a_note(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("train", 200, "characters", done=40) as advance:
        advance(80)
        advance(0, note="1.234 nats")
        advance(20)
    printed = capsys.readouterr()
    last = printed.err.rpartition("train")[2]
    assert "70%" in last and "1.234 nats" in last and printed.out == ""


@pytest.fixture
def clock(monkeypatch):
    """Standard error is a file, and the clock stands still until it is set."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_file_gets_a_line_every_minute(clock, capsys):
    with progress_bar("train", 100_000, "characters", done=1_000) as advance:
        clock[0] += 59
        advance(500, note="2.345 nats")
        assert capsys.readouterr() == ("", "")
        clock[0] += 1
        advance(71_500)
        # 72,000 in a minute, with 27,000 left.
        line = "gatescope: train: 73%, 1,200 characters/s, 0:00:22 left, 2.345 nats\n"
        assert capsys.readouterr() == ("", line)
        clock[0] += 59
        advance(1)
        assert capsys.readouterr() == ("", "")


def test_only_the_first_process_shows_progress(clock, capsys, monkeypatch):
    monkeypatch.setattr(progress, "everybody", lambda: SimpleNamespace(rank=1, size=2))
    with progress_bar("train", 10, "characters") as advance:
        clock[0] += 600
        advance(5)
    assert capsys.readouterr() == ("", "")
