"""probe_commands.py: what a command suggests at its end."""

from pathlib import Path

from gatescope.analysis import probe_commands


def test_suggested_commands_can_be_pasted():
    assert probe_commands._for_the_report(Path("two words")) == "for the report: gatescope report 'two words'"
    assert probe_commands._for_the_report(Path("out/run")) == "for the report: gatescope report out/run"
