"""A record of probes.json, for what reads results and what is said of them."""


def record(hypothesis="string", kind="boolean", states="all", weighting="plain", **scores):
    return {
        "hypothesis": hypothesis,
        "kind": kind,
        "states": states,
        "weighting": weighting,
        "status": "converged",
    } | scores
