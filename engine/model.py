"""The character language model: characters in, L recurrent layers, logits of the next character out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from torch import Tensor, nn

from gatescope.engine.config_values import require_values
from gatescope.engine.errors import InputError
from gatescope.kernels.dropout import dropout
from gatescope.kernels.gru import GRU
from gatescope.kernels.lstm import LSTM
from gatescope.kernels.rnn import RNN
from gatescope.kernels.stack import RecurrentStack

CELLS: dict[str, type[RecurrentStack]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


@dataclass(frozen=True)
class Architecture:
    """What a model is made of."""

    cell: Annotated[Literal["lstm", "gru", "rnn"], tyro.conf.arg(prefix_name=False)] = "lstm"  # kind of layer
    hidden: int = 128  # H, units in each layer
    layers: int = 1  # L, one on top of the other
    embedding: int = 0  # width of the character embedding; 0 feeds the one-hot character
    dropout: float = 0.0  # share of units dropped, between layers and before the output
    reset_after: bool = True  # gru only: apply the reset gate after the matrix product, as cuDNN; the paper: before
    nonlinearity: Literal["tanh", "relu"] = "tanh"  # rnn only

    def __post_init__(self) -> None:
        require_values(self)
        for name in ("hidden", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)} is too small: expected at least 1")
        # Whether there is memory for a model is asked of one that has none, whose bytes torch counts in 64 bits.
        for name, most in (("hidden", 10**6), ("layers", 1_000), ("embedding", 10**11)):
            if getattr(self, name) > most:
                raise InputError(f"--{name} {getattr(self, name)} is too large: expected at most {most:,}")
        if self.embedding < 0:
            raise InputError(f"--embedding {self.embedding} is negative: expected a width, or 0 for one-hot")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--dropout {self.dropout} is out of range: expected 0 <= dropout < 1")

    @property
    def gates(self) -> tuple[str, ...]:
        """The cell's gates in the order of its weights."""
        return CELLS[self.cell].gate_names

    @property
    def states(self) -> tuple[str, ...]:
        """The cell's recurrent states."""
        return CELLS[self.cell].state_names

    @property
    def variant(self) -> dict[str, Any]:
        """The arguments that only this cell's class takes."""
        own = {"gru": ("reset_after",), "rnn": ("nonlinearity",)}.get(self.cell, ())
        return {name: getattr(self, name) for name in own}


class CharacterModel(nn.Module):
    """A recurrent language model over characters.

    `logits_t = W_out h_t + b_out`, h_t of the topmost layer after reading character t; every parameter starts from
    U(-0.08, 0.08) (van der Ouderaa; Karpathy, Johnson & Fei-Fei 2016).

    Args:
        architecture: cell, sizes, dropout.
        n_characters: V, the size of the vocabulary.
    """

    def __init__(self, architecture: Architecture, n_characters: int):
        super().__init__()
        self.architecture = architecture
        self.n_characters = n_characters
        self.embedding = nn.Embedding(n_characters, architecture.embedding) if architecture.embedding else None
        width = architecture.embedding or n_characters
        hidden, layers = architecture.hidden, architecture.layers
        self.rnn: nn.Module = CELLS[architecture.cell](
            width, hidden, layers, dropout=architecture.dropout if layers > 1 else 0.0, **architecture.variant
        )
        self.output = nn.Linear(architecture.hidden, n_characters)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.08, 0.08)

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read characters and predict each next one.

        Args:
            tokens: ids int64 [T, B].
            state: the recurrent states before, each [L, B, H]: (h, c) for lstm, (h,) otherwise.

        Returns:
            logits [T, B, V] and the states after, in the form of `state`.
        """
        y, after = self.rnn(self.inputs(tokens), state if len(state) > 1 else state[0])
        y = dropout(y, self.architecture.dropout, self.training, self.architecture.layers)
        return self.output(y), after if isinstance(after, tuple) else (after,)

    def inputs(self, tokens: Tensor) -> Tensor:
        """Return what the first layer reads of characters: their embedding, or one-hot vectors [..., I]."""
        if self.embedding is None:
            return nn.functional.one_hot(tokens, self.n_characters).to(self.output.weight.dtype)
        return self.embedding(tokens)

    def zero_state(self, batch: int) -> tuple[Tensor, ...]:
        """Return the states before any character, each [L, B, H]."""
        shape = (self.architecture.layers, batch, self.architecture.hidden)
        return tuple(self.output.weight.new_zeros(shape) for _ in self.architecture.states)

    @property
    def n_parameters(self) -> int:
        """How many numbers training fits."""
        return sum(parameter.numel() for parameter in self.parameters())
