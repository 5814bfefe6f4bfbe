"""Figures of scores: marks stand where the numbers are, and nothing is clipped."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from gatescope.analysis.figures import paper_style
from gatescope.analysis.palette import LIGHT
from gatescope.analysis.read_results import read_results
from gatescope.analysis.results import headline, leading, ordered
from gatescope.analysis.scores_figure import PLAIN, scores_figure


@pytest.fixture(scope="module")
def results(tmp_path_factory, write_result):
    folder = tmp_path_factory.mktemp("results")
    return read_results([write_result(folder / "lstm"), write_result(folder / "gru", cell="gru", seed=3)])


def xs(axes, y, marker):
    """Where the marks of one kind stand in a row."""
    marks = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == marker]
    return sorted(float(x) for points in marks for x, at in points if abs(at - y) < 0.3)


def test_f1_marks_are_placed_at_the_scores(results):
    figure = scores_figure(results, "f1")
    names = ordered(results, "boolean")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == [""] * len(names)
    assert len(figure.axes) == len(results)
    for axes in figure.axes:
        heights = [
            {np.asarray(line.get_ydata())[0] % 1 for line in axes.lines if line.get_marker() == mark} for mark in "oD"
        ]
        assert heights[0].isdisjoint(heights[1])
    for axes, result in zip(figure.axes, results, strict=True):
        chosen = headline(result.records)
        for y, name in enumerate(names):
            plain, balanced = chosen[name]["plain"], chosen[name]["balanced"]
            if plain["f1"] is None:
                assert f"not scored ({plain['status']})" in [text.get_text() for text in axes.texts]
                assert xs(axes, y, "o") == []
                continue
            assert xs(axes, y, "o") == [plain["f1"]]
            assert xs(axes, y, "D") == [balanced["f1"]]
            assert xs(axes, y, "|") == sorted(record["baseline_majority_f1"] for record in (plain, balanced))
            assert xs(axes, y, "x") == sorted(record["baseline_text_f1"] for record in (plain, balanced))
            lines = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_linestyle() == "-"]
            # The two ends of a bar are neighbours, and a gap follows.
            ends = [points.reshape(-1, 3, 2) for points in lines]
            bars = [(low, high) for line in ends for (low, at), (high, _), _ in line if abs(at - y) < 0.3]
            assert sorted(bars) == sorted((record["f1_low"], record["f1_high"]) for record in (plain, balanced))


@pytest.mark.parametrize(("measure", "kind"), [("auroc", "boolean"), ("r2", "continuous")])
def test_marks_of_judged_scores_are_placed_at_the_scores(results, measure, kind):
    (axes,) = scores_figure(results[:1], measure).axes
    chosen = headline(results[0].records)
    for y, name in enumerate(ordered(results[:1], kind)):
        record = leading(chosen[name])
        if record[measure] is None:
            assert xs(axes, y, "o") == []
            continue
        assert xs(axes, y, "o") == [record[measure]]
        assert xs(axes, y, "x") == [record[f"baseline_text_{measure}"]]
        assert xs(axes, y, "D") == ([record["pearson"]] if measure == "r2" else [])
        bars = [line for line in axes.lines if line.get_color() == PLAIN and line.get_linestyle() == "-"]
        ends = [np.asarray(line.get_xydata()).reshape(-1, 3, 2) for line in bars]
        found = [(low, high) for line in ends for (low, at), (high, _), _ in line if at == y]
        assert found == [(record[f"{measure}_low"], record[f"{measure}_high"])]


def test_hypotheses_that_cannot_be_scored_are_not_drawn(results):
    name = "inside_string"
    change = {"auroc": None, "prevalence": 0.0, "f1": 0.0}
    records = [dict(each, **change) if each["hypothesis"] == name else each for each in results[0].records]
    result = replace(results[0], records=tuple(records))
    y = ordered([result], "boolean").index(name)
    for measure in ("auroc", "f1"):
        (axes,) = scores_figure([result], measure).axes
        assert not xs(axes, y, "o") and not xs(axes, y - 0.14, "o")
        (words,) = (text.get_text() for text in axes.texts if text.get_position()[1] == y)
        assert words == "not scored (holds nowhere in the test sequences)"
        # The line of chance does not cross out the words.
        (box,) = (text.get_bbox_patch() for text in axes.texts if text.get_position()[1] == y)
        assert to_hex(box.get_facecolor()) == LIGHT["paper"]


@pytest.mark.parametrize("measure", ["auroc", "f1", "r2"])
def test_the_legend_names_each_mark_that_is_drawn_once(results, measure):
    def marks(lines):
        found = [(line.get_marker(), to_hex(line.get_color())) for line in lines]
        return {mark for mark in found if mark[0] not in ("None", "<")}

    figure = scores_figure(results, measure)
    (legend,) = figure.legends
    named, words = marks(legend.get_lines()), [text.get_text() for text in legend.get_texts()]
    assert marks(line for axes in figure.axes for line in axes.lines) == named
    assert len(set(words)) == len(words) == len(named)


def test_a_bad_r2_is_an_arrow_at_the_edge(tmp_path, write_result):
    (result,) = read_results([write_result(tmp_path / "lstm")])
    bad = [dict(record, r2=-250.0) for record in result.records if record["hypothesis"] == "line_position"]
    result = replace(result, records=(*bad, *result.records[-1:]))
    axes = scores_figure([result], "r2").axes[0]
    assert xs(axes, ordered([result], "continuous").index("line_position"), "<") == [-1.0]
    assert axes.get_xlim()[0] < -1.0


def inside(figure):
    """Assert that every text lies inside the figure and that no text covers another."""
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    words = [text for axes in figure.axes for text in [*axes.texts, axes.title, axes.xaxis.label]]
    words += [axes._left_title for axes in figure.axes] + list(figure.texts) + figure.legends[0].get_texts()
    words += [label for axes in figure.axes for label in [*axes.get_yticklabels(), *axes.get_xticklabels()]]
    boxes = [word.get_window_extent() for word in words if word.get_text() and word.get_visible()]
    for box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("several", [False, True], ids=["one", "two"])
@pytest.mark.parametrize("measure", ["auroc", "f1", "r2"])
def test_nothing_is_clipped_or_covered(results, measure, several):
    with paper_style():
        inside(scores_figure(results if several else results[:1], measure))


def test_many_hypotheses_with_long_names_fit(tmp_path, write_result):
    names = [(f"{'m' * 40}_{i}", "x", 0.5) for i in range(50)] + [("$a$", "x", 0.99), ("漢字\u202e", "x", 0.98)]
    (result,) = read_results([write_result(tmp_path / "lstm", hypotheses=names)])
    with warnings.catch_warnings(), paper_style():
        warnings.simplefilter("error")
        figure = scores_figure([result], "auroc")
        inside(figure)
    assert len(figure.axes[0].get_yticklabels()) == 40
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())
    assert [text.get_text() for text in figure.texts] == [
        "The first 40 of 52 hypotheses; the report's table lists all."
    ]
