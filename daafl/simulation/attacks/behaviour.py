"""What an attacker can do with an answer, and what it knows when it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from daafl.learning.examples import Examples
from daafl.learning.layout import Packed, Vector
from daafl.messages import ARRAYS, PACKED, Assignment
from daafl.simulation.attacks.rehearsal import Rehearsal, stacked

_OWN_STREAM: Final = 0xA77AC  # keeps an attacker's draws apart from those of its training
_SHARED_STREAM: Final = 0xA77AD

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Scene:
    """What an attacker knows when it answers an assignment.

    Parameters
    ----------
    node
        Its own logical id: its partition.
    attackers
        All attackers, ascending; they work together.
    num_nodes
        Nodes in the federation.
    elapsed
        Rounds since the attack began, from 0.
    assignment, base
        What it was asked to do, and the model it was sent.
    rehearsal
        Trains as any of the attackers would.
    memory
        What the node remembers from message to message; may be written to.
    trained
        The model that honest work has led to; ``None`` if that has not been done yet.
    time_s
        The virtual time.
    """

    node: int
    attackers: tuple[int, ...]
    num_nodes: int
    elapsed: int
    assignment: Assignment
    base: Packed
    rehearsal: Rehearsal
    memory: RecordDict
    trained: Packed | None = None
    time_s: float = 0.0

    @property
    def base_vector(self) -> Vector:
        """The model that was sent, as a vector."""
        return self.rehearsal.layout.vector(self.base)

    def own_rng(self) -> np.random.Generator:
        """Return a generator that differs between attackers."""
        asked = self.assignment
        return np.random.default_rng(
            [asked.seed, self.node, asked.version, asked.draw, _OWN_STREAM]
        )

    def shared_rng(self) -> np.random.Generator:
        """Return a generator that all attackers have alike."""
        asked = self.assignment
        return np.random.default_rng([asked.seed, asked.version, asked.draw, _SHARED_STREAM])

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what all attackers compute alike, computed once; see `Rehearsal.once`."""
        return self.rehearsal.once(what, self.base, self.assignment, make, self.time_s)

    def honest(self) -> Vector:
        """Return the update that this node would send if it were honest."""
        if self.trained is None:
            return self.rehearsal.honest(self.node, self.base, self.assignment, self.time_s)
        return self.rehearsal.layout.vector(self.trained) - self.base_vector

    def colluders(self) -> Vector:
        """Return the honest updates of all attackers, one per row: ``[attackers, parameters]``."""
        return self.once(
            "colluders",
            lambda: stacked(
                [
                    self.rehearsal.honest(node, self.base, self.assignment, self.time_s)
                    for node in self.attackers
                ]
            ),
        )

    def trained_on(self, alter: Callable[[Examples], Examples]) -> Vector:
        """Return the update from training on this node's examples after altering them."""
        examples = alter(self.rehearsal.examples(self.node, self.time_s))
        return self.rehearsal.trained(self.node, self.base, self.assignment, examples)

    def seen_by(self, node: int) -> Scene:
        """Return the scene of another attacker that was asked the same."""
        return replace(self, node=node, trained=None)


class Behaviour(ABC):
    """What attackers do when they are asked to train.

    Examples
    --------
    Answers as if there were nothing to learn, complete:

    >>> class Idle(Behaviour):
    ...     def content(self, scene, honest):
    ...         return answer_with(honest, scene.base)
    """

    @abstractmethod
    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return what is sent in place of an honest reply, which stays as it is."""

    def strikes(self, elapsed: int) -> bool:
        """Return whether attackers do anything in a round; they are honest if not.

        Parameters
        ----------
        elapsed
            Rounds since the attack began, from 0.
        """
        return True


class Poison(Behaviour):
    """A behaviour that sends another update in an answer that is honest otherwise."""

    @abstractmethod
    def delta(self, scene: Scene) -> Vector:
        """Return the update to send: trained minus sent weights."""

    def content(self, scene: Scene, honest: RecordDict) -> RecordDict:
        """Return the reply with the model that `delta` leads to."""
        with np.errstate(over="ignore", invalid="ignore"):
            vector = (scene.base_vector + self.delta(scene)).astype(scene.base_vector.dtype)
        return answer_with(honest, scene.rehearsal.layout.packed(vector))


def answer_with(honest: RecordDict, packed: Packed) -> RecordDict:
    """Return a reply that carries another packed model."""
    return RecordDict({**honest, ARRAYS: ArrayRecord({PACKED: Array(packed)})})
