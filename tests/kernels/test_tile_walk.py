"""A tile's compiled walk: reading many characters at once gives what steps give, and what torch.nn gives in float64."""

import copy

import pytest
import torch

from gatescope.kernels.choice import Draw
from gatescope.kernels.sample import TILE, Recurrence

V, H, L, STEPS = 5, 7, 2, 6
CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def recurrences(cell, dtype=torch.float64, **options):
    """The oracle in torch.nn, and two tiles with its weights: one that keeps STEPS steps and one that keeps one."""
    torch.manual_seed(0)
    oracle = CELLS[cell](V, H, L).to(dtype)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    layers = [tuple(getattr(oracle, f"{name}_l{k}").detach() for name in names) for k in range(L)]
    return oracle, *(Recurrence(cell, layers, steps=steps, **options) for steps in (STEPS, 1))


@pytest.mark.parametrize("cell", CELLS)
def test_reading_equals_torch_in_float64(cell):
    oracle, many, _ = recurrences(cell)
    tokens = torch.randint(V, (2 * STEPS - 2, TILE))
    expected, after = oracle(torch.eye(V, dtype=torch.float64)[tokens])
    found = []
    for part in (tokens[:STEPS], tokens[STEPS:]):
        many.rewind()
        many.read(part)
        found.append(many.kept_h[-1][: len(part)].clone())
    torch.testing.assert_close(torch.cat(found), expected.detach(), rtol=1e-12, atol=1e-13)
    states = (torch.stack(many.h), torch.stack(many.c)) if cell == "lstm" else torch.stack(many.h)
    torch.testing.assert_close(states, after, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("cell", "options"), [("lstm", {}), ("gru", {}), ("gru", {"reset_after": False})], ids=["lstm", "after", "before"]
)
def test_reading_equals_single_steps_to_the_bit(cell, options, dtype):
    _, many, one = recurrences(cell, dtype, **options)
    tokens = torch.randint(V, (STEPS - 1, TILE))
    many.read(tokens)
    for t, column in enumerate(tokens):
        one.step(column)
        for layer in range(L):
            assert torch.equal(many.kept_h[layer][t], one.h[layer])
            assert torch.equal(many.kept_gates[layer][t], one.gates[layer])
            assert cell == "gru" or torch.equal(many.kept_c[layer][t], one.c[layer])
    assert all(map(torch.equal, (*many.h, *many.c, *many.gates), (*one.h, *one.c, *one.gates)))
    # The next character continues from the last one that was read.
    more = torch.randint(V, (TILE,))
    assert torch.equal(many.step(more), one.step(more))
    assert torch.equal(many.kept_h[0][STEPS - 1], one.h[0])


@pytest.mark.parametrize("cell", CELLS)
def test_a_copy_steps_independently(cell):
    _, _, one = recurrences(cell)
    first, second = torch.randint(V, (2, TILE))
    one.step(first)
    other, before = copy.deepcopy(one), one.h[-1].clone()
    expected = other.step(second).clone()
    assert torch.equal(other.h[-1], expected) and torch.equal(one.h[-1], before)
    assert torch.equal(one.step(second), expected)


@pytest.mark.parametrize(
    "tokens",
    [
        torch.full((1, TILE), V),
        torch.full((1, TILE), -1),
        torch.zeros(1, 3).long(),
        torch.zeros(STEPS + 1, TILE).long(),
    ],
    ids=["beyond", "negative", "few-rows", "many-steps"],
)
def test_bad_token_tiles_are_refused_before_any_state_changes(tokens):
    _, many, _ = recurrences("lstm")
    with pytest.raises(IndexError, match="tokens"):
        many.read(tokens)
    assert not any(state.any() for state in (*many.h, *many.c))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawing_equals_reading_the_drawn_characters_to_the_bit(cell, dtype):
    output = torch.randn(V, H, dtype=dtype), torch.randn(V, dtype=dtype)
    _, drawing, _ = recurrences(cell, dtype, output=output)
    _, reading, _ = recurrences(cell, dtype)
    drawn = drawing.draw(Draw(0, 0, 1.0), 7, 7 + STEPS - 1)
    reading.read(drawn)
    pairs = zip((*drawing.kept_h, *drawing.kept_c), (*reading.kept_h, *reading.kept_c), strict=True)
    assert all(torch.equal(found[: STEPS - 1], expected[: STEPS - 1]) for found, expected in pairs)
    after = ((*each.h, *each.c, *each.gates) for each in (drawing, reading))
    assert all(map(torch.equal, *after))
    more = torch.randint(V, (TILE,))
    assert torch.equal(drawing.step(more), reading.step(more))
    with pytest.raises(IndexError, match="random numbers"):
        drawing.draw(Draw(0, 0, 1.0), 0, STEPS + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("cell", "options"), [("lstm", {}), ("gru", {}), ("gru", {"reset_after": False})], ids=["lstm", "after", "before"]
)
@pytest.mark.parametrize(("n", "n_threads"), [(1, 1), (TILE - 3, 3), (37, 4), (TILE, 2)])
def test_chosen_rows_step_independently_for_any_number_of_rows_and_threads(n, n_threads, cell, options, dtype):
    """To the bit as in a whole tile on one thread; the other rows do not move."""
    output = torch.randn(V, H, dtype=dtype), torch.randn(V, dtype=dtype)
    _, whole, _ = recurrences(cell, dtype, output=output, **options)
    _, some, _ = recurrences(cell, dtype, output=output, **options)
    some.use(n, n_threads)
    tokens, how = torch.randint(V, (2, TILE)), Draw(0, 0, 1.0)
    for each in (whole, some):
        each.read(tokens)
    for name in ("kept_h", "kept_c", "kept_gates", "h", "c"):
        for expected, found in zip(getattr(whole, name), getattr(some, name), strict=True):
            assert torch.equal(found[..., :n, :], expected[..., :n, :]), name
            assert not found[..., n:, :].any(), name
    drawn, expected = (each.draw(how, 2, 2 + STEPS) for each in (some, whole))
    assert torch.equal(drawn[:, :n], expected[:, :n]) and not drawn[:, n:].any()
    for expected, found in zip((*whole.h, *whole.c, *whole.kept_h), (*some.h, *some.c, *some.kept_h), strict=True):
        assert torch.equal(found[..., :n, :], expected[..., :n, :]) and not found[..., n:, :].any()


@pytest.mark.parametrize("cell", CELLS)
def test_the_last_character_is_read_if_none_can_be_drawn(cell):
    """Compiled loops do no bounds checks, and there is no row for a character V."""
    bias = torch.zeros(V, dtype=torch.float64)
    bias[2] = float("nan")
    _, drawing, _ = recurrences(cell, output=(torch.zeros(V, H, dtype=torch.float64), bias))
    _, reading, _ = recurrences(cell)
    assert (drawing.draw(Draw(0, 0, 1.0), 0, STEPS) == V).all()
    reading.read(torch.full((STEPS, TILE), V - 1))
    assert all(map(torch.equal, (*drawing.kept_h, *drawing.h), (*reading.kept_h, *reading.h)))
