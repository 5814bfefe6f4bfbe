"""The sampler's kernels in Triton's interpreter, in each form, against plain torch in float64 and the CPU's path."""

import pytest
import torch
from plain_sampler import converted, random_model, read

pytest.importorskip("triton")


from gatescope.kernels.choice import Draw, choose, distribution
from gatescope.kernels.philox import uniform
from gatescope.kernels.sample import TILE, Recurrence
from gatescope.kernels.sample_fused import PLACES, Captured, FusedRecurrence
from gatescope.kernels.sample_plan import SamplePlan

PROGRAM = SamplePlan("program", 16, 32, 16, 32, 1, 9, 2, 16, 2)
COLUMNS = SamplePlan("columns", 16, 16, 16, 32, 2, 1, 2, 32, 1)  # two programs a group, one group a launch
RESIDENT = SamplePlan("resident", 8, 32, 32, 32, 1, resident=6)
FORMS = {"program": PROGRAM, "columns": COLUMNS, "resident": RESIDENT}
V, H = 11, 21


def captured_of(cell, n_rows, n_steps, layers, hidden=H, dtype=torch.float32, wanted=None):
    """Memory filled with NaN for everything that a cell has, or only for the given places."""
    places = {"lstm": range(6), "gru": (0, 2, 3, 4), "rnn": (0,)}[cell]
    wanted = [(l, k) for l in range(layers) for k in places] if wanted is None else wanted
    states = [None] * (PLACES * layers)
    for layer, place in wanted:
        states[PLACES * layer + place] = torch.full((n_rows, n_steps, hidden), torch.nan, dtype=dtype)
    score = [torch.full((n_rows, n_steps, 1), torch.nan) for _ in range(2)]
    return Captured(tuple(states), *score)


def by_place(captured):
    return {divmod(k, PLACES): each for k, each in enumerate(captured.states) if each is not None}


def sample(cell, model, layout, n_rows, n_steps, blocks=None, draw=None, dtype=torch.float32, **options):
    """Sample from the zero state; return the tokens, the captures and the kernel's states."""
    layers, vectors, output = converted(model, dtype)
    fused = FusedRecurrence(cell, layers, vectors, output, n_rows, layout=layout, **options)
    draw, text, parts, step = draw or Draw(5, 0, 0.8), [], [], 0
    for size in blocks or [n_steps]:
        tokens = torch.zeros(n_rows, size, dtype=torch.int32)
        parts.append(captured_of(cell, n_rows, size, len(layers), layers[0][1].shape[1]))
        fused.advance(tokens, torch.full((n_rows,), size, dtype=torch.int32), parts[-1], draw, step)
        text.append(tokens.long())
        step += size
    states = {name: torch.cat([by_place(part)[name] for part in parts], dim=1) for name in by_place(parts[0])}
    score = [torch.cat([getattr(p, n)[..., 0] for p in parts], dim=1) for n in ("log_probability", "entropy")]
    return torch.cat(text, dim=1), states, score, fused


def assert_chosen(tokens, logits, numbers, tolerance, temperature=0.8, **cut):
    """Every character's random number lies between its borders in the oracle, up to rounding."""
    for t in range(tokens.shape[1]):
        cumulative = distribution(logits[:, t], temperature, **cut).cumsum(1)
        cumulative = torch.cat([torch.zeros(len(tokens), 1), cumulative / cumulative[:, -1:]], dim=1)
        low, high = (cumulative.gather(1, tokens[:, t : t + 1] + k)[:, 0] for k in range(2))
        u = numbers[t, : len(tokens)]
        assert (low - tolerance <= u).all() and (u <= high + tolerance).all() and (high > low).all()


