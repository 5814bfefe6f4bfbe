"""The compiled sampler on a GPU: right, deterministic, safe in two streams and under delays, whatever the batch."""

import pytest
import torch
from plain_sampler import converted, random_model, read

pytest.importorskip("triton")

import triton

from gatescope.kernels import sample_fused, sample_kernels
from gatescope.kernels.choice import Draw, distribution
from gatescope.kernels.gpu import H200
from gatescope.kernels.philox import uniform
from gatescope.kernels.sample_fused import PLACES, Captured, FusedRecurrence
from gatescope.kernels.sample_plan import ModelShape, fitted, plan

pytestmark = pytest.mark.cuda

V = 96
# In 16 bits the weights of the models of 128 units or fewer stay on chip; 1,100 sequences are more programs than
# multiprocessors. 130 sequences of 512 units take columns of 16 units, 300 columns of 32, and 5 columns of 8.
SHAPES = [(37, 6, 100, 2), (30, 6, 50, 3), (20, 4, 20, 2), (1100, 3, 128, 2), (200, 6, 128, 3)]
SHAPES += [(70, 6, 200, 1), (130, 6, 512, 3), (300, 6, 512, 3)]
# More than a launch of an LSTM holds: with 512 units in tiles of 128 rows if only h and c are kept; with 128 units not
# in columns.
MANY = [(600, 6, 512, 3), (1100, 6, 128, 3)]


def sampler(cell, model, n_rows, dtype, **options):
    layers, vectors, output = converted(model, dtype)
    on_gpu = [tuple(each.cuda() for each in layer) for layer in layers]
    return FusedRecurrence(cell, on_gpu, vectors, tuple(each.cuda() for each in output), n_rows, **options)


def everything(cell, n_rows, n_steps, hidden, layers, dtype=torch.float32):
    places = {"lstm": range(6), "gru": (0, 2, 3, 4), "rnn": (0,)}[cell]
    shape = (n_rows, n_steps, hidden)
    states = [torch.full(shape, torch.nan, dtype=dtype, device="cuda") if k % PLACES in places else None
              for k in range(PLACES * layers)]  # fmt: skip
    return Captured(tuple(states), *(torch.full((n_rows, n_steps, 1), torch.nan, device="cuda") for _ in range(2)))


def sampled(cell, model, n_rows, n_steps, dtype, draw=None, blocks=1, **options):
    """The text, and the states by layer and place, in this many blocks, of which all but the last have one step."""
    fused = sampler(cell, model, n_rows, dtype, **options)
    layers, hidden, texts, kept, step = len(model[0]), model[0][0][1].shape[1], [], [], 0
    for size in [*[1] * (blocks - 1), n_steps - blocks + 1]:
        tokens = torch.zeros(n_rows, size, dtype=torch.int32, device="cuda")
        kept.append(everything(cell, n_rows, size, hidden, layers))
        lengths = torch.full((n_rows,), size, dtype=torch.int32, device="cuda")
        fused.advance(tokens, lengths, kept[-1], draw or Draw(5, 0, 0.8), step)
        texts.append(tokens)
        step += size
    states = {
        divmod(k, PLACES): torch.cat([part.states[k] for part in kept], dim=1)
        for k, each in enumerate(kept[0].states)
        if each is not None
    }
    return torch.cat(texts, dim=1).long(), states


