"""packing.py: reversal, last steps, padding and packing, against loops over single sequences."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence

from gatescope.kernels.packing import Reversal, cleared_padding, last, pack, stacked

T, B = 7, 4
LENGTHS = torch.tensor([3, 7, 1, 6])
STEPS = torch.arange(T * B * 2).view(T, B, 2)


def test_each_sequence_is_reversed_within_its_length():
    turned = Reversal(T, None, LENGTHS).flip(STEPS)
    for b, n in enumerate(LENGTHS.tolist()):
        assert torch.equal(turned[:n, b], STEPS[:n, b].flip(0))
        assert torch.equal(turned[n:, b], STEPS[n:, b])
    assert torch.equal(Reversal(T, None, LENGTHS).flip(turned), STEPS)
    assert torch.equal(Reversal(T, None, None).flip(STEPS), STEPS.flip(0))


def test_resets_of_a_reversed_sequence_mark_the_same_pieces():
    """Cutting a sequence at its resets and reversing it gives the reversed pieces, in reverse order."""
    reset = torch.rand(T, B, generator=torch.Generator().manual_seed(0)) < 0.4
    for lengths in (None, LENGTHS):
        turned = Reversal(T, reset, lengths).reset
        for b in range(B):
            n = T if lengths is None else int(lengths[b])
            bounds = [t for t in range(1, n) if reset[t, b]]
            assert [t for t in range(n) if turned[t, b]] == sorted(n - t for t in bounds)
            assert turned[n:, b].all()


def test_padding_is_cleared_and_resets_are_kept():
    reset = torch.rand(T, B, generator=torch.Generator().manual_seed(0)) < 0.4
    alone, both = cleared_padding(T, None, LENGTHS), cleared_padding(T, reset, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        assert not alone[:n, b].any()
        assert torch.equal(both[:n, b], reset[:n, b])
        assert alone[n:, b].all()
        assert both[n:, b].all()


def test_last_takes_the_last_step_of_each_sequence():
    assert torch.equal(last(STEPS, None), STEPS[-1])
    assert torch.equal(last(STEPS, LENGTHS), torch.stack([STEPS[n - 1, b] for b, n in enumerate(LENGTHS.tolist())]))


def test_stacked_clears_padding():
    layers = [STEPS + 1, STEPS + 2]
    whole, cut = stacked(layers, None), stacked(layers, LENGTHS)
    assert torch.equal(whole, torch.stack(layers))
    for b, n in enumerate(LENGTHS.tolist()):
        assert torch.equal(cut[:, :n, b], whole[:, :n, b])
        assert not cut[:, n:, b].any()
    gates = stacked([STEPS.unsqueeze(2).expand(T, B, 3, 2) + 1], LENGTHS)
    assert gates.shape == (1, T, B, 3, 2)
    assert not gates[:, 3:, 0].any()


def test_pack_equals_torch():
    for lengths, enforce_sorted in ((LENGTHS, False), (LENGTHS.sort(descending=True).values, True)):
        packed = pack_padded_sequence(STEPS, lengths, enforce_sorted=enforce_sorted)
        assert torch.equal(pack(STEPS, packed), packed.data)
