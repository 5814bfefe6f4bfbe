"""A record of ablation.json, for the table and the report."""


def record(**changed):
    fixed = {
        "hypothesis": "inside_[bold]string",
        "ranking": "auroc, weight_sd",
        "method": "mean",
        "units": [{"layer": 1, "unit": 17}],
        "n_sequences": 20,
        "n_characters": 5980,
        "n_holds": 1234,
        "random_sets": 40,
        "change_holds": 0.1234,
        "change_holds_low": -0.01,
        "change_holds_high": 1.25,
        "change_elsewhere": -0.0004,
        "random_change_holds": 0.02,
        "random_change_elsewhere": 0.031,
        "p_holds": 0.0244,
        "q_holds": 0.061,
        "p_difference": 1.0,
        "q_difference": 0.99,
    }
    return fixed | changed


def erased_record(**changed):
    """The record of the erasure of a direction."""
    erased = {"ranking": "erased", "method": "erase", "units": [], "auroc_undisturbed": 0.9}
    erased |= {"auroc_once": 0.512, "auroc_left": 0.5512}
    return record(**(erased | changed))
