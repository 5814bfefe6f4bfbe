"""Writes kernels/measured.json from results/<gpu>.json: `python benchmarks/choose.py`.

If stacked layers were timed both side by side and one after another, their times take precedence over the estimate of
`gatescope.kernels.schedule` on that device. The time going back is forward + backward less forward.

The constants of that estimate, as fitted to the rows of the kernels alone, are printed but not written: those in use
include the products before and after the loop.
"""

import json
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import least_squares

from gatescope.kernels.schedule import MEASURED, row_name

RESULTS = Path(__file__).parent / "results"


def spent(rows):
    """Seconds by direction for each cell, shape and dtype timed both side by side and one after another."""
    times = {}
    for row in rows:
        if row.get("schedule"):
            cell, passes = row["group"].split()[:2]
            shape = (cell, row["L"], row["T"], row["B"], row["H"], row["dtype"])
            times.setdefault(shape, {})[passes, row["schedule"]] = row["median_s"]
    for shape, seconds in times.items():
        for backward in (False, True):
            found = {}
            for schedule in ("wavefront", "layers", "steps"):
                forward, both = (seconds.get((p, schedule)) for p in ("forward", "forward+backward"))
                found[schedule] = forward if not backward else both and forward and both - forward
            if found["wavefront"] and found["layers"]:
                yield shape, backward, {schedule: taken for schedule, taken in found.items() if taken}


def measured(rows):
    """The microseconds of each schedule for each of them, and T."""
    return {
        row_name(cell, layers, backward, n_rows, hidden, getattr(torch, dtype)): {"T": n_steps}
        | {schedule: round(1e6 * taken) for schedule, taken in seconds.items()}
        for (cell, layers, n_steps, n_rows, hidden, dtype), backward, seconds in spent(rows)
    }


def fitted(rows):
    """FORWARD, BACKWARD and RATE of the estimate, and the factors by which it is off.

    They are a least-squares fit to the logarithms of a step's time over the persistent rows of bench_kernels.py. None
    if there are no rows of both directions with different reads.
    """
    rows = [row for row in rows if row.get("bytes_read")]
    back = np.array([row["direction"] == "backward" for row in rows], dtype=bool)
    taken, launches, read = (
        np.array([row[name] for row in rows], dtype=float)
        for name in ("microseconds_per_step", "launches", "bytes_read")
    )
    if len(set(back)) < 2 or len(set(read)) < 3:
        return None

    def off(logs):
        forward, backward, rate = np.exp(logs)
        return np.log(launches * (np.where(back, backward, forward) + read / rate) / taken)

    found = least_squares(off, np.log([1.0, 1.0, read.max()]))
    return tuple(np.exp(found.x)), np.exp(off(found.x))


def main():
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for path in sorted(RESULTS.glob("*.json")):
        results = json.loads(path.read_text())
        found = measured(results["rows"])
        if found:
            known[results.get("name", results["device"])] = found
        estimate = fitted(results["rows"])
        if estimate:
            (forward, backward, rate), factors = estimate
            print(
                f"{results['device']}: FORWARD {forward:.2f}, BACKWARD {backward:.2f}, RATE {rate:.3g}; "
                f"{factors.min():.2f} to {factors.max():.2f} times the time of {len(factors)} rows"
            )
    MEASURED.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
