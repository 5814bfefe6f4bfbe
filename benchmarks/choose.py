"""Writes kernels/measured.json out of results/<gpu>.json: `python benchmarks/choose.py`.

Where stacked layers were timed side by side and one after another, what was faster goes before the estimate of
`gatescope.kernels.schedule` on that device. Going back is what forward + backward takes beyond forward.
"""

import json
from pathlib import Path

import torch

from gatescope.kernels.schedule import MEASURED, row_name

RESULTS = Path(__file__).parent / "results"


def spent(rows):
    """What each cell, shape and dtype that was timed in both schedules took in each direction: seconds of both."""
    times = {}
    for row in rows:
        if row.get("schedule"):
            cell, passes = row["group"].split()[:2]
            shape = (cell, row["L"], row["B"], row["H"], row["dtype"])
            times.setdefault(shape, {})[passes, row["schedule"]] = row["median_s"]
    for shape, seconds in times.items():
        for backward in (False, True):
            found = {}
            for schedule in ("wavefront", "layers"):
                forward, both = (seconds.get((p, schedule)) for p in ("forward", "forward+backward"))
                found[schedule] = forward if not backward else both and forward and both - forward
            if all(found.values()):
                yield shape, backward, found


def choices(rows):
    """The faster schedule of each of them."""
    return {
        row_name(cell, layers, backward, n_rows, hidden, getattr(torch, dtype)): min(seconds, key=seconds.get)
        for (cell, layers, n_rows, hidden, dtype), backward, seconds in spent(rows)
    }


def main():
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for path in sorted(RESULTS.glob("*.json")):
        results = json.loads(path.read_text())
        found = choices(results["rows"])
        if found:
            known[results.get("name", results["device"])] = found
    MEASURED.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
