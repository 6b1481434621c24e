"""The next character of a text, with a small transformer."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from daafl.data.partition import Dirichlet, Partitioner
from daafl.errors import ConfigError
from daafl.learning.examples import Examples
from daafl.learning.splitting import EVALUATION_FRACTION
from daafl.learning.task import Task
from daafl.learning.tasks.stories import ALPHABET, story

CONTEXT = 32
"""Characters that the model sees at once."""

STRIDE = 16
"""Characters from the start of one example to the start of the next."""

NUM_HEADS = 2


@dataclass(frozen=True)
class NextCharacter(Task):
    """Stories by several authors; an example is 32 characters and, for each, the one after it.

    Partitioners split by author (`Examples.groups`), so label skew gives nodes few authors. The
    last fifth of each author's text is for evaluation.

    Attributes
    ----------
    partitioner
        How the training examples are divided among nodes.
    num_authors
        Authors.
    characters_per_author
        Length of each author's text; at the defaults all have 60,000 characters.
    width
        Width of the transformer; a multiple of 2, its number of heads.
    num_layers
        Layers of the transformer.
    seed
        Seed of the texts.
    """

    name: ClassVar[str] = "next-character"

    partitioner: Partitioner = field(default=Dirichlet(0.3))
    num_authors: int = 10
    characters_per_author: int = 6000
    width: int = 32
    num_layers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        limits = {"num_authors": 1, "characters_per_author": 500, "width": 2, "num_layers": 1}
        for key, low in limits.items():
            value = getattr(self, key)
            if value < low:
                raise ConfigError(
                    f"task next-character has {key}={value}; it must be at least {low}"
                )
        if self.width % NUM_HEADS:
            raise ConfigError(
                f"task next-character has width={self.width}; it must be a multiple of {NUM_HEADS}"
            )

    def model(self) -> nn.Module:
        """Return a new transformer."""
        return CharacterTransformer(len(ALPHABET), self.width, self.num_layers)

    def training(self) -> Examples:
        """Return windows over the first four fifths of each text."""
        return self._windows(0.0, 1.0 - EVALUATION_FRACTION)

    def evaluation(self) -> Examples:
        """Return windows over the last fifth of each text."""
        return self._windows(1.0 - EVALUATION_FRACTION, 1.0)

    def _windows(self, first_fraction: float, last_fraction: float) -> Examples:
        start, stop = (
            round(f * self.characters_per_author) for f in (first_fraction, last_fraction)
        )
        codes = {character: code for code, character in enumerate(ALPHABET)}
        windows = []
        for author in range(self.num_authors):
            text = story(author, self.characters_per_author, seed=self.seed)[start:stop]
            numbers = np.array([codes[character] for character in text])
            view = np.lib.stride_tricks.sliding_window_view(numbers, CONTEXT + 1)
            windows.append(view[::STRIDE])
        authors = np.repeat(np.arange(self.num_authors), [len(part) for part in windows])
        joined = np.concatenate(windows)
        return Examples(joined[:, :-1].copy(), joined[:, 1:].copy(), authors)


class CharacterTransformer(nn.Module):
    """Logits for the character after each position, from the characters up to it.

    Layers normalise before attention and before the perceptron (Xiong et al. 2020), which lets
    plain gradient descent train them.
    """

    def __init__(self, num_characters: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(num_characters, width)
        self.positions = nn.Parameter(0.1 * torch.randn(CONTEXT, width))
        self.layers = nn.Sequential(*(_Layer(width) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_characters)

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits ``[examples, positions, characters]`` of ``[examples, positions]``."""
        hidden = self.characters(codes) + self.positions[: codes.shape[1]]
        logits: Tensor = self.head(self.norm(self.layers(hidden)))
        return logits


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width)
        self.mixing = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        num_examples, length, width = hidden.shape
        heads = self.projection(self.norm_attention(hidden))
        heads = heads.view(num_examples, length, 3, NUM_HEADS, width // NUM_HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.mixing(seen.transpose(1, 2).flatten(2))
        out: Tensor = hidden + self.perceptron(hidden)
        return out
