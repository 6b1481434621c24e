"""Small federations with keys, and a session driven from end to end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from daafl.secure import Advertisements, Identity, MaskedSum, Node, Policy, Roster, Terms
from daafl.secure.messages import Confirmations, Delivery, Survivors

Words = npt.NDArray[np.uint32]
PHASES = ("share", "mask", "confirm", "reveal")


@dataclass
class Session:
    """A federation in one masked sum; ``silent`` names who stops answering from a phase on."""

    count: int
    policy: Policy
    length: int = 5
    silent: Mapping[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identities = {node: Identity.new() for node in range(self.count)}
        keys = {node: identity.public for node, identity in self.identities.items()}
        self.roster = Roster("test", 1, Identity.new().public, keys)
        self.terms = Terms(
            self.roster, "main", 3, 0, b"m" * 32, b"p" * 32, self.length, self.policy
        )
        self.nodes = {n: Node(self.terms, n, key) for n, key in self.identities.items()}
        rng = np.random.default_rng(1)
        self.inputs = {
            n: rng.integers(0, 2**32, self.length, dtype=np.uint32) for n in range(self.count)
        }
        self.transcript: list[object] = []

    def alive(self, phase: str) -> list[int]:
        gone = set().union(
            *(self.silent.get(p, set()) for p in ("keys", *PHASES[: PHASES.index(phase) + 1]))
        )
        return [n for n in self.nodes if n not in gone]

    def seen(self, message: object) -> object:
        self.transcript.append(message)
        return message

    def shares(self) -> tuple[object, object]:
        phase = Advertisements(self.terms)
        for n, node in self.nodes.items():
            if n not in self.silent.get("keys", set()):
                phase.receive(node.advertisement)
                self.seen(node.advertisement)
        return phase.close()

    def inputs_phase(self) -> tuple[object, dict[int, Delivery]]:
        phase, cohort = self.shares()
        for n in self.alive("share"):
            phase.receive(self.seen(self.nodes[n].share(cohort)))
        return phase.close()

    def confirming(self) -> tuple[object, dict[int, Survivors]]:
        phase, deliveries = self.inputs_phase()
        for n in self.alive("mask"):
            phase.receive(self.seen(self.nodes[n].mask(deliveries[n], self.inputs[n])))
        return phase.close()

    def revealing(self) -> tuple[object, Confirmations]:
        phase, lists = self.confirming()
        for n in self.alive("confirm"):
            phase.receive(self.seen(self.nodes[n].confirm(lists[n])))
        return phase.close()

    def run(self) -> MaskedSum:
        phase, confirmations = self.revealing()
        for n in self.alive("reveal"):
            phase.receive(self.seen(self.nodes[n].reveal(confirmations)))
        return phase.close()

    def sum_of(self, nodes: tuple[int, ...]) -> Words:
        return np.sum([self.inputs[n] for n in nodes], axis=0, dtype=np.uint32)


@pytest.fixture
def session() -> Callable[..., Session]:
    """Return the class, since test modules cannot import from each other."""
    return Session
