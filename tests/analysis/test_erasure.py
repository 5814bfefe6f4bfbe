"""Directions that erase hypotheses, against LEACE as in its paper, and what probes still find afterwards."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from gatescope.analysis.erasure import RIDGE, erased_directions
from gatescope.analysis.labels import Labels
from gatescope.engine.dump import StateDump
from gatescope.engine.dump_spec import DumpSpec
from gatescope.engine.dump_writer import DumpWriter
from gatescope.engine.model import Architecture, CharacterModel

STARTS = np.array([0, 300, 301, 900, 1500, 2000])
N, S = 2000, 5
TRAIN = np.array([0, 1, 3, 4])
CELLS = {
    "lstm": Architecture(cell="lstm", hidden=5, layers=2),
    "gru": Architecture(cell="gru", hidden=6, layers=3),
    "one unit": Architecture(cell="rnn", hidden=1, layers=1),
}


def case(folder, architecture, change=lambda arrays, values: None):
    """A dump of correlated states far from zero, and labels that follow some of the units; everything is known."""
    generator = np.random.default_rng(0)
    H, names = architecture.hidden, architecture.states
    width = H * len(names)
    x = [
        generator.normal(size=(N, width)) @ generator.normal(size=(width, width)) + 3 * generator.normal(size=width)
        for _ in range(architecture.layers)
    ]
    values = np.stack([x[0][:, 0] + generator.normal(size=N), x[-1].sum(axis=1), x[0][:, -1]], axis=1)
    values = values > [np.quantile(of_one, q) for of_one, q in zip(values.T, (0.6, 0.5, 0.9), strict=True)]
    defined = np.ones((N, 3), bool)
    defined[:, 1] = generator.random(N) < 0.7
    arrays = {
        f"layer{layer}/{name}": x[layer][:, H * number : H * (number + 1)].astype(np.float32)
        for layer in range(architecture.layers)
        for number, name in enumerate(names)
    }
    change(arrays, values)
    spec = DumpSpec(
        arrays=dict.fromkeys(arrays, H),
        sequence_starts=STARTS,
        document_starts=STARTS,
        initial=names,
        token_dtype=np.dtype(np.uint8),
        dtype=np.dtype(np.float32),
        attributes={"vocabulary": ["a"]},
        block_rows=300,
    )
    initial = {name: generator.normal(size=(S, H)).astype(np.float32) for name in arrays}
    with DumpWriter(folder / "states.zarr", spec) as writer:
        writer.write_initial(0, initial)
        writer.append(0, np.zeros(N, np.uint8), arrays)
    labels = Labels(tuple(SimpleNamespace(name=f"h{k}") for k in range(3)), values, defined)
    model = CharacterModel(architecture, 4).double()
    return StateDump.open(folder / "states.zarr"), model, labels, arrays, initial


def rows_of_training(arrays, initial, architecture, layer, alignment):
    """The states of the training characters, one sequence after another, and the rows they come from."""
    names = [f"layer{layer}/{name}" for name in architecture.states]
    x, rows = [], []
    for s in TRAIN:
        for row in range(STARTS[s], STARTS[s + 1]):
            before = alignment == "pre"
            first = row == STARTS[s]
            x.append(
                np.concatenate([initial[name][s] if before and first else arrays[name][row - before] for name in names])
            )
            rows.append(row)
    return np.array(x, np.float64), np.array(rows)


def moved(erased, variant, layer, x):
    """States [n, D] after an erasure."""
    mean, u, v = (each[variant, layer].numpy() for each in (erased.mean, erased.u, erased.v))
    return x - np.outer((x - mean) @ u, v)


def sqrtm(S):
    values, vectors = scipy.linalg.eigh(S)
    return vectors * np.sqrt(values) @ vectors.T


@pytest.mark.parametrize("alignment", ["post", "pre"])
@pytest.mark.parametrize("architecture", CELLS.values(), ids=CELLS)
def test_erasure_equals_the_projection_of_whitened_states(tmp_path, architecture, alignment):
    dump, model, labels, arrays, initial = case(tmp_path, architecture)
    found, random = erased_directions(dump, model, labels, alignment, TRAIN, 4, 0)
    assert (len(found), {len(each) for each in found}, len(random)) == (3, {1}, 4)
    for layer in range(architecture.layers):
        every, rows = rows_of_training(arrays, initial, architecture, layer, alignment)
        S = np.atleast_2d(np.cov(every.T, bias=True))
        W = scipy.linalg.inv(sqrtm(S + RIDGE * np.diag(S.diagonal())))
        for k, erased in enumerate(found):
            x, z = (each[labels.defined[rows, k]] for each in (every, labels.values[rows, k].astype(float)))
            g = W @ ((x - x.mean(axis=0)).T @ (z - z.mean()))
            P = np.outer(g, g) / (g @ g)
            expected = every - (scipy.linalg.inv(W) @ P @ W @ (every - every.mean(axis=0)).T).T
            np.testing.assert_allclose(moved(erased, 0, layer, every), expected, rtol=1e-8, atol=1e-8)
        for variant in range(4):
            g = W @ random.v[variant, layer].numpy()
            expected = every - (scipy.linalg.inv(W) @ np.outer(g, g) / (g @ g) @ W @ (every - every.mean(axis=0)).T).T
            np.testing.assert_allclose(moved(random, variant, layer, every), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("architecture", CELLS.values(), ids=CELLS)
def test_no_linear_probe_of_erased_states_predicts_the_hypothesis(tmp_path, architecture):
    dump, model, labels, arrays, initial = case(tmp_path, architecture)
    found, random = erased_directions(dump, model, labels, "post", TRAIN, 4, 0)
    for k, erased in enumerate(found):
        told = []
        for layer in range(architecture.layers):
            every, rows = rows_of_training(arrays, initial, architecture, layer, "post")
            z = labels.values[rows, k][labels.defined[rows, k]]
            before = every[labels.defined[rows, k]]
            x = moved(erased, 0, layer, before)
            covariance = (x - x.mean(axis=0)).T @ (z - z.mean()) / len(z)
            assert np.abs(covariance).max() < 1e-14 * np.abs(before).max() * len(z) ** 0.5
            told.append(LinearRegression().fit(before, z).score(before, z))
            if before.shape[1] == 1:
                # With one unit there is only one direction, whichever is erased.
                np.testing.assert_allclose(x, np.full_like(x, every.mean()), rtol=1e-12)
                for variant in range(4):
                    after = moved(random, variant, layer, before)
                    np.testing.assert_allclose(after, np.full_like(x, every.mean()), rtol=1e-12)
                continue
            assert np.ptp(LinearRegression().fit(x, z).predict(x)) < 1e-10
            logistic = LogisticRegression(C=np.inf, tol=1e-12).fit(x, z)
            assert abs(logistic.predict_proba(x)[:, 1] - z.mean()).max() < 1e-5
            # Erasing a random direction removes a share of R2: its squared cosine with the label's direction.
            if labels.defined[:, k].all():
                W = scipy.linalg.inv(sqrtm(np.cov(before.T, bias=True)))
                g, its = W @ random.v[:, layer].numpy().T, W @ erased.v[0, layer].numpy()
                cosine = its @ g / np.linalg.norm(its) / np.linalg.norm(g, axis=0)
                for variant in range(4):
                    after = moved(random, variant, layer, before)
                    left = LinearRegression().fit(after, z).score(after, z)
                    assert left == pytest.approx(told[-1] * (1 - cosine[variant] ** 2), rel=1e-4, abs=1e-10)
        assert max(told) > 0.05


def test_random_directions_erase_as_much_as_label_directions(tmp_path):
    architecture = CELLS["lstm"]
    dump, model, labels, arrays, initial = case(tmp_path, architecture)
    found, random = erased_directions(dump, model, labels, "post", TRAIN, 4000, 0)
    for layer in range(2):
        x, _ = rows_of_training(arrays, initial, architecture, layer, "post")
        S = np.cov(x.T, bias=True)
        u, v = random.u[:, layer].numpy(), random.v[:, layer].numpy()
        np.testing.assert_allclose((u * v).sum(axis=1), 1, rtol=1e-10)
        # In whitened space, each erases as much as a label's direction, where that is defined.
        for mine, its in ((u, v), *((each.u[:, layer].numpy(), each.v[:, layer].numpy()) for each in found)):
            variance = np.einsum("rd,de,re->r", mine, S, mine) * np.einsum("rd,de,re->r", its, np.linalg.inv(S), its)
            np.testing.assert_allclose(variance, 1, rtol=1e-4)
        assert all(torch.equal(each.mean[0], random.mean[0]) for each in found)
        g = v @ scipy.linalg.inv(sqrtm(S))
        # Squared cosines with any direction are distributed as on the sphere: Beta(1/2, (D - 1) / 2).
        for axis in np.eye(10):
            cosine = (g @ axis) ** 2 / (g * g).sum(axis=1)
            assert scipy.stats.kstest(cosine, scipy.stats.beta(0.5, 4.5).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(random.v[:, 0, 0], random.v[:, 1, 0])[0, 1]) < 0.08
    other = Labels(labels.hypotheses, ~labels.values[:, ::-1], labels.defined)
    _, same = erased_directions(dump, model, other, "post", TRAIN, 4000, 0)
    _, different = erased_directions(dump, model, other, "post", TRAIN, 4000, 1)
    assert torch.equal(random.v, same.v) and torch.equal(random.u, same.u) and not torch.equal(random.v, different.v)


def test_a_hypothesis_is_erased_independently_of_the_others(tmp_path):
    dump, model, labels, _, _ = case(tmp_path, CELLS["lstm"])
    together, _ = erased_directions(dump, model.float(), labels, "post", TRAIN, 1, 0)
    for k, expected in enumerate(together):
        alone = Labels(labels.hypotheses[k : k + 1], labels.values[:, k : k + 1], labels.defined[:, k : k + 1])
        ((found,), _) = erased_directions(dump, model, alone, "post", TRAIN, 1, 0)
        assert found.u.dtype == torch.float32
        for name in ("mean", "u", "v"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-9)


def test_constant_and_duplicate_units_are_tolerated(tmp_path):
    def change(arrays, values):
        arrays["layer0/h"][:, 1] = 0.1
        arrays["layer0/h"][:, 2] = arrays["layer0/c"][:, 3]
        arrays["layer1/h"][:], arrays["layer1/c"][:] = -2, 0
        values[:, 1] = arrays["layer0/h"][:, 3] > 0

    architecture = CELLS["lstm"]
    dump, model, labels, arrays, initial = case(tmp_path, architecture, change)
    found, random = erased_directions(dump, model, labels, "post", TRAIN, 5, 0)
    x, rows = rows_of_training(arrays, initial, architecture, 0, "post")
    for erased in (*found, random):
        assert all(torch.isfinite(each).all() for each in (erased.mean, erased.u, erased.v))
        # No unit of layer 1 varies, and unit 1 of layer 0 does not.
        assert not erased.u[:, 1].any() and not erased.v[:, 1].any() and not erased.v[:, 0, 1].any()
        for variant in range(len(erased)):
            after = moved(erased, variant, 0, x)
            np.testing.assert_allclose(after[:, 2], after[:, 8], atol=1e-5)
    for k, erased in enumerate(found):
        z, after = (each[labels.defined[rows, k]] for each in (labels.values[rows, k], moved(erased, 0, 0, x)))
        covariance = (after - after.mean(axis=0)).T @ (z - z.mean()) / len(z)
        assert np.abs(covariance).max() < 1e-12


def test_constant_or_undefined_labels_erase_nothing(tmp_path):
    dump, model, labels, _, _ = case(tmp_path, CELLS["lstm"])
    test = np.arange(N)[301:900]
    values, defined = np.zeros((N, 3), bool), np.ones((N, 3), bool)
    # A label that holds only in the test sequence must not count here.
    values[test], values[:, 1], defined[:, 2] = True, True, False
    found, _ = erased_directions(dump, model, Labels(labels.hypotheses, values, defined), "post", TRAIN, 1, 0)
    assert not any(each.any() for erased in found for each in (erased.u, erased.v))


def test_one_training_sequence_is_enough(tmp_path):
    dump, model, labels, _, _ = case(tmp_path, CELLS["gru"])
    found, random = erased_directions(dump, model, labels, "pre", np.array([2]), 1, 0)
    assert all(torch.allclose((each.u * each.v).sum(dim=2), torch.ones(1).double()) for each in (*found, random))
