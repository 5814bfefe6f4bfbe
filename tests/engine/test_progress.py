"""progress.py: a bar where somebody looks, and nothing else on standard error."""

from gatescope.engine.progress import progress_bar


def test_a_bar_has_the_share_that_is_done_and_a_note(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("train", 200, "characters", done=40) as advance:
        advance(100)
        advance(0, note="1.234 nats")
    printed = capsys.readouterr()
    last = printed.err.rpartition("train")[2]
    assert "70%" in last and "1.234 nats" in last and printed.out == ""


def test_a_file_gets_no_bar(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with progress_bar("train", 2, "characters") as advance:
        advance(1, note="x")
    assert capsys.readouterr() == ("", "")
