"""The rows that a results file lacks, for `tables.py`: those that pytest collects but that were not measured there."""

import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHAPE = re.compile(r"B\d+(-T\d+)?-H\d+(-L\d+)?")
DIRECTION = re.compile(r"-?(forward|backward)")


@cache
def rows():
    """The names of all rows, as in results files: those of a GPU and those of a CPU."""
    collected = Collected()
    code = pytest.main([str(HERE), "--collect-only", "-p", "no:terminal"], plugins=[collected])
    assert code == pytest.ExitCode.OK, f"pytest could not collect the benchmarks: {code!r}"
    return collected.on_gpu, collected.on_cpu


class Collected:
    """Keeps the names of the tests that pytest collects."""

    def pytest_collection_finish(self, session):
        self.on_gpu, self.on_cpu = [], []
        for item in session.items:
            names = self.on_gpu if item.get_closest_marker("cuda") else self.on_cpu
            names.append(item.nodeid.rpartition("/")[2])


def table_of(name):
    """The file of a row and the shape in its name, which the rows of a table have in common."""
    file, _, case = name.partition("::")
    shape = SHAPE.search(case)
    return file, shape.group() if shape else ""


def table(names):
    """Names of rows as a Markdown table: a line for each file and shape; a direction if only that one is missing."""
    lines = {}
    for name in names:
        case = name.partition("::")[2]
        file, shape = table_of(name)
        form = (case.partition("[")[2].rstrip("]") or case).replace(shape, "")
        form = re.sub("-+", "-", form.removeprefix("cuda").removeprefix("cpu")).strip("-")
        direction = DIRECTION.search(form)
        form = DIRECTION.sub("", form).strip("-")
        forms = lines.setdefault((file, shape), {})
        forms.setdefault(form, []).append(direction.group(1) if direction else "")
    parts = ["| file | shape | not measured |", "|---|---|---|"]
    for (file, shape), forms in lines.items():
        cells = (form + f" ({found[0]})" * (len(found) == 1 and found[0] != "") for form, found in forms.items())
        parts.append(f"| {file} | {shape} | {', '.join(cells)} |")
    return "\n".join(parts)
