"""The report: one self-contained page that answers which hypotheses the hidden states know, and which units know them.

It opens with the answer (F1 with its interval against both baselines, the best unit), then shows the text of each
hypothesis coloured by hypothesis, by prediction and by the most responsible unit, as in Figures 2 and 7 of van der
Ouderaa, Quantitatively understanding recurrent networks, and ends with every score. The page needs no network and no
script, and the same results give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatescope.analysis.figures import write_figures
from gatescope.analysis.report_scores import answer_tables, scores_table, state_set_tables
from gatescope.analysis.report_style import POLICY, SCRIPT, STYLE
from gatescope.analysis.report_text import (
    SEES,
    escaped,
    excerpt_record,
    name_html,
    significant,
    text_panels,
    units_table,
)
from gatescope.analysis.results import (
    Excerpt,
    Result,
    Verdict,
    best_unit,
    headline,
    leading,
    number,
    ordered,
    read_results,
    score,
    unit_name,
    verdict,
)
from gatescope.engine.errors import InputError
from gatescope.engine.files import write_atomic

# Hypotheses whose text is painted, in the page and as figures; those beyond are in the tables.
MOST_TEXTS = 20


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write `report.html` and the folder `figures` for one or several results, side by side.

    Args:
        results: folders with probes.json, and excerpts.json and config.json where there are any.
        out: the folder to write into; made if it is absent, and it may be one of the results.

    Returns:
        The path of report.html. The text of at most 20 hypotheses is painted, the best known; the tables
        hold all.

    Raises:
        InputError: a folder cannot be read as results, holds no record, or `out` is a file.
    """
    read = read_results(results)
    if not any(result.records for result in read):
        raise InputError(f"{results[0]}: probes.json holds no record: probe at least one hypothesis")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder")
    out.mkdir(parents=True, exist_ok=True)
    texts = _excerpts(read)
    page = _page(read, texts)
    write_figures(read, [pair for _, pairs in texts[:MOST_TEXTS] for pair in pairs], out / "figures")
    path = out / "report.html"
    write_atomic(path, page.encode("utf-8"))
    return path


Texts = list[tuple[str, list[tuple[Result, Excerpt]]]]


def _excerpts(results: Sequence[Result]) -> Texts:
    """The excerpts of each hypothesis, best known first and boolean before continuous."""
    texts = []
    for name in [*ordered(results, "boolean"), *ordered(results, "continuous")]:
        pairs = [(result, result.excerpts[name]) for result in results if name in result.excerpts]
        if pairs:
            texts.append((name, pairs))
    return texts


def _page(results: Sequence[Result], texts: Texts) -> str:
    anchors = {name: f"text-{number}" for number, (name, _) in enumerate(texts[:MOST_TEXTS], start=1)}
    title = "gatescope: " + ", ".join(result.name for result in results)
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n',
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n',
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        "<h1>What do the hidden states know, and which units know it?</h1>\n",
        *(_answer(result, several=len(results) > 1) for result in results),
        answer_tables(results, anchors),
        state_set_tables(results),
        _texts(results, texts),
        scores_table(results),
        _method(),
        _facts(results),
        f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
    ]
    return "".join(parts)


