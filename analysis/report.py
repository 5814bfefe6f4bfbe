"""The report: one self-contained page that shows which hypotheses the hidden states know, and which units know them.

It begins with the answer (AUROC with its interval, that of the text alone, and the best unit), then shows the text of
each hypothesis coloured by hypothesis, by prediction and by the most responsible unit, as in Figures 2 and 7 of van der
Ouderaa, Quantitatively understanding recurrent networks, and ends with all scores. The page needs no network and no
script, and the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gatescope.analysis.difference import Pair, pairs_of
from gatescope.analysis.figures import write_figures
from gatescope.analysis.read_comparison import read_comparison
from gatescope.analysis.read_results import read_results
from gatescope.analysis.report_ablation import ablation_tables
from gatescope.analysis.report_answer import answer_section
from gatescope.analysis.report_difference import difference_section
from gatescope.analysis.report_facts import facts_table
from gatescope.analysis.report_gates import gates_section
from gatescope.analysis.report_html import escaped
from gatescope.analysis.report_method import method_section
from gatescope.analysis.report_overview import overview_section
from gatescope.analysis.report_reproduction import reproduction_section
from gatescope.analysis.report_scores import controls_words, scores_table, state_set_tables
from gatescope.analysis.report_sparse import sparse_tables
from gatescope.analysis.report_style import POLICY, SCRIPT, STYLE
from gatescope.analysis.report_tables import answer_tables, f1_tables
from gatescope.analysis.report_text import MOST_TEXTS, Texts, texts_section
from gatescope.analysis.results import (
    FIGURES,
    RECORDS,
    REPORT,
    Record,
    Result,
    Verdict,
    all_ordered,
    leading_records,
    verdict,
)
from gatescope.engine.errors import InputError
from gatescope.engine.files import remove_partial, remove_partial_of, write_atomic
from gatescope.engine.folder_lock import locked
from gatescope.engine.location import local_path


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write `report.html` and the folder `figures` for one or several results, side by side.

    Args:
        results: folders with probes.json, and with excerpts.json and config.json if there are any; folders of the cells
            of a `gatescope reproduce` are compared with the paper.
        out: the folder to write to; made if it is absent. It may be one of the results.

    Returns:
        The path of report.html. The text of at most 20 hypotheses is painted, the best known ones; the tables contain
        all.

    Raises:
        InputError: a folder is not valid results or has no record, or `out` is a file or is being written by another
            program.
    """
    read, comparison, out = read_results(results), read_comparison(results), local_path(out)
    if not any(result.records for result in read):
        raise InputError(f"{results[0]}: {RECORDS} holds no record: probe at least one hypothesis")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder")
    texts = _excerpts(read)
    page = _page(read, texts, pairs_of(read), comparison)
    path, figures = out / REPORT, out / FIGURES
    # Make the folder only now, so that unreadable results leave none behind.
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        # Remove what a killed report left.
        remove_partial_of(path)
        remove_partial(figures)
        write_figures(read, [pair for _, pairs in texts[:MOST_TEXTS] for pair in pairs], figures)
        write_atomic(path, page.encode("utf-8"))
    return path


def _excerpts(results: Sequence[Result]) -> Texts:
    """The excerpts of each scored hypothesis, boolean before continuous, the best known first."""
    unscored = {
        (result.name, name)
        for result in results
        for name, record in leading_records(result.records).items()
        if verdict(record) == Verdict.UNSCORED
    }
    texts = []
    for name in all_ordered(results):
        pairs = [
            (result, result.excerpts[name])
            for result in results
            if name in result.excerpts and (result.name, name) not in unscored
        ]
        if pairs:
            texts.append((name, pairs))
    return texts


def _page(
    results: Sequence[Result], texts: Texts, pairs: Sequence[Pair], comparison: Sequence[Sequence[Record]]
) -> str:
    anchors = {name: f"text-{number}" for number, (name, _) in enumerate(texts[:MOST_TEXTS], start=1)}
    title = "gatescope: " + ", ".join(result.name for result in results)
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n',
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        "<h1>What do the hidden states know, and which units know it?</h1>\n",
        answer_section(results),
        overview_section(results),
        answer_tables(results, anchors),
        difference_section(pairs),
        f1_tables(results, anchors),
        reproduction_section(comparison),
        state_set_tables(results),
        sparse_tables(results),
        ablation_tables(results),
        gates_section(results),
        texts_section(results, texts),
        scores_table(results),
        method_section(results),
        controls_words(results),
        facts_table(results),
        f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
    ]
    return "".join(parts)
