"""What the figure of several results draws for each hypothesis, and that all its text is visible."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from probe_record import record

from gatescope.analysis.figures import paper_style
from gatescope.analysis.overview import courses_of
from gatescope.analysis.overview_figure import BELOW, MOST_NAMES, overview_figure
from gatescope.analysis.results import Result


def scored(auroc, low, high, text=0.6):
    return {
        "auroc": auroc,
        "auroc_low": low,
        "auroc_high": high,
        "baseline_text_auroc": text,
        "auroc_over_text_low": low - text,
        "auroc_over_text_high": high - text,
    }


def results_of(*scores, name="after_{}"):
    """One hypothesis; a result whose scores are None has no record of it."""
    return [
        Result(name.format(i), Path(), (record("a") | each,) if each else (), {}, {}, (), ())
        for i, each in enumerate(scores)
    ]


def panels_of(results):
    figure = overview_figure(results, courses_of(results))
    return figure, [axes for axes in figure.axes if axes.get_title()]


def drawn(axes):
    """Marks by their label, without those that are absent."""
    found = {}
    for line in axes.lines:
        points = np.asarray(line.get_xydata(), float)
        found[line.get_label()] = points[~np.isnan(points).any(axis=1)].tolist()
    return found


def test_marks_are_placed_at_the_scores():
    scores = [scored(0.48, 0.4, 0.5), None, scored(0.8, 0.7, 0.9), scored(0.2, 0.1, 0.3, text=0.65)]
    _, (axes,) = panels_of(results_of(*scores))
    marks = drawn(axes)
    assert marks["not known"] == [[0, 0.48]]
    assert marks["known"] == [[2, 0.8]]
    assert marks["text"] == [[0, 0.6], [2, 0.6], [3, 0.65]]
    lines = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    # A line that skips the result without a record, and ends at the arrow on the edge.
    assert [line.get_xydata().tolist() for line in lines] == [[[0, 0.48], [2, 0.8], [3, 0.5 - BELOW]]]
    (arrow,) = [line for line in axes.lines if line.get_marker() == "v"]
    assert arrow.get_xydata().tolist() == [[3, 0.5 - BELOW]]
    (bars,) = axes.collections
    segments = {bar[0, 0]: bar[:, 1].tolist() for bar in bars.get_segments() if len(bar)}
    assert segments == {0: [0.5 - BELOW, 0.5], 2: [0.7, 0.9], 3: [0.5 - BELOW, 0.5 - BELOW]}


def test_a_result_without_an_interval_still_has_a_mark():
    scores = [scored(0.8, 0.7, 0.9), scored(0.7, 0.6, 0.8), scored(0.8, 0.7, 0.9) | {"auroc_low": None}]
    _, (axes,) = panels_of(results_of(*scores))
    assert [2, 0.8] in drawn(axes)["not known"]


@pytest.mark.parametrize(("n", "step"), [(3, 1), (MOST_NAMES, 1), (MOST_NAMES + 1, 2), (40, 4)])
def test_names_are_inside_and_do_not_overlap(n, step):
    with paper_style():
        figure, (axes,) = panels_of(results_of(*[scored(0.8, 0.7, 0.9)] * n, name="a_long_name_of_$a$_{}"))
        FigureCanvasAgg(figure).draw()
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        assert axes.get_xticks().tolist() == list(range(0, n, step))
        boxes = [label.get_window_extent() for label in labels]
        words = [axes.title, axes.yaxis.label, *figure.legends[0].get_texts()]
        for box in [*boxes, *(word.get_window_extent() for word in words)]:
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
