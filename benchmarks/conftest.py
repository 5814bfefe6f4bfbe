"""Keeps the reduced results of a benchmark run in `results/<device>.json`: a row per benchmark, the newest wins."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from gatescope.engine.kept_memory import kept_memory

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "scikit-learn", "zarr")


def device_name():
    return torch.cuda.get_device_name().replace(" ", "-").lower() if torch.cuda.is_available() else "cpu"


def processor():
    """The CPU's name, its generation, and the number of threads that torch uses."""
    # The first entry of each: every core has the same.
    facts = dict(map(str.strip, line.split(":", 1)) for line in reversed(_lines("/proc/cpuinfo")) if ":" in line)
    name = facts.get("model name", platform.machine())
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    return f"{name}, {torch.get_num_threads()} threads"


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


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" and report.passed:
        keep([each for each in item.config._benchmarksession.benchmarks if each.fullname == item.nodeid])
    return report


def keep(benchmarks):
    """Add rows to the results of this device: after each row, so that an interrupted run keeps what it measured."""
    benchmarks = [each for each in benchmarks if each.stats.data]
    if not benchmarks:
        return
    path = RESULTS / f"{device_name()}.json"
    rows = {row["name"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}
    for each in benchmarks:
        p20, median, p80 = np.quantile(each.stats.data, [0.2, 0.5, 0.8]).tolist()
        name = each.fullname.removeprefix("benchmarks/")
        times = {"median_s": round(median, 6), "p20_s": round(p20, 6), "p80_s": round(p80, 6)}
        rows[name] = {"name": name, "group": each.group, **times, "rounds": each.stats.rounds, **each.extra_info}
    named = {"name": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    contents = {
        "device": device_name(),
        **named,
        "processor": processor(),
        "versions": {name: version(name) for name in PACKAGES},
        "rows": list(rows.values()),
    }
    RESULTS.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(contents, indent=1) + "\n")
    partial.replace(path)
