"""How often gates are open or shut: a dot for each unit, a panel for each gate (Karpathy, Johnson & Fei-Fei 2016)."""

from __future__ import annotations

from matplotlib.figure import Figure

from gatescope.analysis.palette import LIGHT
from gatescope.analysis.results import Result
from gatescope.analysis.saturation import OPEN, SHUT

# Inches: side of a panel, and room for labels to the left, below, above and to the right.
PANEL, LEFT, BOTTOM, TOP, RIGHT = 1.7, 0.7, 0.45, 0.3, 0.15
# More layers do not fit a page; the report has them all.
MOST_LAYERS = 6


def gates_figure(result: Result) -> Figure:
    """Draw a row of panels for each layer and a column for each gate of a result that has gates."""
    gates = list(dict.fromkeys(record["gate"] for record in result.gates))
    layers = list(dict.fromkeys(record["layer"] for record in result.gates))[:MOST_LAYERS]
    width, height = LEFT + len(gates) * PANEL + RIGHT, BOTTOM + len(layers) * PANEL + TOP
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(layers), len(gates), sharex=True, sharey=True, squeeze=False)
    borders = {"left": LEFT / width, "bottom": BOTTOM / height, "right": 1 - RIGHT / width, "top": 1 - TOP / height}
    figure.subplots_adjust(**borders, wspace=0.12, hspace=0.12)
    for axes in grid.flat:
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
        axes.plot((0, 1), (1, 0), color=LIGHT["behind"], linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for record in (each for each in result.gates if each["layer"] in layers):
        axes = grid[layers.index(record["layer"]), gates.index(record["gate"])]
        axes.plot(record["shut"], record["open"], ".", color=LIGHT["plain"], markersize=2.5, alpha=0.6)
    for axes, gate in zip(grid[0], gates, strict=True):
        axes.set_title(gate, fontsize=8, fontweight="bold")
    for axes, layer in zip(grid[:, 0], layers, strict=True):
        axes.set_ylabel(f"layer {layer}\nopen (> {OPEN})")
    for axes in grid[-1]:
        axes.set_xlabel(f"shut (< {SHUT})")
    return figure