def same(first, second, rows=slice(None)):
    return torch.equal(first[0][rows], second[0]) and all(
        torch.equal(first[1][name][rows], second[1][name]) for name in second[1]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_within_rule(cell, shape, dtype, within_rule):
    n_rows, n_steps, hidden, layers = shape
    assert isinstance(sample_kernels.sample_kernel, triton.runtime.JITFunction)
    draws = []
    for seed in range(2):
        model = converted(random_model(cell.name, V, hidden, layers, seed), dtype)
        tokens, states = sampled(cell.name, model, n_rows, n_steps, dtype, **cell.options)
        tokens = tokens.cpu()
        oracle, logits = read(cell.name, model, tokens, torch.float64, torch.float64, **cell.options)
        plain, _ = read(cell.name, model, tokens, torch.float32, dtype, **cell.options)
        names = {str(name): name for name in states}
        draws.append(
            (
                {key: states[name].cpu() for key, name in names.items()},
                {key: plain[name] for key, name in names.items()},
                {key: oracle[name] for key, name in names.items()},
            )
        )
        # Each random number lies between the borders of its character, up to what the states' rounding moves them.
        cumulative = distribution(logits.flatten(0, 1), 0.8).cumsum(1)
        cumulative = torch.cat([torch.zeros(len(cumulative), 1), cumulative], dim=1)
        low, high = (cumulative.gather(1, tokens.flatten()[:, None] + k)[:, 0] for k in range(2))
        u = uniform(5, torch.arange(n_rows), torch.arange(n_steps)).T.flatten()
        moved = 100 * torch.finfo(dtype).eps
        assert (low - moved <= u).all() and (u <= high + moved).all()
    within_rule(draws)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_are_bit_identical_for_any_neighbours_blocks_and_repetitions(cell, shape):
    n_rows, n_steps, hidden, layers = shape
    model = random_model(cell.name, V, hidden, layers)
    whole = sampled(cell.name, model, n_rows, n_steps, torch.bfloat16, **cell.options)
    for _ in range(3):
        assert same(whole, sampled(cell.name, model, n_rows, n_steps, torch.bfloat16, **cell.options))
    assert same(whole, sampled(cell.name, model, n_rows, n_steps, torch.bfloat16, blocks=3, **cell.options))
    few = sampled(cell.name, model, 5, n_steps, torch.bfloat16, **cell.options)
    assert same(whole, few, slice(0, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", MANY, ids=str)
def test_tile_height_does_not_change_a_bit(shape, dtype):
    n_rows, n_steps, hidden, layers = shape
    model = random_model("lstm", V, hidden, layers)
    of_model = ModelShape("lstm", hidden, layers, V, 2)
    base = plan(of_model, H200)
    several = [fitted(base, of_model, n, kept=kept) for n, kept in ((n_rows, 2), (n_rows, PLACES), (64, PLACES))]
    assert len({layout.block_b for layout in several}) == 2
    whole, again = (sampled("lstm", model, n_rows, n_steps, dtype, layout=layout) for layout in (several[0], base))
    assert same(whole, again) and same(whole, sampled("lstm", model, 64, n_steps, dtype), slice(0, 64))


@pytest.mark.parametrize("hidden", [100, 128, 200, 512])
def test_captures_of_small_shapes_are_rounded_once(cell, hidden):
    """The cases of `make sanitize`: up to 128 units have their weights on chip, more of them take several columns."""
    model = random_model(cell.name, V, hidden, 2)
    fused = sampler(cell.name, model, 20, torch.bfloat16, **cell.options)
    kept = {}
    for dtype in (torch.float32, torch.float16):
        fused.clear()
        kept[dtype] = everything(cell.name, 20, 4, hidden, 2, dtype)
        tokens = torch.zeros(20, 4, dtype=torch.int32, device="cuda")
        fused.advance(tokens, torch.full((20,), 4, dtype=torch.int32, device="cuda"), kept[dtype], Draw(5, 0, 0.8))
    for exact, half in zip(*(each.states for each in kept.values()), strict=True):
        assert (exact is None) == (half is None) and (half is None or torch.equal(exact.half(), half))


def test_two_streams_at_once_do_not_interfere(cell):
    model = random_model(cell.name, V, 512, 2)
    expected = [sampled(cell.name, model, n, 8, torch.bfloat16, **cell.options) for n in (64, 128)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in expected]
    for _ in range(20):
        results = []
        for stream, n in zip(streams, (64, 128), strict=True):
            with torch.cuda.stream(stream):
                results.append(sampled(cell.name, model, n, 8, torch.bfloat16, **cell.options))
        torch.cuda.synchronize()
        assert all(same(*pair) for pair in zip(expected, results, strict=True))


def test_a_thousand_launches_with_random_delays_are_bit_identical(cell, monkeypatch):
    from delayed_wait import delayed_wait

    # Converted here, and not in each of the thousand calls.
    model = converted(random_model(cell.name, V, 512, 2), torch.bfloat16)
    expected = sampled(cell.name, model, 128, 4, torch.bfloat16, **cell.options)
    monkeypatch.setattr(sample_kernels, "wait", delayed_wait)
    for name in ("_meet", "_add_product", "_output"):
        monkeypatch.setattr(sample_kernels, name, triton.jit(getattr(sample_kernels, name).fn))
    delayed = triton.jit(sample_kernels.sample_kernel.fn, do_not_specialize=sample_kernels.CHANGING)
    monkeypatch.setattr(sample_fused, "sample_kernel", delayed)
    for _ in range(1_000):
        assert same(expected, sampled(cell.name, model, 128, 4, torch.bfloat16, **cell.options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_top_k_of_one_takes_the_most_probable_character(cell, dtype):
    """With one character left nothing is random: the text is the most probable one."""
    model = converted(random_model(cell.name, V, 128, 1), dtype)
    tokens, _ = sampled(cell.name, model, 40, 8, dtype, Draw(1, 0, 1.0, top_k=1), **cell.options)
    again, _ = sampled(cell.name, model, 40, 8, dtype, Draw(2, 0, 1.0, 0, 1e-6), **cell.options)
    assert torch.equal(tokens, again)
    _, logits = read(cell.name, model, tokens.cpu(), torch.float64, torch.float64, **cell.options)
    top = logits.topk(2, dim=2)
    clear = top.values[..., 0] - top.values[..., 1] > 100 * torch.finfo(dtype).eps
    assert torch.equal(tokens.cpu()[clear], top.indices[..., 0][clear])
