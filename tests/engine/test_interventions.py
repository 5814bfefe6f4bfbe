"""What interventions do to the states of one step, in numbers, and how variants are split into parts."""

import torch

from gatescope.engine.interventions import Erased, Held

V, L, T, S, H = 5, 2, 3, 4, 3
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


STATES = {"h": normal(V, S, H), "c": normal(V, S, H)}
HELD = Held({name: normal(L, T, S, H) for name in STATES}, normal(V, L, H) > 0)
ERASED = Erased(normal(V, L, 2 * H), normal(V, L, 2 * H), normal(V, L, 2 * H))


def test_held_units_take_their_given_values():
    found = HELD.after(1, 2, STATES)
    for name, state in STATES.items():
        for v in range(V):
            for unit in range(H):
                source = HELD.values[name][1, 2] if HELD.units[v, 1, unit] else state[v]
                assert torch.equal(found[name][v, :, unit], source[:, unit])


def test_erasure_projects_all_states_of_a_layer_jointly():
    found = ERASED.after(1, 0, STATES)
    x = torch.cat([STATES["h"], STATES["c"]], dim=-1)
    after = torch.cat([found["h"], found["c"]], dim=-1)
    for v in range(V):
        for s in range(S):
            mean, u, write = ERASED.mean[v, 1], ERASED.u[v, 1], ERASED.v[v, 1]
            torch.testing.assert_close(after[v, s], x[v, s] - write * (u @ (x[v, s] - mean)), rtol=1e-12, atol=1e-12)


def test_erasure_loses_little_to_rounding_far_from_zero():
    u, v = normal(1, 1, H), normal(1, 1, H)
    u /= (u * v).sum()
    mean, x = torch.full((1, 1, H), 1e4).double(), 1e4 + 0.01 * normal(1, S, H)
    exact = Erased(mean, u, v).after(0, 0, {"h": x.float().double()})["h"]
    single = Erased(mean.float(), u.float(), v.float()).after(0, 0, {"h": x.float()})["h"]
    # Half the spacing of single-precision numbers there is 5e-4.
    assert (single.double() - exact).abs().max() < 6e-4


def test_split_interventions_equal_the_whole():
    for whole in (HELD, ERASED):
        parts = list(whole.split(2))
        assert len(whole) == V and [len(part) for part in parts] == [2, 2, 1]
        first = 0
        for part in parts:
            chosen = slice(first, first + len(part))
            found = part.after(0, 1, {name: state[chosen] for name, state in STATES.items()})
            for name, state in whole.after(0, 1, STATES).items():
                assert torch.equal(found[name], state[chosen])
            first += len(part)
