"""Where the dots of the figure of gates stand, and that all its text is visible."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gatescope.analysis.figures import paper_style
from gatescope.analysis.gates_figure import BOTTOM, LEFT, PANEL, RIGHT, TOP, gates_figure
from gatescope.analysis.results import Result


def result(gates, layers):
    rng = np.random.default_rng(0)
    shares = [rng.dirichlet([1, 1, 1], 5)[:, :2] for _ in range(len(gates) * layers)]
    records = [
        {"layer": layer, "gate": gate, "open": pair[:, 0].tolist(), "shut": pair[:, 1].tolist()}
        for (layer, gate), pair in zip([(i, gate) for i in range(layers) for gate in gates], shares, strict=True)
    ]
    return Result("a", Path(), (), {}, {}, (), tuple(records))


def test_each_gate_has_a_panel_with_a_dot_per_unit():
    given = result("ifo", 2)
    figure = gates_figure(given)
    assert len(figure.axes) == 6
    for axes, record in zip(figure.axes, given.gates, strict=True):
        (dots,) = [line for line in axes.lines if line.get_marker() == "."]
        np.testing.assert_array_equal(dots.get_xydata(), np.stack([record["shut"], record["open"]], axis=1))
        # The axes run from none to all of the time, on one scale, whatever the units do.
        assert axes.get_xlim() == axes.get_ylim() == (-0.03, 1.03) and axes.get_aspect() == 1
    assert [axes.get_title() for axes in figure.axes] == ["i", "f", "o", "", "", ""]
    assert [axes.get_ylabel().partition("\n")[0] for axes in figure.axes] == ["layer 0", "", "", "layer 1", "", ""]


def test_layers_beyond_one_page_are_left_out():
    assert len(gates_figure(result("rz", 40)).axes) == 12


@pytest.mark.parametrize("gates, layers", [("ifo", 1), ("rz", 3), ("f", 2)])
def test_panels_have_the_same_size_in_every_figure(gates, layers):
    figure = gates_figure(result(gates, layers))
    width, height = figure.get_size_inches()
    assert width - len(gates) * PANEL == pytest.approx(LEFT + RIGHT)
    assert height - layers * PANEL == pytest.approx(BOTTOM + TOP)
    for axes in figure.axes:
        place = axes.get_position()
        assert 0.85 * PANEL < place.width * width <= PANEL and 0.85 * PANEL < place.height * height <= PANEL


@pytest.mark.parametrize("gates, layers", [("ifo", 1), ("rz", 3), ("f", 1)])
def test_all_words_are_inside_the_figure(gates, layers):
    with paper_style():
        figure = gates_figure(result(gates, layers))
        FigureCanvasAgg(figure).draw()
        page = figure.bbox
        words = [word for axes in figure.axes for word in (axes.title, axes.xaxis.label, axes.yaxis.label)]
        for box in (word.get_window_extent() for word in words if word.get_text()):
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
