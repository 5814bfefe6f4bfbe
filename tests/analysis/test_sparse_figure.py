"""What the figure of few units draws for each hypothesis, in which order, and that all its text is visible."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from probe_record import record

from gatescope.analysis.figures import paper_style
from gatescope.analysis.panels import MOST_PANELS
from gatescope.analysis.results import Result
from gatescope.analysis.sparse_figure import drawn, sparse_figure


def result(n_boolean, n_continuous, units=(1, 2, 4), **scores):
    rng, records = np.random.default_rng(0), []
    for k in range(n_boolean + n_continuous):
        kind, measure = ("boolean", "auroc") if k < n_boolean else ("continuous", "r2")
        lists = {name: rng.random(len(units)).tolist() for name in ("selected", "random", "reversed")}
        sparse = {"units": list(units), **lists, **scores}
        weighting = "plain" if kind == "boolean" else "none"
        records.append(record(f"h{k}", kind=kind, weighting=weighting) | {measure: 0.9 - k / 100, "sparse": sparse})
    return Result("a", Path(), tuple(records), {}, {}, (), ())


def test_each_hypothesis_has_a_panel_of_its_sparse_scores():
    given = result(7, 2)
    figure = sparse_figure(given)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [f"h{k}" for k in range(9)]
    for axes, each in zip(panels, given.records, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        for key in ("selected", "random"):
            expected = np.stack([each["sparse"]["units"], each["sparse"][key]], axis=1)
            np.testing.assert_array_equal(lines[f"{key} units"].get_xydata(), expected)
        of_all = each["auroc" if each["kind"] == "boolean" else "r2"]
        assert set(lines["all units"].get_ydata()) == {of_all}
        # The axis runs from chance to a perfect score, both inside.
        low, high = axes.get_ylim()
        assert -0.1 < low - (0.5 if each["kind"] == "boolean" else 0) < 0 and 1 < high < 1.1
    # Five in a row; continuous hypotheses begin a new row, because they have another scale.
    ordinates = {axes.get_title(): round(axes.get_position().y0, 3) for axes in panels}
    assert len(set(ordinates.values())) == 3 and ordinates["h7"] == ordinates["h8"] < ordinates["h6"] < ordinates["h4"]
    assert [axes.get_ylabel() for axes in panels if axes.get_ylabel()] == ["AUROC", "AUROC", "R²"]


def test_missing_scores_are_gaps_and_empty_curves_are_omitted():
    assert drawn(result(2, 0, selected=[None] * 3)) == {}
    (axes,) = [axes for axes in sparse_figure(result(1, 0, selected=[0.0, None, 0.5])).axes if axes.get_title()]
    (line,) = [line for line in axes.lines if line.get_label() == "selected units"]
    np.testing.assert_array_equal(line.get_ydata(), [0, np.nan, 0.5])


def test_panels_beyond_one_page_are_left_out():
    assert sum(bool(axes.get_title()) for axes in sparse_figure(result(50, 3)).axes) == MOST_PANELS


@pytest.mark.parametrize("given", [(1, 0), (0, 2), (13, 4)])
def test_all_words_are_inside_the_figure(given):
    with paper_style():
        figure = sparse_figure(result(*given))
        FigureCanvasAgg(figure).draw()
        page = figure.bbox
        words = [word for axes in figure.axes for word in (axes.title, axes.xaxis.label, axes.yaxis.label)]
        for box in (word.get_window_extent() for word in [*words, *figure.legends[0].get_texts()] if word.get_text()):
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
