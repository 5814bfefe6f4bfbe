"""Units held in a hand-made model, in which the effect of each is known, through the command line and directly."""

import json
import shutil

import numpy as np
import pytest
import scipy.stats
import torch
from forked import gatescope
from latched_model import CHARACTERS, COPY, HIDDEN, LATCH
from latched_world import PROBE, SEED, S, T, ablate, make_world
from safetensors.torch import load_file
from scipy.special import log_softmax

from gatescope.analysis.ablation_records import corrected
from gatescope.analysis.cli import main
from gatescope.analysis.intervals import mean_interval
from gatescope.engine.dump import StateDump
from gatescope.engine.files import partial_name
from gatescope.engine.model import Architecture, CharacterModel
from gatescope.engine.model_description import write_description
from gatescope.engine.trained_model import write_weights
from gatescope.engine.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("latched"))


def held(records):
    return [record for record in records if record["units"]]


@pytest.fixture(scope="module")
def losses(world):
    """By NumPy: labels of test sequences, losses of their next characters, and losses with LATCH or COPY held."""
    dump = StateDump.open(world / "states.zarr")
    tested = np.sort(np.random.default_rng(SEED).permutation(S)[: S // 5])
    tokens = dump.tokens.reshape(S, T)[tested].astype(int)
    h = [dump[f"layer{layer}/h"][:].reshape(S, T, HIDDEN)[tested].astype(float) for layer in (0, 1)]
    weights = {name: each.double().numpy() for name, each in load_file(world / "model" / "model.safetensors").items()}

    def loss(copy):
        logits = np.asarray(copy)[..., None] * weights["output.weight"][:, COPY[1]] + weights["output.bias"]
        logits = np.broadcast_to(logits, (*tokens.shape, len(CHARACTERS)))
        return -np.take_along_axis(log_softmax(logits, axis=-1)[:, :-1], tokens[:, 1:, None], axis=2)[..., 0]

    held = {
        LATCH: loss(np.tanh(3 * h[0][..., LATCH[1]].mean())),
        COPY: loss(h[1][..., COPY[1]].mean()),
    }
    text = np.array(list(CHARACTERS))[tokens]
    inside = np.zeros(tokens.shape, bool)
    for s in range(len(tested)):
        is_open = False
        for t in range(T):
            is_open = (is_open or text[s, t] == "(") and text[s, t] != ")"
            inside[s, t] = is_open
    return inside, loss(h[1][..., COPY[1]]), held


@pytest.mark.parametrize("results", ["results", "before"])
def test_the_loss_change_equals_that_computed_from_the_states(world, losses, results):
    inside, base, held = losses
    (record,) = ablate(world, "--hypothesis", "inside", "--units", "1", results=results)[:1]
    (unit,) = [(each["layer"], each["unit"]) for each in record["units"]]
    assert unit in (LATCH, COPY)
    where = inside[:, 1:] if results == "before" else inside[:, :-1]
    change = held[unit] - base
    assert (record["n_sequences"], record["n_characters"], record["n_holds"]) == (S // 5, change.size, where.sum())
    for name, part in {"": ..., "_holds": where, "_elsewhere": ~where}.items():
        np.testing.assert_allclose(record[f"loss{name}"], base[part].mean(), atol=2e-6)
        np.testing.assert_allclose(record[f"change{name}"], change[part].mean(), atol=2e-6)
    assert record["change_holds"] > 0.02 and record["change_elsewhere"] > 0.02
    assert record["change_holds_low"] < record["change_holds"] < record["change_holds_high"]
    sums, counts = ((each * where).sum(axis=1) for each in (change, np.ones(change.shape)))
    ends = record["change_holds_low"], record["change_holds_high"]
    np.testing.assert_allclose(ends, mean_interval(sums, counts, 0), atol=1e-5)
    # Only these two units matter to the output. A random set is one of the 23 other units of the layer.
    assert record["random_sets"] == HIDDEN - 1 and record["p_holds"] == round(1 / HIDDEN, 6)
    np.testing.assert_allclose([record["random_change_holds"], record["random_change"]], 0, atol=2e-6)
    less_elsewhere = record["change_holds"] > record["change_elsewhere"]
    assert record["p_difference"] == (round(1 / HIDDEN, 6) if less_elsewhere else 1.0)
    # Corrected over the lines of two rankings (one line if they begin alike) and the line of the direction.
    assert record["p_holds"] <= record["q_holds"] <= 2 * record["p_holds"]


@pytest.mark.parametrize("method", ["zero", "resample", "translate"])
def test_every_method_finds_the_latch_unit(world, method):
    records = ablate(world, "--hypothesis", "inside", "a", "--units", "1", "--method", method, "--random-sets", "20")
    records = held(records)
    assert {record["method"] for record in records} == {method}
    found = [(record["units"][0]["layer"], record["units"][0]["unit"]) for record in records]
    for record, unit in zip(records, found, strict=True):
        if unit in (LATCH, COPY):
            assert record["change"] > 0.1 and record["p_holds"] < 0.3
        else:
            assert abs(record["change"]) < 1e-6
    assert found[0] in (LATCH, COPY)
    translated = records[0]["change_holds"]
    # Held at the value that says "nothing is open", the model is surer of the wrong answer than at the mean.
    if method == "translate":
        (mean,) = ablate(world, "--hypothesis", "inside", "--units", "1", "--method", "mean")[:1]
        assert translated > 1.2 * mean["change_holds"]


@pytest.mark.parametrize("results", ["results", "before"])
def test_the_loss_of_an_erased_direction_matches_the_equations(world, losses, results):
    dump = StateDump.open(world / "states.zarr")
    order = np.random.default_rng(SEED).permutation(S)
    tested, train = np.sort(order[: S // 5]), np.sort(order[S // 5 :])
    weights = {name: each.double().numpy() for name, each in load_file(world / "model" / "model.safetensors").items()}
    tokens = dump.tokens.reshape(S, T).astype(int)
    text = dump.text()
    labels = np.array(
        [
            [text.rfind("(", T * s, T * s + t + 1) > text.rfind(")", T * s, T * s + t + 1) for t in range(T)]
            for s in range(S)
        ]
    )
    erased = []
    for layer in (0, 1):
        h = dump[f"layer{layer}/h"][:].reshape(S, T, HIDDEN).astype(float)
        if results == "before":
            h = np.concatenate([dump.initial(f"layer{layer}/h")[:, None].astype(float), h[:, :-1]], axis=1)
        x, z = h[train].reshape(-1, HIDDEN), labels[train].ravel().astype(float)
        s = (x - x.mean(axis=0)).T @ (z - z.mean()) / len(z)
        u = np.linalg.solve(np.cov(x.T, bias=True), s)
        erased.append((x.mean(axis=0), u / (u @ s), s))
    states = [dump.initial(f"layer{layer}/h")[tested].astype(float) for layer in (0, 1)]
    lost = np.zeros((len(tested), T - 1))
    for t in range(T - 1):
        x = np.eye(len(CHARACTERS))[tokens[tested, t]]
        for layer, (mean, u, v) in enumerate(erased):
            of_layer = {
                name: weights[f"rnn.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            z = x @ of_layer["weight_ih"].T + states[layer] @ of_layer["weight_hh"].T
            h = np.tanh(z + of_layer["bias_ih"] + of_layer["bias_hh"])
            states[layer] = x = h - np.outer((h - mean) @ u, v)
        log_p = log_softmax(x @ weights["output.weight"].T + weights["output.bias"], axis=1)
        lost[:, t] = -np.take_along_axis(log_p, tokens[tested, t + 1, None], axis=1)[:, 0]
    inside, base, _ = losses
    change, where = lost - base, inside[:, 1:] if results == "before" else inside[:, :-1]
    (record,) = (each for each in ablate(world, "--hypothesis", "inside", results=results) if not each["units"])
    for name, part in {"": ..., "_holds": where, "_elsewhere": ~where}.items():
        np.testing.assert_allclose(record[f"change{name}"], change[part].mean(), atol=1e-5)
    assert record["change_holds"] > 0.05


@pytest.mark.parametrize("results", ["results", "before"])
def test_erasing_a_direction_costs_loss_only_if_the_model_reads_it(world, results):
    records = ablate(world, "--hypothesis", "inside", "a", "--random-sets", "99", results=results)
    inside, letter = (record for record in records if record["method"] == "erase")
    for name, each in (("inside", inside), ("a", letter)):
        assert (each["hypothesis"], each["ranking"], each["units"], each["random_sets"]) == (name, "erased", [], 99)
    # One unit of each layer holds whether a bracket is open, and the output layer reads it there.
    assert inside["change_holds_low"] > 0.03 and inside["p_holds"] < 0.11
    assert inside["change_holds"] > 3 * inside["random_change_holds"] > 0
    assert inside["auroc_undisturbed"] > 0.9 and inside["auroc_left"] < inside["auroc_undisturbed"] - 0.2
    # Many units hold which letter was read, and nothing depends on it.
    assert abs(letter["change_holds"]) < 0.002 and letter["p_holds"] > 0.4
    expected = scipy.stats.false_discovery_control([record["p_holds"] for record in records])
    np.testing.assert_allclose([record["q_holds"] for record in records], expected, atol=1e-6)


def test_directions_do_not_depend_on_the_method_for_units(world):
    directions = [
        [each for each in ablate(world, "--hypothesis", "inside", "--method", method) if not each["units"]]
        for method in ("mean", "translate")
    ]
    for mean, translate in zip(*directions, strict=True):
        of_all_lines = {"q_holds": 0, "q_difference": 0}
        assert mean | of_all_lines == translate | of_all_lines


def test_known_hypotheses_are_ablated_and_reported(world, tmp_path, capsys):
    shutil.copytree(world / "results", tmp_path / "results")
    shutil.copytree(world / "model", tmp_path / "results" / "model")
    shutil.copytree(world / "states.zarr", tmp_path / "results" / "states.zarr")
    assert main(["ablate", str(tmp_path / "results"), "--units", "1", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].endswith(f"gatescope report {tmp_path / 'results'}")
    records = json.loads((tmp_path / "results" / "ablation.json").read_text())
    assert {record["hypothesis"] for record in records} == {"inside"}
    assert {len(record["units"]) for record in records} == {0, 1, 3}
    assert "first 3" in printed and "direction" in printed
    assert main(["report", str(tmp_path / "results")]) == 0
    assert "Does the network use these units?" in (tmp_path / "results" / "report.html").read_text()
    # Probing anew removes the ablation of the earlier probe.
    probe = ["probe", world / "states.zarr", "--out", tmp_path / "results", *PROBE, "--seed", "4", "--overwrite"]
    assert main(list(map(str, probe))) == 0
    assert not (tmp_path / "results" / "ablation.json").exists()


@pytest.mark.parametrize("method", ["mean", "translate"])
def test_a_hypothesis_does_not_depend_on_the_others(world, method):
    words = ["--method", method, "--hypothesis"]
    together = ablate(world, *words, "a", "inside")
    assert together == corrected(ablate(world, *words, "a") + ablate(world, *words, "inside"))


def test_equal_seeds_give_equal_bytes_and_others_other_random_sets(world):
    words = ["--hypothesis", "inside", "--method", "resample"]
    first, same, other = (ablate(world, *words, "--seed", seed) for seed in (1, 1, 2))
    assert first == same and first != other
    assert [each["units"] for each in first] == [each["units"] for each in other]
    plain = [ablate(world, "--hypothesis", "inside", "--seed", seed)[1] for seed in (1, 2)]
    assert plain[0]["change"] == plain[1]["change"] and plain[0]["random_change"] != plain[1]["random_change"]


@pytest.mark.cuda
@pytest.mark.parametrize("method", ["mean", "resample", "translate"])
def test_a_gpu_gives_the_same_records(world, method):
    cpu, gpu = (ablate(world, "--hypothesis", "inside", "--method", method, "--device", d) for d in ("cpu", "cuda"))
    for here, there in zip(cpu, gpu, strict=True):
        assert here["units"] == there["units"]
        np.testing.assert_allclose(
            *([each[key] for key in ("loss", "change_holds", "random_change")] for each in (here, there)), atol=5e-3
        )


def test_sequences_and_length_limit_what_is_read(world):
    (record,) = ablate(world, "--hypothesis", "inside", "--units", "1", "--sequences", "3", "--length", "20")[:1]
    assert (record["n_sequences"], record["n_characters"]) == (3, 3 * 19)
    assert record["change_holds_low"] is None
    # A single sequence has no half on which to fit a probe.
    *_, alone = ablate(world, "--hypothesis", "inside", "--sequences", "1")
    assert alone["units"] == [] and alone["change_holds"] is not None
    assert alone["auroc_undisturbed"] is None and alone["auroc_left"] is None


def test_ablation_of_folds_reads_the_first_fold(world):
    for name, flags in (("folds", ["--folds", "4"]), ("quarter", ["--test-share", "0.25"])):
        words = [*PROBE, "--seed", str(SEED), *flags, "--out", str(world / name)]
        assert main(["probe", str(world / "states.zarr"), *words]) == 0
    asked = ["--hypothesis", "inside", "--units", "1"]
    assert ablate(world, *asked, results="folds") == ablate(world, *asked, results="quarter")


def test_sequences_of_one_document_are_resampled_together(world, tmp_path):
    text = StateDump.open(world / "states.zarr").text()
    documents = [tmp_path / f"{number}.txt" for number in range(30)]
    for number, path in enumerate(documents):
        path.write_text(text[T * number : T * number + T])
    extract = ["extract", world / "model", *documents, "--out", tmp_path / "states.zarr", "--capture", "h"]
    probe = ["probe", tmp_path / "states.zarr", "--out", tmp_path / "results", *PROBE, "--test-share", "0.2"]
    for words in ([*extract, "--length", T // 2], probe):
        assert main(list(map(str, words))) == 0
    words = ["ablate", tmp_path / "results", "--model", world / "model", "--states", tmp_path / "states.zarr"]
    assert main(list(map(str, [*words, "--hypothesis", "inside"]))) == 0
    record = json.loads((tmp_path / "results" / "ablation.json").read_text())[0]
    # 12 sequences would have an interval; 6 documents have none.
    assert record["n_sequences"] == 12 and record["change_holds_low"] is None


def test_diverging_states_count_as_lost(tmp_path):
    torch.manual_seed(0)
    architecture = Architecture(cell="rnn", hidden=12, layers=1, nonlinearity="relu")
    characters = tuple("\n ab")
    model = CharacterModel(architecture, len(characters))
    with torch.no_grad():
        for weight in model.rnn.parameters():
            weight.normal_(std=0.5)
        # Units that keep each other in check no longer do so once a direction is erased.
        model.rnn.weight_hh_l0.copy_(0.33 * torch.randn(12, 12))
    (tmp_path / "model").mkdir()
    write_description(tmp_path / "model", architecture, Vocabulary(characters), {"name": "a", "characters": 1})
    write_weights(tmp_path / "model", model, {"step": 0, "validation_nats": 1.0})
    states, results = tmp_path / "states.zarr", tmp_path / "results"
    sample = ["--sequences", "40", "--length", "300", "--capture", "h", "--dtype", "float32"]
    for words in (
        ["sample", tmp_path / "model", "--out", states, *sample],
        ["probe", states, "--out", results, "--hypotheses", "any", "--pattern", "a=a", "--bootstrap", "20"],
        ["ablate", results, "--model", tmp_path / "model", "--states", states, "--hypothesis", "a", "--units", "1"],
        ["report", results],
    ):
        assert main(list(map(str, words))) == 0
    record = json.loads((results / "ablation.json").read_text())[-1]
    assert record["units"] == [] and record["random_change_holds"] is None
    # Random directions whose states are no longer finite count among the 40.
    assert record["change_holds"] is not None and record["p_holds"] > 0.1


def test_a_damaged_ablation_is_rewritten(world, tmp_path, capsys):
    shutil.copytree(world / "results", tmp_path / "results")
    for name in ("ablation.json", "excerpts.json"):
        (tmp_path / "results" / name).write_text("[")
    left = partial_name(tmp_path / "results" / "ablation.json")
    left.write_text("[")
    words = ["ablate", tmp_path / "results", "--model", world / "model", "--states", world / "states.zarr"]
    assert main(list(map(str, [*words, "--hypothesis", "inside", "--units", "1"]))) == 0
    assert json.loads((tmp_path / "results" / "ablation.json").read_text())
    assert not left.exists()


def test_a_terminal_of_80_columns_shows_every_column(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    words = ["ablate", world / "results", "--model", world / "model", "--states", world / "states.zarr"]
    assert main(list(map(str, [*words, "--out", tmp_path, "--hypothesis", "inside", "--units", "1"]))) == 0
    assert "difference" in capsys.readouterr().out


def test_user_functions_may_move_to_another_file(world, tmp_path, capsys):
    functions = tmp_path / "my.py"
    functions.write_text(
        "from gatescope.analysis.hypotheses import hypothesis\n\n"
        "@hypothesis(language='any', values='boolean', sees='past')\ndef is_b(text):\n"
        "    'The character is b.'\n    return [each == 'b' for each in text]\n"
    )
    results = tmp_path / "results"
    probe = ["probe", world / "states.zarr", "--out", results, "--functions", functions, "--bootstrap", "20"]
    assert main(list(map(str, [*probe, "--hypotheses", "is_b"]))) == 0
    words = ["ablate", results, "--model", world / "model", "--states", world / "states.zarr", "--hypothesis", "is_b"]
    moved = functions.rename(tmp_path / "moved.py")
    assert main(list(map(str, words))) == 2 and "my.py" in capsys.readouterr().err
    done = gatescope(*words, "--functions", moved)
    assert done.returncode == 0, done.stderr
    moved.write_text(moved.read_text() + "# other\n")
    done = gatescope(*words, "--functions", moved)
    assert done.returncode == 2 and "moved.py is not the file that the probe read" in done.stderr


def test_hypotheses_of_a_label_table_need_the_table_again(world, tmp_path):
    text = StateDump.open(world / "states.zarr").text()
    rows = "\n".join(str(int(character == "(")) for character in text)
    (tmp_path / "labels.csv").write_text(f"opens\n{rows}\n")
    words = [tmp_path / "results", "--labels", tmp_path / "labels.csv"]
    assert main(list(map(str, ["probe", world / "states.zarr", "--out", *words, "--bootstrap", "20"]))) == 0
    shutil.copytree(tmp_path / "results", world / "labelled")
    asked = ["--hypothesis", "opens", "--units", "1"]
    (record,) = ablate(world, *asked, "--labels", tmp_path / "labels.csv", results="labelled")[:1]
    tested = np.random.default_rng(0).permutation(S)[: S // 5]
    # The state after the last character has no next character to predict.
    opens = np.array(list(text)).reshape(S, T)[tested, :-1] == "("
    assert record["n_holds"] == opens.sum() > 0
    ablate(world, *asked, results="labelled", code=2)


def test_rankings_with_equal_first_units_share_a_line(world, tmp_path):
    shutil.copytree(world / "results", tmp_path / "results")
    path = tmp_path / "results" / "probes.json"
    records = json.loads(path.read_text())
    for record in records:
        record["top_units"] = [{"states": f"layer{layer}/h", "unit": unit} for layer, unit in [(0, 2), (1, 4), (0, 2)]]
        record["largest_weights"] = record["top_units"][1::-1]
        record["selected_units"] = [*record["largest_weights"], {"states": "layer0/h", "unit": 5}]
    path.write_text(json.dumps(records))
    words = ["ablate", tmp_path / "results", "--model", world / "model", "--states", world / "states.zarr"]
    assert main(list(map(str, [*words, "--hypothesis", "inside", "--units", "1", "2", "3"]))) == 0
    found = json.loads((tmp_path / "results" / "ablation.json").read_text())
    latch, copy, other = ({"layer": layer, "unit": unit} for layer, unit in (LATCH, COPY, (0, 5)))
    assert [(each["ranking"], each["units"]) for each in found] == [
        ("auroc", [latch]),
        ("auroc, weight_sd, selected", [latch, copy]),
        ("weight_sd, selected", [copy]),
        ("selected", [copy, latch, other]),
        ("erased", []),
    ]
