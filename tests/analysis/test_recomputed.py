"""A small run, recomputed from its files by torch, scikit-learn and plain counting, without gatescope."""

import json
import re
from collections import defaultdict

import numpy as np
import pytest
import torch
import zarr
from safetensors import safe_open
from safetensors.torch import load_file as load_weights
from scipy.special import expit
from scipy.stats import rankdata
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from gatescope.analysis.cli import main

SEED, S, T, TEMPERATURE, C = 2**40 + 5, 60, 80, 0.7, 0.5
LONG = "[a-z]{4,}"
WORDS = ["if", "(a1", "or", "b22)", "then:\n", "return", "x_3\n", "# note", "while"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The files of a run: folder, records, the states' group, character ids, and which rows are tested."""
    folder = tmp_path_factory.mktemp("run")
    corpus, out = folder / "text", folder / "out"
    corpus.write_text(" ".join(np.random.default_rng(0).choice(WORDS, 6000)))
    words = ["run", "--corpus", corpus, "--out", out, "--seed", SEED, "--pattern", f"long={LONG}"]
    words += ["--hypotheses", "newline_next", "--train.hidden", 16, "--train.layers", 2]
    words += ["--train.steps", 60, "--train.warm-up", 0, "--sample.sequences", S, "--sample.length", T]
    words += ["--sample.dtype", "float32"]
    words += ["--sample.temperature", TEMPERATURE, "--sample.capture", "h", "c", "log_probability", "--probe.C", C]
    assert main(list(map(str, words))) == 0
    states = zarr.open_group(out / "states.zarr", mode="r")
    tested = np.zeros(S, bool)
    tested[np.random.default_rng(SEED).permutation(S)[: S // 5]] = True
    records = {
        (each["hypothesis"], each["states"], each["weighting"]): each
        for each in json.loads((out / "probes.json").read_text())
    }
    return out, records, states, states["tokens"][:].astype(int), np.repeat(tested, T)


@pytest.fixture(scope="module")
def read(run):
    """Hidden states [2, S, T, H], the last cell states [2, S, H], and the logits before each character [S, T, V]."""
    out, _, states, tokens, _ = run
    weights = {name: weight.double() for name, weight in load_weights(out / "model" / "model.safetensors").items()}
    vocabulary = json.loads((out / "model" / "model.json").read_text())["vocabulary"]
    V, text = len(vocabulary), torch.from_numpy(tokens.reshape(S, T))
    prime = torch.full((S, 1), vocabulary.index(states.attrs["prime"]))
    x, outputs, cells = torch.eye(V, dtype=torch.float64)[torch.cat([prime, text], dim=1)], [], []
    for layer in range(2):
        lstm = torch.nn.LSTM(x.shape[2], 16, batch_first=True, dtype=torch.float64)
        lstm.load_state_dict(
            {f"{name[:-1]}0": weights[f"rnn.{name[:-1]}{layer}"] for name, _ in lstm.named_parameters()}
        )
        x, (_, c) = lstm(x)
        outputs.append(x.detach().numpy())
        cells.append(c[0].detach().numpy())
    logits = (x[:, :-1] @ weights["output.weight"].T + weights["output.bias"]).detach().numpy()
    return np.stack(outputs), np.stack(cells), logits


def test_states_equal_torch(run, read):
    _, _, states, tokens, _ = run
    hidden, cells, logits = read
    for layer in range(2):
        stored = states[f"layer{layer}/h"][:].reshape(S, T, 16)
        np.testing.assert_allclose(stored, hidden[layer, :, 1:], atol=2e-5)
        np.testing.assert_allclose(states[f"initial/layer{layer}/h"][:], hidden[layer, :, 0], atol=2e-5)
        np.testing.assert_allclose(states[f"layer{layer}/c"][:].reshape(S, T, 16)[:, -1], cells[layer], atol=2e-5)
    log_p = torch.from_numpy(logits).log_softmax(dim=2).numpy().reshape(S * T, -1)[np.arange(S * T), tokens]
    np.testing.assert_allclose(states["layer2/log_probability"][:, 0], log_p, atol=1e-4)


def test_each_character_matches_its_random_number(run, read):
    tokens, logits = run[3], read[2].reshape(S * T, -1)
    # Philox-4x32-10 of the counter (step, sequence, 0, 0), in Python's integers.
    numbers = []
    for row in range(S * T):
        (a, b, c, d), (k, m) = (row % T, row // T, 0, 0), (SEED % 2**32, SEED >> 32)
        for _ in range(10):
            (high, low), (upper, lower) = divmod(a * 0xD2511F53, 2**32), divmod(c * 0xCD9E8D57, 2**32)
            a, b, c, d = upper ^ b ^ k, lower, high ^ d ^ m, low
            k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
        numbers.append((a + 0.5) / 2**32)
    p = torch.from_numpy(logits / TEMPERATURE).softmax(dim=1).numpy()
    after = p.cumsum(axis=1)[np.arange(S * T), tokens]
    before = after - p[np.arange(S * T), tokens]
    assert (before - 1e-5 < numbers).all() and (numbers < after + 1e-5).all()


def labels_of(states):
    """Whether each character is in a word of four letters or more, [N], from the text alone."""
    values = np.zeros((S, T), bool)
    for sequence, line in enumerate(np.array(states.attrs["vocabulary"])[states["tokens"][:]].reshape(S, T)):
        for match in re.finditer(LONG, "".join(line)):
            values[sequence, match.start() : match.end()] = True
    return values.ravel()


def table_of_characters(tokens, y, tested, balanced):
    """Mean label of training rows after the last 0 to 5 characters, each smoothed by 3, 30 or 300 rows of the shorter.

    The number of rows is the one with which four fifths of the training rows best predict the remaining fifth.
    """
    train, held = ~tested, np.zeros(len(tokens), bool)
    rows = np.flatnonzero(~tested)
    held[rows[np.arange(len(rows)) * 50 // len(rows) % 5 == 4]] = True
    errors = {n: ((smoothed(tokens, y, train & ~held, n) - y)[train & held] ** 2).sum() for n in (3, 30, 300)}
    predicted = smoothed(tokens, y, train, min(errors, key=errors.get))
    share = y[train].mean()
    odds = predicted / (1 - predicted) * ((1 - share) / share if balanced else 1)
    return odds / (1 + odds) if balanced else predicted


def smoothed(tokens, y, train, prior):
    contexts = [tuple(tokens[row - back] if back <= row % T else -1 for back in range(5)) for row in range(len(tokens))]
    counts, sums = defaultdict(int), defaultdict(float)
    for row in np.flatnonzero(train):
        for length in range(6):
            counts[contexts[row][:length]] += 1
            sums[contexts[row][:length]] += y[row]
    predicted = np.full(len(tokens), sums[()] / counts[()])
    for row, context in enumerate(contexts):
        for length in range(1, 6):
            key = context[:length]
            if key in counts:
                predicted[row] = (sums[key] + prior * predicted[row]) / (counts[key] + prior)
    return predicted


def codes_of_characters(tokens):
    """One-hot codes of the last five characters (-1 before the sequence), and columns for the place."""
    rows = np.arange(len(tokens))
    place = 2 * np.log2(rows % T + 1)[:, None]
    last = [np.where(back <= rows % T, np.roll(tokens, back).astype(int), -1) for back in range(5)]
    characters = [each[:, None] == np.arange(-1, tokens.max() + 1) for each in last]
    return np.concatenate([np.maximum(1 - np.abs(place - np.arange(14)), 0), *characters], axis=1)


def interval(scores, rows):
    """2.5% and 97.5% quantiles of scores over resampled test sequences, [2, scores]."""
    generator, groups = np.random.default_rng(99), np.split(rows, np.flatnonzero(np.diff(rows // T)) + 1)
    drawn = [np.concatenate([groups[i] for i in generator.integers(len(groups), size=len(groups))]) for _ in range(200)]
    return np.quantile([scores(each) for each in drawn], [0.025, 0.975], axis=0)


@pytest.mark.parametrize("weighting", ["plain", "balanced"])
def test_a_boolean_record_equals_scikit_learn(run, weighting):
    out, records, states, tokens, tested = run
    record, X = records["long", "layer0/c", weighting], states["layer0/c"][:].astype(np.float64)
    y = labels_of(states)
    train, test = ~tested, tested
    model = LogisticRegression(C=C, class_weight="balanced" if weighting == "balanced" else None, tol=1e-8)
    model.set_params(solver="newton-cholesky").fit(X[train], y[train])
    with safe_open(out / "coefficients.safetensors", "numpy") as file:
        place = json.loads(file.metadata()["gatescope"])["hypotheses"]["boolean"].index("long")
        found = file.get_tensor(f"layer0/c/{weighting}/coefficient")[place]
        np.testing.assert_array_equal(np.repeat(file.get_tensor("fold_that_tests"), T), np.where(tested, 0, -1))
        standardised = file.get_tensor(f"layer0/c/{weighting}/standardised")[place]
    np.testing.assert_allclose(found, model.coef_[0], atol=1e-3 * np.abs(model.coef_).max())
    np.testing.assert_allclose(standardised, found * X[train].std(axis=0), rtol=1e-6)
    logit = model.decision_function(X)
    codes = codes_of_characters(tokens)
    linear, placed = (
        model.set_params(C=1.0).fit(X[train], y[train]).predict_proba(X)[:, 1] for X in (codes, codes[:, :14])
    )
    of_text = table_of_characters(tokens, y, tested, weighting == "balanced"), linear, placed
    alone = max(of_text, key=lambda p: metrics.roc_auc_score(y[test], p[test]))
    yes = logit[test] > 0
    expected = {
        "n_train": train.sum(),
        "n_test": test.sum(),
        "n_holds": y[test].sum(),
        "prevalence": y[test].mean(),
        "accuracy": metrics.accuracy_score(y[test], yes),
        "precision": metrics.precision_score(y[test], yes),
        "recall": metrics.recall_score(y[test], yes),
        "f1": metrics.f1_score(y[test], yes),
        "mcc": metrics.matthews_corrcoef(y[test], yes),
        "balanced_accuracy": metrics.balanced_accuracy_score(y[test], yes),
        "auroc": metrics.roc_auc_score(y[test], logit[test]),
        "average_precision": metrics.average_precision_score(y[test], logit[test]),
        "baseline_majority_f1": metrics.f1_score(y[test], np.ones(test.sum(), bool)),
        "baseline_text_auroc": metrics.roc_auc_score(y[test], alone[test]),
        "baseline_text_f1": max(metrics.f1_score(y[test], p[test] > 0.5) for p in of_text),
    }
    share = y[train].mean()
    p = expit(logit[test] - (np.log((1 - share) / share) if weighting == "balanced" else 0))
    expected["log_loss_bits"] = metrics.log_loss(y[test], p) / np.log(2)
    expected["brier"] = metrics.brier_score_loss(y[test], p)
    bins = [(p * 15).astype(int) == i for i in range(15)]
    expected["ece"] = sum(abs((y[test] - p)[each].sum()) for each in bins) / test.sum()
    # The single unit that best orders the training rows, with the sign that it has there.
    ranks, n = rankdata(X[train], axis=0), y[train].sum()
    of_units = (ranks[y[train]].mean(axis=0) - (n + 1) / 2) / (train.sum() - n)
    unit = np.abs(of_units - 0.5).argmax()
    assert record["top_units"][0]["unit"] == unit
    assert record["top_units"][0]["auroc"] == pytest.approx(of_units[unit], abs=1e-6)
    of_unit = metrics.roc_auc_score(y[test], X[test, unit] * np.sign(of_units[unit] - 0.5))
    expected |= {"best_unit_auroc": of_unit, "localisation": (of_unit - 0.5) / (expected["auroc"] - 0.5)}
    assert {name: record[name] for name in expected} == pytest.approx(expected, abs=2e-3)
    if weighting == "plain":
        return

    def scores(rows):
        area, below = (metrics.roc_auc_score(y[rows], each[rows]) for each in (logit, alone))
        return area, area - below, metrics.f1_score(y[rows], logit[rows] > 0)

    ends = interval(scores, np.flatnonzero(test))
    names = ("auroc", "auroc_over_text", "f1")
    found = np.array([[record[f"{name}_{end}"] for name in names] for end in ("low", "high")])
    assert (np.abs(found - ends) < 0.25 * (ends[1] - ends[0])).all()