@pytest.mark.parametrize(
    ("form", "L"),
    [
        pytest.param("program", 1, id="program-L1"),
        pytest.param("resident", 3, id="resident-L3"),
        pytest.param("columns", 2, id="columns-L2"),
        pytest.param("program", 3, id="program-L3", marks=pytest.mark.slow),
        pytest.param("columns", 3, id="columns-L3", marks=pytest.mark.slow),
        pytest.param("resident", 1, id="resident-L1", marks=pytest.mark.slow),
        pytest.param("resident", 2, id="resident-L2", marks=pytest.mark.slow),
    ],
)
def test_within_rule(cell, form, L, within_rule):
    """Text, states, gates and scores: of the kernel, of plain torch that stores as it does, and in float64."""
    draws = []
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 1e-2)):
        n_steps, model = 2 if form == "columns" else 3, converted(random_model(cell.name, V, H, L), dtype)
        tokens, states, score, _ = sample(cell.name, model, FORMS[form], 3, n_steps, dtype=dtype, **cell.options)
        oracle, logits = read(cell.name, model, tokens, torch.float64, torch.float64, **cell.options)
        plain, plain_logits = read(cell.name, model, tokens, torch.float32, dtype, **cell.options)
        assert_chosen(tokens, logits, uniform(5, torch.arange(3), torch.arange(n_steps)), tolerance)

        def scored(values, tokens=tokens):
            p = values.log_softmax(2)
            return [p.gather(2, tokens[..., None])[..., 0], -(p * p.exp()).sum(2)]

        mine = {str(k): each for k, each in enumerate([*states.values(), *score])}
        others = [
            {str(k): each for k, each in enumerate([*(values[name] for name in states), *scored(own)])}
            for values, own in ((plain, plain_logits), (oracle, logits))
        ]
        assert set(states) == set(oracle)
        draws.append((mine, *others))
    within_rule(draws[:1])
    within_rule(draws[1:])