def _answer(result: Result, several: bool) -> str:
    records = [leading(weightings) for weightings in headline(result.records).values()]
    judged = [(record, verdict(record)) for record in records if record["kind"] == "boolean"]
    scored = [record for record, word in judged if word != Verdict.UNSCORED]
    known, lost = ([record for record, word in judged if word == each] for each in (Verdict.KNOWN, Verdict.NOT_KNOWN))
    n_open = len(scored) - len(known) - len(lost)
    who = f"<b>{escaped(result.name)}</b> knows" if several else "The states know"
    if known:
        best = max(known, key=lambda record: record["f1"])
        answer = (
            f"{who} {len(known)} of {_hypotheses(len(scored))}: on unseen sequences F1 lies above both baselines, with "
            f"the whole 95% interval of the difference. Best known is <b>{escaped(best['hypothesis'])}</b> (F1 "
            f"{score(best['f1'])}, n-gram table {score(best['baseline_ngram_f1'])}), most of all by unit "
            f"<b>{escaped(best_unit(best) or '–')}</b>."
        )
    elif scored:
        answer = f"For none of {_hypotheses(len(scored))} F1 lies above both baselines with its whole 95% interval."
    else:
        answer = f"{who} no hypothesis of which F1 tells: none could be scored by it."
    if scored and lost:
        answer += f" Below a baseline: {len(lost)}."
    if scored and n_open:
        answer += f" Undecided: {n_open}."
    if scored and all(number(record, "baseline_ngram_f1") is None for record in scored):
        answer += " What was read is not known, so that the n-gram table is missing and nothing is decided."
    if len(scored) < len(judged):
        answer += f" {len(judged) - len(scored)} could not be scored."
    return f'<p class="answer">{answer}</p>\n{_model_line(result.facts)}'


def _hypotheses(count: int) -> str:
    return "1 hypothesis" if count == 1 else f"{count} hypotheses"


def _model_line(facts: Any) -> str:
    """What was probed, as far as the facts tell."""
    known = {key: _fact(value) for key, value in _flat(facts).items()}
    if "corpus.name" in known:
        # A corpus may be named by its path; the last part tells it here, the facts have it whole.
        known["corpus.name"] = known["corpus.name"].rsplit("/", 1)[-1]
    phrases = []
    if "model.cell" in known:
        size = ""
        if "model.layers" in known and "model.hidden" in known:
            size = f" {known['model.layers']} × {known['model.hidden']}"
        phrases.append(f"{escaped(str(facts['model']['cell']).upper())}{size}")
    for key, before, after in (
        ("model.parameters", "", " parameters"),
        ("corpus.name", "trained on ", ""),
        ("corpus.characters", "", " characters"),
        ("training.validation_nats", "validation loss ", " nats per character"),
        ("dump.rows", "", " states recorded"),
        ("dump.sequences", "", " sequences"),
    ):
        if key in known:
            phrases.append(f"{before}{known[key]}{after}")
    return f'<p class="muted">{"; ".join(phrases)}.</p>\n' if phrases else ""


def _fact(value: Any) -> str:
    """A fact as escaped text: integers with separators, other numbers to four significant digits."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return escaped(json.dumps(value, ensure_ascii=False))


def _texts(results: Sequence[Result], texts: Texts) -> str:
    if not texts:
        return ""
    more = ""
    if len(texts) > MOST_TEXTS:
        more = f" These are the best known {MOST_TEXTS} of {len(texts)} hypotheses; the tables hold all."
    intro = (
        '<h2 id="texts">Text, coloured three ways</h2>\n<p>By hypothesis: where its label holds. By prediction: the '
        "probability (or the value) that the probe reads off the states. By unit: the activation of the most "
        "responsible one, teal below zero and orange above. Underlined predictions are wrong at the threshold .5."
        f"{more}</p>\n"
    )
    several = len(results) > 1
    shown = enumerate(texts[:MOST_TEXTS], start=1)
    return intro + "".join(_section(position, name, pairs, several) for position, (name, pairs) in shown)


def _section(position: int, name: str, pairs: Sequence[tuple[Result, Excerpt]], several: bool) -> str:
    first = pairs[0][1]
    description, sees = escaped(first.description.rstrip(".")), SEES.get(first.sees, "")
    parts = [
        f'<article aria-labelledby="text-{position}">\n<h3 id="text-{position}">{name_html(name)}</h3>\n',
        f'<p class="muted">{description}. {sees}</p>\n',
    ]
    for result, excerpt in pairs:
        if several:
            parts.append(f"<h4>{escaped(result.name)}</h4>\n")
        record = excerpt_record(list(result.records), excerpt)
        parts.append(f'<p class="line">{_scores_line(excerpt, record)}</p>\n')
        parts.append(text_panels(excerpt))
        if record is not None:
            parts.append(units_table(record))
    return "".join([*parts, "</article>\n"])


def _scores_line(excerpt: Excerpt, record: Any) -> str:
    words = [f"Sequence {excerpt.sequence}"]
    states = "all states" if excerpt.states == "all" else escaped(excerpt.states)
    fit = "" if excerpt.weighting == "none" else f", {escaped(excerpt.weighting)} fit"
    words.append(f"probe on {states}{fit}")
    if record is not None and record["kind"] == "boolean":
        words.append(f"F1 {score(record.get('f1'))} [{score(record.get('f1_low'))}, {score(record.get('f1_high'))}]")
        words += [f"{key} {score(record.get(key))}" for key in ("precision", "recall", "prevalence")]
    elif record is not None:
        words.append(f"R² {score(record.get('r2'))} [{score(record.get('r2_low'))}, {score(record.get('r2_high'))}]")
        words.append(f"n-gram table {score(record.get('baseline_ngram_r2'))}")
        words.append(f"Pearson’s r {score(record.get('pearson'))}")
    alone = number(record or {}, "best_unit_f1")
    if alone is not None:
        words.append(f"first unit alone F1 {score(alone)}, AUROC {score(record.get('best_unit_auroc'))}")
    coefficient = _coefficient(excerpt, record)
    if coefficient and excerpt.kind == "boolean":
        colour = "orange" if coefficient > 0 else "teal"
        words.append(f"coefficient of the unit {significant(coefficient)} ({colour} speaks for the hypothesis)")
    # A line may break between phrases and not inside one, but for the long last one.
    return "; ".join(word if "(" in word else word.replace(" ", "&nbsp;") for word in words) + "."


def _coefficient(excerpt: Excerpt, record: Any) -> float | None:
    """The probe's coefficient of the unit whose activation an excerpt shows, where the ranking lists it."""
    units = (record or {}).get("top_units") or []
    return next((unit.get("coefficient") for unit in units if unit_name(unit) == excerpt.unit), None)


