"""Answers that break the protocol itself: a federation must refuse them and go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from daafl.errors import ConfigError
from daafl.learning.layout import Vector
from daafl.messages import ARRAYS, ENVELOPE, PACKED
from daafl.simulation.attacks.behaviour import Behaviour, Poison, Scene, answer_with

_KEPT: Final = "attack."  # prefix of an attacker's own records in its node's memory


@dataclass(frozen=True)
class NotFinite(Poison):
    """Sends a model with NaN or infinity in it.

    Parameters
    ----------
    value
        What is put in: NaN or an infinity.
    share
        Share of the values that are replaced, at least one.
    """

    value: float = math.nan
    share: float = 0.01

    def __post_init__(self) -> None:
        """Check the values."""
        if math.isfinite(self.value):
            raise ConfigError(f"value is {self.value}, but must be nan, inf or -inf")
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"share is {self.share}, but must be more than 0 and at most 1")

    def delta(self, scene: Scene) -> Vector:
        """Return the honest update with some values replaced."""
        delta = scene.honest().copy()
        count = max(1, round(self.share * delta.size))
        delta[scene.own_rng().choice(delta.size, count, replace=False)] = self.value
        return delta


@dataclass(frozen=True)
class WrongShape(Behaviour):
    """Sends a model that lacks its last byte, or has its bytes as a matrix of one row.

    Parameters
    ----------
    is_short
        Whether it is too short; else it has the right size in another shape.
    """

    is_short: bool = True

    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return the reply with the misshapen model."""
        packed = scene.base
        shaped = packed[:-1] if self.is_short else packed.reshape(1, -1)
        return answer_with(honest, shaped.copy())


@dataclass(frozen=True)
class Oversized(Behaviour):
    """Sends far more than a model, or says it does.

    Parameters
    ----------
    factor
        Size of what is sent, in models; 2 or more.
    only_claims
        Whether the size stands in the array's description alone, over the data of one model.
    """

    factor: int = 16
    only_claims: bool = False

    def __post_init__(self) -> None:
        """Check the factor."""
        if self.factor < 2:
            raise ConfigError(f"factor is {self.factor}, but must be 2 or more")

    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return the reply with the oversized model."""
        if not self.only_claims:
            return answer_with(honest, np.tile(scene.base, self.factor))
        true = Array(scene.base)
        claimed = Array(true.dtype, (self.factor * scene.base.size,), true.stype, true.data)
        return RecordDict({**honest, ARRAYS: ArrayRecord({PACKED: claimed})})


@dataclass(frozen=True)
class Replayed(Behaviour):
    """Sends its first reply again and again: an update for a model that is long gone."""

    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return the reply that was kept; the first one is honest, and is kept."""
        kept = {
            key.removeprefix(_KEPT): record
            for key, record in scene.memory.items()
            if key.startswith(_KEPT)
        }
        if kept:
            return RecordDict(kept)
        for key, record in honest.items():
            scene.memory[_KEPT + key] = record
        return honest


@dataclass(frozen=True)
class Duplicated(Behaviour):
    """Sends the same work under the same number each time, relabelled for the model in question."""

    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return the first reply, its envelope changed to speak of the present version."""
        first = Replayed().content(scene, honest)
        envelope, present = first.get(ENVELOPE), honest.get(ENVELOPE)
        if not isinstance(envelope, ConfigRecord) or not isinstance(present, ConfigRecord):
            return honest
        renewed = ConfigRecord({**present, "sequence": envelope["sequence"]})
        return RecordDict({**first, ENVELOPE: renewed})
