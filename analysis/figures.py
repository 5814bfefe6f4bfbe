"""Figures for a paper: scores per hypothesis with intervals and baselines, and text coloured three ways.

They correspond to Figures 3-6, and 2 and 7, of van der Ouderaa, Quantitatively understanding recurrent networks. Each
is written as PNG and SVG, with the same bytes for the same results: matplotlib's default style whatever the user's own,
no time stamp, and Figure objects without pyplot's state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from gatescope.analysis.gates_figure import gates_figure
from gatescope.analysis.overview import courses_of
from gatescope.analysis.overview_figure import overview_figure
from gatescope.analysis.palette import LIGHT
from gatescope.analysis.results import Excerpt, Result, ordered
from gatescope.analysis.scores_figure import FONT_SIZE, KIND_OF, scores_figure
from gatescope.analysis.sparse_figure import drawn, sparse_figure
from gatescope.analysis.text_figure import text_figure
from gatescope.engine.files import write_atomic

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "text.parse_math": False,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["faint"],
    "axes.linewidth": 0.6,
    "xtick.color": LIGHT["faint"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "svg.hashsalt": "gatescope",
}
PIXELS_PER_INCH = 200


def paper_style() -> AbstractContextManager[None]:
    """The style in which figures are made and saved: matplotlib's defaults with STYLE, whatever the user's own."""
    # Reading the backend would select one; that choice is the user's.
    defaults: dict[Any, Any] = {
        key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")
    }
    return matplotlib.rc_context(defaults | STYLE)


def write_figures(results: Sequence[Result], excerpts: Sequence[tuple[Result, Excerpt]], folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG.

    Args:
        results: results that the figures of scores show side by side.
        excerpts: the texts to colour, each with its result; one figure each, `text_<hypothesis>` (and `_<result>` if
            there are two results). Three or more results have no such figures: a report of each alone has them.
        folder: folder to write to; made if it is absent.

    Returns:
        The files written: `auroc` and `f1` if a hypothesis is boolean, `r2` if one is continuous, `overview` of three
        or more results, the texts, `gates` (or `gates_<result>`) if gates were recorded, and `units` (or
        `units_<result>`) if `--sparse` was set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with paper_style():
        for measure, kind in KIND_OF.items():
            if ordered(results, kind):
                written += _save(scores_figure(results, measure), folder / measure)
        courses = courses_of(results)
        if courses:
            written += _save(overview_figure(results, courses), folder / "overview")
        taken: set[str] = set()
        for result, excerpt in [] if courses else excerpts:
            stem = f"text_{excerpt.hypothesis}" + (f"_{result.name}" if len(results) > 1 else "")
            written += _save(text_figure(excerpt), folder / _file_stem(stem, taken))
        for result in results:
            ending = f"_{result.name}" if len(results) > 1 else ""
            if result.gates:
                written += _save(gates_figure(result), folder / _file_stem(f"gates{ending}", taken))
            if drawn(result):
                written += _save(sparse_figure(result), folder / _file_stem(f"units{ending}", taken))
    return written


def _file_stem(name: str, taken: set[str]) -> str:
    """A file name of characters that every file system accepts, different from all in `taken`."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:100]
    stem, count = safe, 1
    while stem.casefold() in taken:
        count += 1
        stem = f"{safe}-{count}"
    taken.add(stem.casefold())
    return stem


def _save(figure: Figure, stem: Path) -> list[Path]:
    files = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=PIXELS_PER_INCH, metadata=metadata)
        files.append(stem.with_name(stem.name + suffix))
        write_atomic(files[-1], buffer.getvalue())
    return files
