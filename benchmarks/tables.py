"""Writes the tables of README.md from results/*.json: `python benchmarks/tables.py`.

The text above the marker is kept. A ratio is the time of a row over that of the first gatescope row of its group with
the same dtype, and with a CUDA graph if the row has one: above 1 we are faster, below 1 we lose. A row that says "from
3 of 32 fits" is scaled to all of them.
"""

import json
from pathlib import Path

import unmeasured

HERE = Path(__file__).parent
README = HERE / "README.md"
MARKER = "<!-- below: python benchmarks/tables.py -->"
DETAILS = (
    "dtype",
    "graph",
    "milliseconds_per_iteration",
    "characters_per_second",
    "microseconds_per_layer_step",
    "microseconds_per_step",
    "plan",
    "launches",
    "bytes_read",
    "share_of_peak",
    "gradient",
    "objective_excess",
    "parallel",
    "scaled",
    "seconds_per_pass",
    "reading_s",
    "anonymous_gb",
    "beside_x_mb",
    "aim_mb",
)


def table(group, rows):
    """A group of rows to be compared, as Markdown."""
    ours = {}
    for row in rows:
        if _impl(row).startswith("gatescope"):
            ours.setdefault(_kind(row), row["median_s"])
    rows = [_scaled(row) for row in rows]
    details = [name for name in DETAILS if any(row.get(name) for row in rows)]
    lines = [f"**{group}**", "", f"| {' | '.join(['impl', 'median s', '20%-80%', 'ratio', *details])} |"]
    lines.append("|---" * (4 + len(details)) + "|")
    for row in rows:
        ratio = f"{row['median_s'] / ours[_kind(row)]:.2f}" if _kind(row) in ours else ""
        spread = f"{row['p20_s']:.4g}-{row['p80_s']:.4g}"
        cells = [_impl(row), f"{row['median_s']:.4g}", spread, ratio]
        lines.append(f"| {' | '.join([*cells, *(_shown(row.get(name)) for name in details)])} |")
    return "\n".join(lines)


def _scaled(row):
    """A row timed on part of the work, with its median and its spread scaled to all of it."""
    factor = row["scaled_s"] / row["median_s"] if "scaled_s" in row else 1
    return row | {name: row[name] * factor for name in ("median_s", "p20_s", "p80_s")}


def _kind(row):
    """What rows must have in common for their times to be compared; a variant of a cell follows a comma."""
    return row.get("dtype"), bool(row.get("graph")), _impl(row).partition(",")[2]


def _impl(row):
    """The implementation that was timed: stated in the row, or the name of its parameter."""
    name = row["name"].split("::")[1]
    return row.get("impl") or name.partition("[")[2].rstrip("]") or name


def _shown(value):
    if value is None or value is False:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return " to ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) and value is not True else str(value)


def tables(path):
    """All tables of one results file, and the rows that have not been measured there."""
    results = json.loads(path.read_text())
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [f"## {path.name}", f"{results['processor']}; {versions}. Median of a few rounds, seconds."]
    groups = {}
    for row in sorted(results["rows"], key=lambda row: row["name"].split("::")[0]):
        groups.setdefault(row["group"], []).append(row)
    parts += [table(group, rows) for group, rows in groups.items()]
    on_gpu, on_cpu = unmeasured.rows()
    names, measured = on_cpu if path.stem.startswith("cpu-") else on_gpu, {row["name"] for row in results["rows"]}
    missing = [name for name in names if name not in measured]
    if missing:
        parts += [f"**not measured: {len(missing)} of {len(names)} rows**", unmeasured.table(missing)]
    return "\n\n".join(parts)


def page():
    """README.md with the tables of all results."""
    head = README.read_text().split(MARKER)[0]
    files = sorted((HERE / "results").glob("*.json"))
    parts = [head + MARKER, *map(tables, files)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    README.write_text(page())
