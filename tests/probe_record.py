"""A record of probes.json, for tests of what reads and describes results."""


def record(hypothesis="string", kind="boolean", states="all", weighting="plain", **scores):
    return {
        "hypothesis": hypothesis,
        "kind": kind,
        "states": states,
        "weighting": weighting,
        "status": "converged",
    } | scores
