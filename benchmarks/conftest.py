"""Keeps the reduced results of a benchmark run in `results/<device>.json`: a row per benchmark, the newest wins."""

import json
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from unmeasured import table_of

from gatescope.engine.kept_memory import kept_memory

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "scikit-learn", "zarr")


def device_name():
    """The GPU's name, or "cpu-" and the processor's: rows of different processors are never in one file."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().replace(" ", "-").lower()
    return "cpu-" + "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)|family|model", "", processor().lower())))


def processor():
    """The CPU's name and its generation."""
    # The first entry of each: every core has the same.
    facts = dict(map(str.strip, line.split(":", 1)) for line in reversed(_lines("/proc/cpuinfo")) if ":" in line)
    name = facts.get("model name", platform.machine())
    return f"{name} (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else name


def _lines(path):
    return Path(path).read_text().splitlines() if Path(path).exists() else []


@pytest.fixture
def kept():
    """Freed memory stays with the process, on both sides, as in `gatescope train`."""
    with kept_memory():
        yield


@pytest.fixture(scope="session")
def peak():
    """The FLOP/s of a large bfloat16 product on a device, measured once; None on a CPU."""
    measured = {}

    def of(device):
        if device != "cuda":
            return None
        if device not in measured:
            a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
            for _ in range(3):
                a @ a
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(20):
                a @ a
            stop.record()
            torch.cuda.synchronize()
            measured[device] = 20 * 2 * 8192**3 / (start.elapsed_time(stop) / 1e3)
        return measured[device]

    return of


def pytest_collection_modifyitems(config, items):
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
    elif config.getoption("benchmark_only"):
        taken = last_taken(kept_rows().values())
        items.sort(key=lambda item: taken.get(table_of(item.nodeid.removeprefix("benchmarks/")), ""))


def last_taken(rows):
    """When the newest row of each table was taken, or "" if its rows do not say so.

    Tables are timed in this order, so that a run continues where a limit of time has ended the last one.
    """
    newest = {}
    for row in rows:
        table = table_of(row["name"])
        newest[table] = max(newest.get(table, ""), row.get("taken", ""))
    return newest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" and report.passed:
        keep([each for each in item.config._benchmarksession.benchmarks if each.fullname == item.nodeid])
    return report


def results_path():
    return RESULTS / f"{device_name()}.json"


def kept_rows():
    """The rows of this device by name."""
    path = results_path()
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}


def now():
    return datetime.now(UTC).isoformat(timespec="seconds")


def keep(benchmarks):
    """Add rows to the results of this device: after each row, so that an interrupted run keeps what it measured."""
    benchmarks = [each for each in benchmarks if each.stats.data]
    if not benchmarks:
        return
    path, rows = results_path(), kept_rows()
    for each in benchmarks:
        p20, median, p80 = np.quantile(each.stats.data, [0.2, 0.5, 0.8]).tolist()
        name = each.fullname.removeprefix("benchmarks/")
        times = {"median_s": round(median, 6), "p20_s": round(p20, 6), "p80_s": round(p80, 6)}
        facts = {"rounds": each.stats.rounds, "taken": now(), **each.extra_info}
        rows[name] = {"name": name, "group": each.group, **times, **facts}
    named = {"name": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    contents = {
        "device": device_name(),
        **named,
        "processor": f"{processor()}, {torch.get_num_threads()} threads",
        "versions": {name: version(name) for name in PACKAGES},
        "rows": list(rows.values()),
    }
    RESULTS.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(contents, indent=1) + "\n")
    partial.replace(path)