@pytest.mark.parametrize("form", ["program", "resident"])
def test_the_sampled_text_equals_the_cpu(cell, form):
    """One seed, one text: none of this seed's numbers lies within rounding of a border."""
    layers, vectors, output = model = converted(random_model(cell.name, V, H, 2, width=4), torch.float32)
    tokens, _, _, fused = sample(cell.name, model, FORMS[form], 5, 3, draw=Draw(3, 0, 1.3, 4, 0.9), **cell.options)
    recurrence = Recurrence(cell.name, layers, vectors, **cell.options)
    for t, numbers in enumerate(uniform(3, torch.arange(TILE), torch.arange(3))):
        drawn = choose(recurrence.h[-1] @ output[0].T + output[1], numbers, 1.3, 4, 0.9)
        assert torch.equal(drawn[:5], tokens[:, t])
        recurrence.step(drawn)
    for layer in range(2):
        torch.testing.assert_close(fused.h[layer], recurrence.h[layer][:5], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell_name", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_results_are_bit_identical_for_any_block_length_and_neighbours(cell_name, form):
    # Two layers, since the second layer's states come from another place when a block begins.
    model = random_model(cell_name, V, H, 1 if form == "columns" else 2)
    tokens, states, score, fused = sample(cell_name, model, FORMS[form], 18, 3)
    cut = sample(cell_name, model, FORMS[form], 18, 3, blocks=[1, 2])
    few = sample(cell_name, model, FORMS[form], 2, 3)
    later = sample(cell_name, model, FORMS[form], 2, 3, draw=Draw(5, 16, 0.8))
    for rows, (found, values, scored, _) in ((slice(0, 18), cut), (slice(0, 2), few), (slice(16, 18), later)):
        assert torch.equal(found, tokens[rows])
        assert all(torch.equal(values[name], states[name][rows]) for name in states)
        assert all(torch.equal(*pair) for pair in zip(scored, (each[rows] for each in score), strict=True))
    assert torch.equal(cut[3].h, fused.h) and (cell_name != "lstm" or torch.equal(cut[3].c, fused.c))


@pytest.mark.parametrize("form", FORMS)
def test_reads_sequences_that_start_late_or_end_early(cell, form):
    model = random_model(cell.name, V, H, 2)
    layers, vectors, output = converted(model, torch.float32)
    tokens = torch.randint(V, (4, 4), generator=torch.Generator().manual_seed(1))
    tokens[1, :2], tokens[2, :3] = -1, -1
    lengths = torch.tensor([4, 3, 4, 0], dtype=torch.int32)
    oracle, logits = read(cell.name, model, tokens, torch.float64, torch.float64, **cell.options)
    fused = FusedRecurrence(cell.name, layers, vectors, output, 4, layout=FORMS[form], **cell.options)
    captured = captured_of(cell.name, 4, 4, 2)
    fused.advance(tokens.int(), lengths, captured)
    inside = torch.arange(4) < lengths[:, None]
    p = logits.log_softmax(2)
    expected = {**oracle, "p": p.gather(2, tokens.clamp(min=0)[..., None]), "e": -(p * p.exp()).sum(2, keepdim=True)}
    found = {**by_place(captured), "p": captured.log_probability, "e": captured.entropy}
    assert set(found) == set(expected)
    for name, values in found.items():
        assert values[~inside].isnan().all(), name
        begun = inside & (tokens >= 0) if name not in ((0, 0), (1, 0), (0, 1), (1, 1)) else inside
        torch.testing.assert_close(values[begun].double(), expected[name][begun], rtol=1e-4, atol=1e-5, msg=str(name))
    fused.clear()
    assert not fused.h.any()


@pytest.mark.parametrize("form", FORMS)
def test_only_requested_states_are_kept_and_results_do_not_change(form):
    model = random_model("lstm", V, H, 2)
    layers, vectors, output = converted(model, torch.float32)
    tokens, states, _, _ = sample("lstm", model, FORMS[form], 3, 2)
    wanted = [(0, 1), (1, 0), (1, 4)]
    fused = FusedRecurrence("lstm", layers, vectors, output, 3, layout=FORMS[form])
    slab = torch.full((3, 9, H), torch.nan)
    some = captured_of("lstm", 3, 2, 2, wanted=wanted).states
    # A part of a longer array: steps 4 and 5 of some sequences.
    view = tuple(
        None if each is None else slab[:, 4:6] if k == 1 else torch.empty(3, 9, H)[:, :2] for k, each in enumerate(some)
    )
    drawn = torch.zeros(3, 2, dtype=torch.int32)
    fused.advance(drawn, torch.full((3,), 2, dtype=torch.int32), Captured(view), Draw(5, 0, 0.8))
    assert torch.equal(drawn.long(), tokens)
    for layer, place in wanted:
        assert torch.equal(view[PLACES * layer + place], states[layer, place])
    assert slab[:, :4].isnan().all() and slab[:, 6:].isnan().all()


@pytest.mark.parametrize("form", FORMS)
def test_captures_are_rounded_once(form):
    model = random_model("lstm", V, H, 1)
    layers, vectors, output = converted(model, torch.float32)
    _, states, _, _ = sample("lstm", model, FORMS[form], 3, 2)
    fused = FusedRecurrence("lstm", layers, vectors, output, 3, layout=FORMS[form])
    half = Captured(captured_of("lstm", 3, 2, 1, dtype=torch.float16).states)
    fused.advance(torch.zeros(3, 2, dtype=torch.int32), torch.full((3,), 2, dtype=torch.int32), half, Draw(5, 0, 0.8))
    for name, values in by_place(half).items():
        assert torch.equal(values, states[name].half()), name


@pytest.mark.parametrize("form", FORMS)
def test_kept_states_equal_those_the_next_step_reads(cell, form):
    model = converted(random_model(cell.name, V, H, 2), torch.float16)
    _, states, _, fused = sample(cell.name, model, FORMS[form], 3, 2, dtype=torch.float16, **cell.options)
    for layer in range(2):
        assert torch.equal(states[layer, 0][:, -1], fused.h[layer].float())
        if cell.name == "lstm":
            assert torch.equal(states[layer, 1][:, -1], fused.c[layer])


@pytest.mark.parametrize("form", FORMS)
def test_nan_draws_no_character_and_is_marked(form):
    layers, vectors, output = converted(random_model("lstm", V, H, 1), torch.float32)
    layers[0][1][3, 4] = torch.nan
    fused = FusedRecurrence("lstm", layers, vectors, output, 2, layout=FORMS[form])
    tokens = torch.zeros(2, 3, dtype=torch.int32)
    fused.advance(tokens, torch.full((2,), 3, dtype=torch.int32), Captured((None,) * PLACES), Draw(0, 0, 1.0))
    assert (tokens[:, 0] >= 0).all() and (tokens[:, 1] == -1).all() and (tokens < V).all()


def test_too_many_sequences_are_refused():
    layers, vectors, output = converted(random_model("gru", V, H, 1), torch.float32)
    with pytest.raises(ValueError, match="n_rows: expected at most 67108848 sequences side by side, got 1073741824"):
        FusedRecurrence("gru", layers, vectors, output, 2**30, layout=PROGRAM)
