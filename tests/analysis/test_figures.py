"""Which figures are written, under safe names, with the same bytes for the same results."""

import os
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from gatescope.analysis.figures import _file_stem, write_figures
from gatescope.analysis.read_results import read_results


@pytest.fixture(scope="module")
def results(tmp_path_factory, write_result):
    folder = tmp_path_factory.mktemp("results")
    return read_results([write_result(folder / "lstm"), write_result(folder / "gru", cell="gru", seed=3)])


def test_every_figure_is_written_as_png_and_svg(tmp_path, results):
    results = [results[0], replace(results[1], gates=({"layer": 0, "gate": "z", "open": [0.5], "shut": [0.1]},))]
    excerpts = [(result, result.excerpts["inside_string"]) for result in results]
    written = write_figures(results, excerpts, tmp_path / "new" / "figures")
    stems = ["auroc", "f1", "r2", "text_inside_string_lstm", "text_inside_string_gru", "gates_gru"]
    assert [path.name for path in written] == [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "new" / "figures").iterdir()) == sorted(p.name for p in written)
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
    alone = write_figures(results[:1], excerpts[:1], tmp_path / "alone")
    assert [path.name for path in alone][6:] == ["text_inside_string.png", "text_inside_string.svg"]
    with_gates = write_figures(results[1:], [], tmp_path / "gates")
    assert [path.name for path in with_gates][6:] == ["gates.png", "gates.svg"]
    three = [results[0], *(replace(results[0], name=name) for name in ("lstm2", "lstm3"))]
    of_three = write_figures(three, excerpts, tmp_path / "three")
    # Each result's texts are in the report on that result alone.
    assert [path.name for path in of_three][6:] == ["overview.png", "overview.svg"]


def test_bytes_do_not_depend_on_the_users_style_or_the_process(tmp_path, write_result):
    folder = write_result(tmp_path / "lstm")
    program = (
        "import matplotlib, sys; from pathlib import Path\n"
        "from gatescope.analysis.read_results import read_results\n"
        "from gatescope.analysis.figures import write_figures\n"
        "if sys.argv[3] == 'style': matplotlib.rcParams.update({'font.size': 20, 'axes.facecolor': 'red',"
        " 'svg.fonttype': 'none', 'savefig.bbox': 'tight', 'text.usetex': False, 'font.family': 'monospace'})\n"
        "results = read_results([Path(sys.argv[1])])\n"
        "style = lambda: {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != 'backend'}\n"
        "before = style()\n"
        "write_figures(results, [(results[0], results[0].excerpts['inside_string'])], Path(sys.argv[2]))\n"
        "assert before == style() and 'matplotlib.pyplot' not in sys.modules\n"
    )
    for name, seed in (("plain", "1"), ("style", "2")):
        command = [sys.executable, "-c", program, str(folder), str(tmp_path / name), name]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    first = {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "style").iterdir()}
    assert len(first) == 8
    assert [name for name in first if first[name] != second[name]] == []
    assert all(b"<dc:date>" not in content for content in first.values())


def test_file_names_are_safe_and_distinct():
    taken: set[str] = set()
    names = ["text_a/b", "text_a b", "text_A-B", "text_..", "text_\ud800", "t" * 300, "t" * 300]
    stems = [_file_stem(name, taken) for name in names]
    assert stems == ["text_a-b", "text_a-b-2", "text_A-B-3", "text_--", "text_-", "t" * 100, "t" * 100 + "-2"]
    assert len({stem.casefold() for stem in stems}) == len(stems)
