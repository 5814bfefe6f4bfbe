"""The paper's experiments: its models, its tables, and our numbers beside its own.

van der Ouderaa, Quantitatively understanding recurrent networks, trains an LSTM and a GRU on Shakespeare (2 layers of
128 units) and on the Linux source (3 of 512, dropout .3), both by Adam at 0.01 with 128 windows of 200 characters,
samples texts of 500 characters at temperature 0.8, and fits plain and class-balanced probes to the states before each
character, on 95% of the texts. What it calls perplexity is 2 to the mean loss in nats.

Its published labels differ from its definitions (`gatescope.analysis.legacy`), so each hypothesis is probed twice, with
its labels and with correct ones. Its verbs and nouns were tagged by a tagger for Chinese and cannot be reproduced.
How long we train and how much text we sample is our own choice, and so is the warm-up of the learning rate on Linux,
without which the larger models do not begin to learn (`gatescope.engine.train`).

Scores are given here as printed, although accuracy, precision and recall together determine the share p of characters
at which a hypothesis holds: 1 - accuracy = p (1 - recall + recall (1 / precision - 1)). By that, the rows of verbs and
nouns seem to be exchanged in Figure 6: p is .31 to .32 and .08 to .09 there, but .12 to .24 and .31 to .33 in Figure 5.
And the plain accuracy of indent > 1 in Figure 3 must be wrong, since p would be above 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gatescope.analysis.probe_config import ProbeConfig
from gatescope.analysis.results import WEIGHTINGS, Record, headline
from gatescope.engine.sample import SampleConfig
from gatescope.engine.train_config import TrainConfig

REPRODUCTION = "reproduction.json"
CELLS = ("lstm", "gru")
METRICS = ("accuracy", "precision", "recall", "f1")
# Accuracy, precision, recall and F1, each for the plain and the balanced fit.
Scores = tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """A line of the paper's tables: its name there, our hypotheses, and its scores by cell."""

    name: str
    legacy: str | None  # with the paper's labels; None if they cannot be reproduced
    corrected: str
    paper: Mapping[str, Scores]


@dataclass(frozen=True)
class Experiment:
    """One of the paper's corpora: the model trained on it, its figures, its losses in nats, and its rows."""

    layers: int
    hidden: int
    dropout: float
    steps: int
    warm_up: int
    figures: Mapping[str, str]
    nats: Mapping[str, float]
    rows: tuple[Row, ...]


def _row(name: str, legacy: str | None, corrected: str, lstm: Scores, gru: Scores) -> Row:
    return Row(name, legacy, corrected, {"lstm": lstm, "gru": gru})


EXPERIMENTS = {
    "shakespeare": Experiment(
        layers=2,
        hidden=128,
        dropout=0.0,
        steps=2000,
        warm_up=0,
        figures={"lstm": "Figure 5", "gru": "Figure 6"},
        nats={"lstm": math.log2(2.55), "gru": math.log2(2.68)},
        rows=(
            _row(
                *("capitalised", "legacy_capitals", "capitals_word"),
                (1.00, 0.99, 0.97, 0.90, 0.99, 1.00, 0.98, 0.95),
                (1.00, 0.99, 0.99, 0.99, 1.00, 1.00, 0.99, 1.00),
            ),
            _row(
                *("verbs", None, "verbs"),
                (0.80, 0.74, 0.68, 0.26, 0.29, 0.66, 0.40, 0.38),
                (0.78, 0.76, 0.68, 0.59, 0.59, 0.73, 0.63, 0.65),
            ),
            _row(
                *("nouns", None, "nouns"),
                (0.81, 0.80, 0.72, 0.68, 0.63, 0.75, 0.67, 0.72),
                (0.91, 0.77, 0.49, 0.24, 0.18, 0.81, 0.26, 0.37),
            ),
        ),
    ),
    "linux": Experiment(
        layers=3,
        hidden=512,
        dropout=0.3,
        steps=20_000,
        warm_up=200,
        figures={"lstm": "Figure 3", "gru": "Figure 4"},
        nats={"lstm": math.log2(2.23), "gru": math.log2(2.29)},
        rows=(
            _row(
                *("parentheses", "legacy_inside_parentheses", "inside_parentheses"),
                (0.98, 0.97, 0.95, 0.95, 0.96, 0.98, 0.96, 0.96),
                (0.96, 0.94, 0.93, 0.88, 0.96, 0.91, 0.94, 0.90),
            ),
            _row(
                *("quotation", "legacy_inside_quotation", "inside_string"),
                (0.99, 0.99, 0.84, 0.82, 0.91, 0.93, 0.87, 0.87),
                (0.99, 0.99, 0.73, 0.84, 0.81, 0.99, 0.77, 0.91),
            ),
            _row(
                *("comments", "legacy_inside_comment", "inside_comment"),
                (0.99, 0.98, 0.97, 0.90, 0.95, 0.93, 0.96, 0.91),
                (0.95, 0.93, 0.92, 0.94, 0.84, 0.75, 0.88, 0.83),
            ),
            _row(
                *("indent > 1", "legacy_indent_gt_1", "indent_gt_1"),
                (0.94, 0.98, 0.98, 0.99, 0.98, 0.97, 0.98, 0.98),
                (0.95, 0.92, 0.97, 0.93, 0.97, 0.97, 0.97, 0.95),
            ),
            _row(
                *("indent > 2", "legacy_indent_gt_2", "indent_gt_2"),
                (0.97, 0.98, 0.97, 0.93, 0.94, 0.97, 0.95, 0.95),
                (0.96, 0.93, 0.93, 0.95, 0.96, 0.88, 0.95, 0.91),
            ),
            _row(
                *("indent > 3", "legacy_indent_gt_3", "indent_gt_3"),
                (0.98, 0.98, 0.93, 0.84, 0.90, 0.93, 0.91, 0.88),
                (0.96, 0.94, 0.67, 0.83, 0.61, 0.84, 0.63, 0.84),
            ),
        ),
    ),
}