def _method() -> str:
    return (
        "<h2>How to read the numbers</h2>\n"
        "<p>Probes are fitted on some sequences and scored on others; the sequences of a document stay together where "
        "there are at least 10 documents, and so do copies of a whole one. F1 is that of all states together unless a "
        "state set is named. Its 95% interval comes from drawing test sequences (or documents) anew; how far another "
        "training of the same model would move it, it does not say. With few of them, or few in which a hypothesis "
        "holds, such intervals are too short; of fewer than 8 none is given.</p>\n"
        "<p>Majority is the better of two guesses: always the more frequent label, or always that the hypothesis "
        "holds. The n-gram table predicts from the last few characters that the state has read: what does not exceed "
        "it may be a memory of these characters and no more.</p>\n"
        "<p>Known: F1 of the plain fit lies above both baselines, each difference with its whole 95% interval, for "
        "which probe and baseline are scored on the same drawn sequences. Not known: one difference lies below 0 with "
        "its whole interval. Undecided: neither. Each hypothesis is judged alone, without a correction for their "
        "number: of 40 that states do not know one may pass by chance.</p>\n"
        "<p>Units are ranked by the training sequences, and the AUROC in their lists is measured there: that of a unit "
        "which was chosen as the best of many is too high for unseen text. What is said of the first unit alone is of "
        "the test sequences. F1 depends on how often a hypothesis holds; results "
        "of different texts are better compared by MCC.</p>\n"
    )


def _facts(results: Sequence[Result]) -> str:
    """Every fact of config.json, results side by side."""
    columns = [_flat(result.facts) for result in results]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    if not keys:
        return ""
    heads = "".join(f'<th scope="col">{escaped(result.name)}</th>' for result in results)
    rows = "".join(
        f'<tr><th scope="row">{escaped(key)}</th>'
        + "".join(f"<td>{_fact(column[key]) if key in column else '–'}</td>" for column in columns)
        + "</tr>\n"
        for key in keys
    )
    return (
        "<h2>Facts</h2>\n<details><summary>Model, training, text, states and versions</summary>\n"
        f'<div class="scroll"><table><thead><tr><th scope="col">fact</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>\n"
    )


def _flat(facts: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
