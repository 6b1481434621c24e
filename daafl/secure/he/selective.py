"""Which words of a vector are encrypted, chosen by the names of layers; the rest is in the clear.

What is left out is seen by the server, node by node. Gradients of few layers can be enough to
rebuild examples (Zhu et al. 2019, "Deep leakage from gradients"), so this trades secrecy for speed;
Jin et al. (2023), "FedML-HE", section 3, measure how much which layers give away.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from daafl.errors import ConfigError, DataError
from daafl.secure.quantisation import Words

Row = tuple[str, int, int]
"""Name of a layer, its first position in the flat vector, and the one after its last."""


@dataclass(frozen=True)
class Selection:
    """The parts of a vector that are encrypted.

    Parameters
    ----------
    length
        Words of the whole vector.
    hidden
        First position and the one after the last of each encrypted part, ascending, apart.

    Raises
    ------
    ConfigError
        If the parts overlap, leave the vector, or are none at all.
    """

    length: int
    hidden: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Refuse parts that are not parts of the vector."""
        edges = [edge for part in self.hidden for edge in part]
        if not edges or edges[0] < 0 or edges[-1] > self.length:
            raise ConfigError(f"nothing of {self.length} words would be encrypted, or more than is")
        if any(start >= stop for start, stop in self.hidden) or edges != sorted(edges):
            raise ConfigError("the encrypted parts of a vector are not ascending and apart")

    @classmethod
    def whole(cls, length: int) -> Selection:
        """Return the selection of everything."""
        return cls(length, ((0, length),))

    @classmethod
    def of(cls, rows: Sequence[Row], patterns: Sequence[str], *, num_wide: int = 0) -> Selection:
        """Return the selection of the layers whose name fits a pattern.

        Parameters
        ----------
        rows
            The layers, in order and without gaps.
        patterns
            As a shell has them, such as ``head.*``. Every one must fit some layer.
        num_wide
            Words in front of the first layer, which are always encrypted.

        Examples
        --------
        >>> rows = [("body.weight", 0, 6), ("head.weight", 6, 9)]
        >>> Selection.of(rows, ["head.*"], num_wide=2).hidden
        ((0, 2), (8, 11))
        """
        if [start for _, start, _ in rows] != [0, *(stop for _, _, stop in rows[:-1])]:
            raise ConfigError("the layers to choose from are not in order and without gaps")
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name, _, _ in rows):
                raise ConfigError(f"no layer is called {pattern!r}; see the names of the model")
        parts = [(0, num_wide)] if num_wide else []
        for name, start, stop in rows:
            if start == stop or not any(fnmatchcase(name, pattern) for pattern in patterns):
                continue
            if parts and parts[-1][1] == start + num_wide:
                parts[-1] = (parts[-1][0], stop + num_wide)
            else:
                parts.append((start + num_wide, stop + num_wide))
        return cls((rows[-1][2] if rows else 0) + num_wide, tuple(parts))

    @property
    def num_hidden(self) -> int:
        """Words that are encrypted."""
        return sum(stop - start for start, stop in self.hidden)

    @property
    def num_clear(self) -> int:
        """Words that are not."""
        return self.length - self.num_hidden

    @cached_property
    def _clear(self) -> list[tuple[int, int]]:
        edges = [0, *itertools.chain.from_iterable(self.hidden), self.length]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def split(self, words: Words) -> tuple[Words, Words]:
        """Return the words that are encrypted and those that are not."""
        if words.shape != (self.length,):
            raise DataError(f"{words.size} words to encrypt; there must be {self.length}")
        return _joined(words, self.hidden), _joined(words, self._clear)

    def joined(self, hidden: Words, clear: Words) -> Words:
        """Return the vector that `split` took apart."""
        if hidden.shape != (self.num_hidden,) or clear.shape != (self.num_clear,):
            raise DataError("the parts of a vector do not fit it")
        words = np.empty(self.length, np.uint32)
        for source, parts in ((hidden, self.hidden), (clear, self._clear)):
            place = 0
            for start, stop in parts:
                words[start:stop] = source[place : place + stop - start]
                place += stop - start
        return words


def _joined(words: Words, parts: Sequence[tuple[int, int]]) -> Words:
    if len(parts) == 1:
        return words[parts[0][0] : parts[0][1]]
    return np.concatenate([words[:0], *(words[start:stop] for start, stop in parts)])
