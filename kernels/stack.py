"""What LSTM, GRU and RNN modules share: parameters, layers, directions, dropout, packing, captures and validation.

Names, shapes, initialisation and errors are torch.nn's, so that a state_dict can be loaded in either direction. A cell
supplies `layer`, which runs one layer in one direction over a whole sequence, and defines what its operator returns and
which other library may run it.

Captured states are time-first whatever `batch_first` is, [L*D, T, B, H] (gates [L*D, T, B, G, H]), with the D
directions within a layer in torch.nn's order; step t of the reverse direction is the state after it has read step t.
Sequences of a PackedSequence are in the order in which they were packed, and padding is zero. For an unbatched input, B
is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from gatescope.kernels import wavefront
from gatescope.kernels.backend import BACKENDS, choose_backend
from gatescope.kernels.batch import Batch, enter
from gatescope.kernels.checks import States, Weights, check_arguments, check_capture, check_dropout, with_biases
from gatescope.kernels.dropout import draw_seed, drop_again, dropout
from gatescope.kernels.packing import Reversal, cleared_padding, last, pack, stacked
from gatescope.kernels.time_blocks import entering


class RecurrentStack(nn.Module):
    """L recurrent layers of H units in one or two directions; the base of LSTM, GRU and RNN.

    Args:
        input_size: I, features of the input.
        hidden_size: H, units in a layer.
        num_layers: L.
        bias: whether the two bias vectors exist.
        batch_first: inputs and outputs are [B, T, ...] instead of [T, B, ...]; states and captures stay as they are.
        dropout: share of the outputs of each layer but the last that is set to zero in training; masks are those of
            `gatescope.kernels.dropout`, not torch.nn's.
        bidirectional: run each layer in both directions and concatenate their outputs.
        proj_size: must be 0; projections are not implemented.
        device, dtype: of the parameters.
        backend: one of the implementations that the cell's functional form names; None chooses by the data.

    Raises:
        ValueError, TypeError: for an argument out of its range or of the wrong type.
    """

    cell: str
    n_gates: int
    state_names: tuple[str, ...]
    gate_names: tuple[str, ...]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str | None = None,
    ):
        super().__init__()
        # The stack level of the code that makes the module: above this constructor, and the cell's if it has one.
        level = 3 if type(self).__init__ is RecurrentStack.__init__ else 4
        check_arguments(input_size, hidden_size, num_layers, bias, batch_first, dropout, level)
        if proj_size != 0:
            raise ValueError(f"proj_size: expected 0, got {proj_size}; torch.nn.LSTM has projections, this has none")
        if backend not in (None, *BACKENDS):
            raise ValueError(f"backend: expected None or one of {', '.join(BACKENDS)}, got {backend!r}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = 0
        self.backend = backend

        rows = self.n_gates * hidden_size
        # torch.nn's name: code that sets the biases of forget gates iterates over these names.
        self._all_weights: list[list[str]] = []
        for k in range(num_layers * self.directions):
            layer, direction = divmod(k, self.directions)
            width = input_size if layer == 0 else hidden_size * self.directions
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            for name, shape in shapes.items():
                setattr(self, name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            self._all_weights.append([name + suffix for name in shapes])
        self.reset_parameters()

    @property
    def directions(self) -> int:
        """D, the directions in which each layer runs."""
        return 2 if self.bidirectional else 1

    @property
    def mode(self) -> str:
        """torch.nn's name of the cell."""
        return self.cell.upper()

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer and direction: weight_ih, weight_hh and, with bias, bias_ih, bias_hh."""
        return self.read_weights()

    @property
    def _flat_weights_names(self) -> list[str]:
        """All names of `_all_weights`, also torch.nn's: code that initialises weights iterates over it."""
        return [name for names in self._all_weights for name in names]

    def read_weights(self) -> list[list[nn.Parameter]]:
        """Return `all_weights`; if a weight is missing, the error names it and not the property that asked for it."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), in the order and from the generator of torch.nn."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing, for code written for torch.nn: the kernels read the parameters where they are."""

    def extra_repr(self) -> str:
        shown = [str(self.input_size), str(self.hidden_size)]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        shown += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(shown)

    def layer(
        self, x: Tensor, states: States, weights: Weights, reset: Tensor | None, capture: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Run one layer in one direction.

        Args:
            x: [T, B, I].
            states: the initial states [B, H], one for each of `state_names`.
            weights: w_ih [G*H, I], w_hh [G*H, H] and two biases [G*H] or None.
            reset: [T, B] bool or None.
            capture: what the caller wants; only "gates" matters here.

        Returns:
            Every state of every step by name, [T, B, H], and "gates" [T, B, G, H] if asked for.
        """
        raise NotImplementedError

    @property
    def option(self) -> str:
        """The variant of the cell, as `gatescope.kernels.wavefront` names it."""
        return ""

    def preactivations(self, x: Tensor, before: Tensor, weights: Weights) -> Tensor:
        """The arguments of a layer's activations, [T, B, G, H].

        Args:
            x: [T, B, I].
            before: h before every step, [T, B, H].
            weights: as in `layer`.
        """
        raise NotImplementedError

    def named(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The outputs of the cell's operator for a layer, by the names of states and "gates"."""
        raise NotImplementedError

    def handed_over(self, batch: Batch) -> tuple[Tensor, States] | None:
        """Run all layers by another library's operator, if only the output is needed and that operator is faster.

        Returns:
            The output ([T, B, D*H], or the data of a PackedSequence) and the final states; None if there is no such
            operator.
        """
        return None

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | States | None = None,
        capture: Sequence[str] | None = (),
        reset: Tensor | None = None,
    ) -> Any:
        """Run the network over a sequence.

        Args:
            input: [T, B, I] ([B, T, I] with batch_first), [T, I] for one sequence, or a PackedSequence.
            hx: initial h [L*D, B, H] ([L*D, H] for one sequence), for an LSTM the pair (h, c); zero by default.
            capture: which of "h", "c", "gates", "preactivations" to return for every layer and step, none by default:
                gates after their activation, preactivations before it. Preactivations are computed from the captured h
                after the loop, in one further product over all steps (the GRU's in two or three).
            reset: [T, B] bool ([T] for one sequence), time-first: a new sequence begins at step t where it is true. The
                state is zero before step t (in the reverse direction before step t - 1, which follows t there) and no
                gradient crosses.

        Returns:
            (y, state) as in torch.nn, and with capture (y, state, states): states is a dict from each name to
            [L*D, T, B, H], gates and preactivations [L*D, T, B, G, H]. All of them carry gradients. With one layer in
            one direction, h, c and gates share the storage that backward reads, and h shares that of y: changing one in
            place changes the other. Copies are made if there are several layers or directions, to join them in one
            array (each layer hands its states to autograd separately, so that a gradient of the topmost does not pass
            through all); in 16-bit dtypes of c, and on the CPU of gates, which backward reads in float32; and of packed
            sequences, to clear their padding.

        Raises:
            ValueError: for wrong shapes, types or names, saying what was expected and what was given.
        """
        capture = check_capture(self.cell, capture, self._known())
        if self.training:
            check_dropout(self.dropout)
        batch = enter(self, input, hx, reset)
        result = None
        if not capture and reset is None and self.backend is None:
            result = self.handed_over(batch)
        y, final, captured = (*result, {}) if result is not None else self._run(batch, capture)
        output: Tensor | PackedSequence = y
        if batch.packed is not None:
            output = PackedSequence(y, *batch.packed[1:])
        elif batch.unbatched:
            output, final = y.squeeze(1), tuple(s.squeeze(1) for s in final)
            captured = {name: steps.squeeze(2) for name, steps in captured.items()}
        elif self.batch_first:
            output = y.transpose(0, 1)
        elif result is None and y.requires_grad:
            # The final state was taken from y; only of a view is the gradient that of the output alone.
            output = y.view_as(y)
        state = final if len(self.state_names) > 1 else final[0]
        return (output, state, captured) if capture else (output, state)

    def _run(self, batch: Batch, capture: tuple[str, ...]) -> tuple[Tensor, States, dict[str, Tensor]]:
        """Run layer after layer, each in its directions; return the output, the final states and the captures."""
        y, lengths, reset = batch.x, None, batch.reset
        if batch.packed is not None:
            y, lengths = pad_packed_sequence(batch.packed)
            lengths = lengths.to(y.device)
            reset = cleared_padding(y.shape[0], reset, lengths)
        turns: tuple[Reversal | None, ...] = (None,)
        if self.bidirectional:
            turns = (None, Reversal(y.shape[0], batch.reset, lengths))
        if self._runs_as_wavefront(batch):
            return self._run_wavefront(y, batch, reset, lengths, capture)
        captured: dict[str, list[Tensor]] = {name: [] for name in capture}
        final: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer > 0:
                y = dropout(y, self.dropout, self.training, layer - 1)
            outputs = []
            for turn in turns:
                k = len(final)
                states = tuple(s[k] for s in batch.states)
                below, clear = (y, reset) if turn is None else (turn.flip(y), turn.reset)
                weights = with_biases(batch.weights[k])
                steps = self.layer(below, states, weights, clear, capture)
                if "preactivations" in capture:
                    steps["preactivations"] = self._before_activations(below, steps["h"], states[0], weights, clear)
                final.append(tuple(last(steps[name], lengths) for name in self.state_names))
                if turn is not None:
                    steps = {name: turn.flip(steps[name]) for name in dict.fromkeys(("h", *capture))}
                outputs.append(steps["h"])
                for name in capture:
                    captured[name].append(steps[name])
            y = torch.cat(outputs, dim=2) if self.bidirectional else outputs[0]
        if batch.packed is not None:
            y = pack(y, batch.packed)
        states = tuple(torch.stack(ends) for ends in zip(*final, strict=True))
        return y, states, {name: stacked(steps, lengths) for name, steps in captured.items()}

    def _runs_as_wavefront(self, batch: Batch) -> bool:
        one_way = self.num_layers > 1 and not self.bidirectional
        return one_way and self.dropout < 1 and choose_backend(self.backend, *batch.tensors) == "triton"

    def _run_wavefront(
        self, x: Tensor, batch: Batch, reset: Tensor | None, lengths: Tensor | None, capture: tuple[str, ...]
    ) -> tuple[Tensor, States, dict[str, Tensor]]:
        """Run all layers in one operator; returns what `_run` does."""
        weights = [weight for each in batch.weights for weight in each]
        seeds = [draw_seed(x.device) for _ in range(self.num_layers - 1)] if self.training and self.dropout else []
        given = (x, batch.states, weights, reset, seeds, self.dropout, "gates" in capture)
        layers = [self.named(each) for each in wavefront.wavefront(self.cell.lower(), self.option, *given)]
        y = below = x
        for k, steps in enumerate(layers):
            y = steps["h"]
            if "preactivations" in capture:
                own = with_biases(batch.weights[k])
                steps["preactivations"] = self._before_activations(below, y, batch.states[0][k], own, reset)
                below = drop_again(y, seeds[k], self.dropout, k) if k < len(seeds) else y
        final = tuple(torch.stack([last(steps[name], lengths) for steps in layers]) for name in self.state_names)
        captured = {name: stacked([steps[name] for steps in layers], lengths) for name in capture}
        return y if batch.packed is None else pack(y, batch.packed), final, captured

    def _before_activations(self, x: Tensor, h: Tensor, h0: Tensor, weights: Weights, reset: Tensor | None) -> Tensor:
        """The arguments of the activations of a layer in one direction, [T, B, G, H]."""
        before = entering(h0.to(h.dtype), h, reset)
        # Under autocast they may have another 16-bit dtype, with which torch does not promote.
        own = with_biases([w.to(torch.promote_types(w.dtype, h.dtype)) for w in weights if w is not None])
        return self.preactivations(x.to(h.dtype), before, own).to(h.dtype)

    def _known(self) -> tuple[str, ...]:
        """What can be captured."""
        return (*self.state_names, *(("gates", "preactivations") if self.gate_names else ()))