def conditions(
    experiment: Experiment, cell: str, steps: int, sequences: int
) -> tuple[TrainConfig, SampleConfig, ProbeConfig]:
    """Return the settings of the three stages, as in the paper.

    Args:
        experiment: one of `EXPERIMENTS`.
        cell: "lstm" or "gru"; the paper's GRU resets before the matrix product.
        steps: training steps.
        sequences: number of sampled texts.
    """
    train = TrainConfig(
        cell=cell,  # type: ignore[arg-type]
        reset_after=cell != "gru",
        hidden=experiment.hidden,
        layers=experiment.layers,
        dropout=experiment.dropout,
        batch=128,
        length=200,
        steps=steps,
        learning_rate=0.01,
        warm_up=experiment.warm_up,
    )
    names = [name for row in experiment.rows for name in (row.legacy, row.corrected) if name]
    probe = ProbeConfig(hypotheses=tuple(names), alignment="pre", test_share=0.05, ranking="weight")
    return train, SampleConfig(sequences=sequences, length=500, temperature=0.8), probe


def compared(experiment: Experiment, cell: str, records: Iterable[Record], nats: float) -> list[dict[str, Any]]:
    """Return the paper's scores of one cell beside ours with its labels and with correct ones.

    Args:
        experiment: one of `EXPERIMENTS`.
        cell: "lstm" or "gru".
        records: records of `probes.json`; those of h and c of all layers together are used, as in the paper.
        nats: validation loss of our model, per character.

    Returns:
        For each row its name, figure and hypotheses, the losses of both models, and under "paper", "legacy" and
        "corrected" the scores by metric and weighting; None where there are none. Ours also have the `prevalence`: the
        share of the tested characters at which the hypothesis holds.
    """
    found = headline(records)
    return [
        {
            "cell": cell,
            "figure": experiment.figures[cell],
            "name": row.name,
            "hypotheses": {"legacy": row.legacy, "corrected": row.corrected},
            "validation_nats": {"paper": experiment.nats[cell], "ours": nats},
            "paper": _by_metric(row.paper[cell]),
            "legacy": _scores(found.get(row.legacy or "")),
            "corrected": _scores(found.get(row.corrected)),
        }
        for row in experiment.rows
    ]


def _by_metric(scores: Scores) -> dict[str, dict[str, float]]:
    pairs = iter(scores)
    return {metric: dict(zip(WEIGHTINGS["boolean"], (next(pairs), next(pairs)), strict=True)) for metric in METRICS}


def _scores(weightings: Mapping[str, Record] | None) -> dict[str, dict[str, float | None]] | None:
    if weightings is None:
        return None
    metrics = (*METRICS, "prevalence")
    return {metric: {name: record.get(metric) for name, record in weightings.items()} for metric in metrics}
