"""The numbers at which units are held, and the random units they are compared with."""

from collections import Counter

import numpy as np
import pytest
import torch

from gatescope.analysis.clamping import held_values, mask_of, random_sets

L, T, S, H = 2, 9, 4, 3
LENGTHS = np.array([9, 4, 7, 9])


@pytest.fixture
def case():
    """States with enormous padding, and where a hypothesis holds and is defined."""
    generator = np.random.default_rng(0)
    there = np.arange(T)[:, None] < LENGTHS
    states = generator.normal(size=(L, T, S, H))
    states[:, ~there] = 1e6
    defined = (generator.random((T, S)) < 0.8) & there
    holds = (generator.random((T, S)) < 0.4) & defined
    return {"h": torch.from_numpy(states), "c": torch.from_numpy(3 * states)}, there, holds, defined


def held(method, case, seed=0):
    states, _, holds, defined = case
    found = held_values(method, states, LENGTHS, torch.from_numpy(holds), torch.from_numpy(defined), seed)
    assert set(found) == {"h", "c"} and all(each.shape == (L, T, S, H) for each in found.values())
    return {name: each.numpy() for name, each in found.items()}


def test_zero_holds_units_at_zero(case):
    assert not held("zero", case)["c"].any()


def test_mean_is_over_all_existing_characters(case):
    states, there, _, _ = case
    for name, found in held("mean", case).items():
        for layer in range(L):
            expected = states[name].numpy()[layer][there].mean(axis=0)
            np.testing.assert_allclose(found[layer], np.broadcast_to(expected, (T, S, H)), rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_resampling_takes_another_sequence_at_the_same_step(case, seed):
    states = case[0]["h"].numpy()
    found = held("resample", case, seed)
    others = set()
    for s in range(S):
        # Past its end, a shorter sequence starts again from its beginning.
        follows = [
            o for o in range(S) if all((found["h"][:, t, s] == states[:, t % LENGTHS[o], o]).all() for t in range(T))
        ]
        assert len(follows) == 1 and follows != [s]
        others.update(follows)
    assert others == set(range(S))
    np.testing.assert_array_equal(found["c"], 3 * found["h"])


def test_resampling_depends_on_the_seed(case):
    assert len({held("resample", case, seed)["h"].tobytes() for seed in range(20)}) > 3


def test_translation_moves_each_class_to_the_mean_of_the_other(case):
    states, _, holds, defined = case
    for name, found in held("translate", case).items():
        before = states[name].numpy()
        for layer in range(L):
            where, elsewhere = before[layer][holds], before[layer][defined & ~holds]
            np.testing.assert_allclose(found[layer][holds].mean(axis=0), elsewhere.mean(axis=0), rtol=1e-10)
            np.testing.assert_allclose(found[layer][defined & ~holds].mean(axis=0), where.mean(axis=0), rtol=1e-10)
            np.testing.assert_array_equal(found[layer][~defined], before[layer][~defined])


def test_mask_of_marks_the_given_units():
    mask = mask_of([(1, 2), (0, 0), (1, 0)], 2, 3)
    assert mask.tolist() == [[True, False, False], [True, False, True]]


def test_random_sets_match_units_per_layer_and_differ():
    sets = random_sets((1, 0, 3), 12, 400, seed=7)
    assert len(sets) == len(set(sets)) == 400
    for each in sets:
        assert Counter(layer for layer, _ in each) == {0: 1, 2: 3}
        assert all(0 <= unit < 12 for _, unit in each)
    # Every unit is equally likely: 400 draws of 1 of 12 have standard deviation 6; of 3 of 12, 9.
    counts = Counter(unit for each in sets for unit in each)
    assert all(abs(counts[0, unit] - 400 / 12) < 30 and abs(counts[2, unit] - 100) < 45 for unit in range(12))
    assert random_sets((1, 0, 3), 12, 400, seed=7) == sets
    assert random_sets((1, 0, 3), 12, 400, seed=8) != sets


@pytest.mark.parametrize(("n_sets", "expected"), [(4, 4), (5, 5), (9, 9), (10, 10), (40, 10)])
def test_random_sets_are_distinct_and_limited_by_their_number(n_sets, expected):
    sets = random_sets((3, 5), 5, n_sets, seed=0)
    assert len(sets) == len(set(sets)) == expected
    assert all(Counter(layer for layer, _ in each) == {0: 3, 1: 5} for each in sets)
