"""The latched model, states of a text that it wrote, results of probes in both alignments, and ablations of them."""

import json
import shutil

from latched_model import INSIDE, write_latched_model

from gatescope.analysis.cli import main

S, T, SEED = 60, 80, 3
SAMPLE = ["--sequences", str(S), "--length", str(T), "--capture", "h", "--dtype", "float32"]
PROBE = ["--hypotheses", "any", "--pattern", f"inside={INSIDE}", "--pattern", "a=a", "--bootstrap", "50"]


def make_world(folder):
    """Write model, states and results to a folder; the text of the states has brackets that stay open for long."""
    write_latched_model(folder / "model")
    for words in (
        ["sample", folder / "model", "--out", folder / "states.zarr", *SAMPLE],
        ["probe", folder / "states.zarr", "--out", folder / "results", *PROBE, "--seed", SEED],
        ["probe", folder / "states.zarr", "--out", folder / "before", *PROBE, "--seed", SEED, "--alignment", "pre"],
    ):
        assert main(list(map(str, words))) == 0
    return folder


def ablate(world, *words, results="results", code=0):
    out = world / "out"
    shutil.rmtree(out, ignore_errors=True)
    given = ["ablate", world / results, "--model", world / "model", "--states", world / "states.zarr", "--out", out]
    assert main(list(map(str, [*given, *words]))) == code
    return json.loads((out / "ablation.json").read_text()) if code == 0 else None
