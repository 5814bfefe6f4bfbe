"""Sequences of a dump, read again by their model: its loss where hypotheses hold, with and without interventions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gatescope.analysis.clamping import held_values
from gatescope.analysis.labels import Labels
from gatescope.engine.dump import StateDump
from gatescope.engine.errors import InputError
from gatescope.engine.intervened import intervened_losses, intervened_states, undisturbed_states
from gatescope.engine.interventions import Held, Intervention
from gatescope.engine.trained_model import TrainedModel

# The most rows that are stepped together, so that memory does not grow with the number of variants.
MOST_ROWS = 1024


class Rereading:
    """Sequences of a dump, read again by its model.

    The state after a character predicts the next one. With alignment `post`, a prediction belongs to the label of the
    character just read; with `pre`, to the label of the character predicted.

    Args:
        trained: the model, in float32.
        dump: its states, with the recurrent states of all layers.
        labels: K boolean hypotheses at the rows of the dump.
        alignment: the alignment of the probes.
        sequences: indices of the S sequences to read.
        length: how many first characters of each to read, at most.

    Attributes:
        architecture: the architecture of the model.
        alignment: as given.
        losses: the undisturbed loss in nats, summed over characters: [1 + 2 K, S]. The first row is over all
            characters; then, for each hypothesis, where it holds; then, for each, where it does not.
        counts: the number of characters in each sum, [1 + 2 K, S].
        undisturbed: the states without intervention, [L, T, S, H] by name.

    Raises:
        InputError: the dump lacks the states from which its sequences begin.
    """

    def __init__(
        self,
        trained: TrainedModel,
        dump: StateDump,
        labels: Labels,
        alignment: Literal["post", "pre"],
        sequences: np.ndarray,
        length: int,
    ) -> None:
        self.architecture, self.alignment = trained.model.architecture, alignment
        self._model = trained.model.eval()
        device = self._model.output.weight.device
        starts = dump.sequence_starts
        self._lengths = np.minimum(starts[sequences + 1] - starts[sequences], length)
        there = np.arange(self._lengths.max()) < self._lengths[:, None]  # [S, T]
        rows = np.where(there, starts[sequences][:, None] + np.arange(there.shape[1]), 0)
        assert dump.tokens is not None
        self._tokens = torch.from_numpy(np.where(there, dump.tokens[rows], 0).astype(np.int64)).to(device)
        self._initial = _initial_states(trained, dump, sequences)
        defined = labels.defined[rows] & there[..., None]  # [S, T, K]
        holds = labels.values[rows] & defined
        if alignment == "pre":
            holds, defined = (np.roll(each, -1, axis=1) for each in (holds, defined))
            holds[:, -1] = defined[:, -1] = False
        self._holds, self._defined = (torch.from_numpy(each.transpose(2, 1, 0)) for each in (holds, defined))
        self.undisturbed = undisturbed_states(self._model, self._tokens, self._initial)
        # This is read step by step, too: reading a sequence at once would sum in another order.
        nothing = torch.zeros(1, self.architecture.layers, self.architecture.hidden, dtype=torch.bool, device=device)
        self._base = intervened_losses(self._model, self._tokens, self._initial, Held(self.undisturbed, nothing))
        predicted = there[:, 1:]
        where = [
            predicted[None],
            *((each[:, :-1] & predicted[..., None]).transpose(2, 0, 1) for each in (holds, defined & ~holds)),
        ]
        self._where = torch.from_numpy(np.concatenate(where)).to(device, torch.float64)  # [1 + 2 K, S, T - 1]
        self.losses = self._summed(self._base)[0]
        self.counts = self._where.sum(dim=2).cpu().numpy()

    def held(self, method: str, hypothesis: int, seed: int) -> dict[str, Tensor]:
        """Return the values that units are held at: `held_values` for one of the K hypotheses."""
        return held_values(
            method, self.undisturbed, self._lengths, self._holds[hypothesis], self._defined[hypothesis], seed
        )

    def changes(self, intervention: Intervention) -> np.ndarray:
        """Return the loss that an intervention adds.

        Args:
            intervention: V variants, on the model's device.

        Returns:
            [V, 1 + 2 K, S], in nats, summed over characters as `losses` is.
        """
        at_once = max(1, MOST_ROWS // len(self._tokens))
        given = self._model, self._tokens, self._initial
        parts = intervention.split(at_once)
        return np.concatenate([self._summed(intervened_losses(*given, part) - self._base) for part in parts])

    def states(self, intervention: Intervention, *, once: bool = False) -> dict[str, Tensor]:
        """Return the states with an intervention of one variant, [L, T, S, H] by name.

        Args:
            intervention: the intervention, applied after every step.
            once: apply it to the undisturbed states instead, without the network reading on from the result.
        """
        if not once:
            return intervened_states(self._model, self._tokens, self._initial, intervention)
        found: dict[str, list[Tensor]] = {name: [] for name in self.undisturbed}
        for layer in range(self.architecture.layers):
            flat = {name: each[layer].flatten(0, 1).unsqueeze(0) for name, each in self.undisturbed.items()}
            for name, each in intervention.after(layer, 0, flat).items():
                found[name].append(each.view_as(self.undisturbed[name][layer]))
        return {name: torch.stack(layers) for name, layers in found.items()}

    def labelled(self, hypothesis: int, states: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the states of all layers at the characters where one of the K hypotheses is defined.

        Args:
            hypothesis: its index.
            states: `undisturbed`, or those of `states`.

        Returns:
            X: [n, D], in the model's dtype.
            holds: [n] bool.
            sequence: [n] which of the S sequences each row belongs to.
        """
        defined = self._defined[hypothesis]
        rows = [layer[defined.to(layer.device)] for each in states.values() for layer in each]
        sequence = torch.arange(defined.shape[1]).expand_as(defined)[defined]
        return torch.cat(rows, dim=1).cpu().numpy(), self._holds[hypothesis][defined].numpy(), sequence.numpy()

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self._tokens.device

    @property
    def n_characters(self) -> int:
        """How many characters are read for one variant of an intervention, including padding."""
        return self._tokens.numel()

    def _summed(self, losses: Tensor) -> np.ndarray:
        return torch.einsum("vst,pst->vps", losses.double(), self._where).cpu().numpy()


def _initial_states(trained: TrainedModel, dump: StateDump, sequences: np.ndarray) -> dict[str, Tensor]:
    architecture, device = trained.model.architecture, trained.model.output.weight.device
    initial = {}
    for state in architecture.states:
        layers = [f"layer{number}/{state}" for number in range(architecture.layers)]
        missing = next((name for name in layers if name not in dump.names), None)
        if missing:
            raise InputError(
                f"{dump.name} has no {missing}, from which its sequences begin: record the states with "
                f"--capture {' '.join(architecture.states)}"
            )
        initial[state] = (
            torch.from_numpy(np.stack([dump.initial(name)[sequences] for name in layers])).to(device).float()
        )
    return initial
