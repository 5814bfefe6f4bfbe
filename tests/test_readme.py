"""The README's Python examples run as they stand."""

import re
from pathlib import Path

import pytest
from forked import run_redirected

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number, tmp_path):
    done = run_redirected(exec, (EXAMPLES[number], {"__name__": "__main__"}), tmp_path)
    assert done.returncode == 0, done.stderr


def test_there_are_examples_of_every_part():
    imported = set(re.findall(r"from gatescope\.(\w+)\.", "".join(EXAMPLES)))
    assert imported == {"kernels", "engine", "analysis"} and len(EXAMPLES) >= 4


def test_every_command_of_the_readme_exists():
    from gatescope.analysis.cli import COMMANDS

    assert set(re.findall(r"`gatescope (\w+)", README)) - {"COMMAND"} == set(COMMANDS)
