"""Results of a network at several steps of its training, by their records alone."""

from pathlib import Path

from probe_record import record

from gatescope.analysis.results import Result


def judged(name, auroc, known, **changed):
    over = 0.1 if known else -0.1
    return record(
        name,
        auroc=auroc,
        auroc_low=0.55,
        auroc_high=0.99,
        auroc_over_text_low=over,
        auroc_over_text_high=0.3,
        **changed,
    )


def of(*records, name="r"):
    return Result(name, Path(name), records, {}, {}, (), ())


DEPTH = {"kind": "continuous", "weighting": "none"}
RESULTS = [
    of(judged("string", 0.6, False), record("depth", **DEPTH, r2=-0.004), name="after_000000"),
    of(judged("string", 0.804, True), judged("string", 0.1, True, weighting="balanced"), name="after_[bold]000300"),
    of(
        judged("comment", 0.9, True), record("depth", **DEPTH, r2=0.5), record("never", auroc=None), name="after_003000"
    ),
]
