"""The report's facts: a line on what was probed, and a table of all facts in config.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gatescope.analysis.report_html import escaped, scrolled
from gatescope.analysis.results import Result

# The facts about the division of sequences.
DIVISION = ("training_sequences", "test_sequences", "folds")


def model_line(facts: Any) -> str:
    """A line on what was probed, as far as the facts show."""
    known = {key: _fact(value) for key, value in _flat(facts).items()}
    if "corpus.name" in known:
        # A corpus may be named by its path: the last part is enough here, and the facts below show all of it.
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
        ("training.step", "step ", ""),
        ("training.validation_nats", "validation loss ", " nats per character"),
        ("dump.rows", "", " states recorded"),
        ("dump.sequences", "", " sequences"),
        ("dump.nats_per_character", "", " nats per character on this text"),
    ):
        if key in known:
            phrases.append(f"{before}{known[key]}{after}")
    phrases += _division(*(facts.get("probe", {}).get(key) for key in DIVISION))
    return f'<p class="muted">{"; ".join(phrases)}.</p>\n' if phrases else ""


def _division(training: int | None, tested: int | None, folds: int | None) -> list[str]:
    """The numbers of sequences that fit probes and that test them, as far as the facts show."""
    if training is None or tested is None:
        return []
    if folds is None:
        return [f"{_fact(training)} to fit probes", f"{_fact(tested)} to test them"]
    # These are the numbers of the first fold; the others may have more or fewer.
    about = "" if tested * (folds - 1) == training * folds else "about "
    return [
        f"{_fact(folds)} folds: each of the {_fact(tested)} sequences is tested by probes fitted on {about}"
        f"{_fact(training)} others"
    ]


def _fact(value: Any) -> str:
    """A fact as escaped text: integers with separators, other numbers with four significant digits."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_fact, value))
    return escaped(json.dumps(value, ensure_ascii=False))


def facts_table(results: Sequence[Result]) -> str:
    """All facts of config.json, with results side by side."""
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
    table = scrolled("Facts", f'<thead><tr><th scope="col">fact</th>{heads}</tr></thead><tbody>{rows}</tbody>')
    return (
        f"<h2>Facts</h2>\n<details><summary>Model, training, text, states and versions</summary>\n{table}</details>\n"
    )


def _flat(facts: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
