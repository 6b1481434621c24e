"""A group with keys that makes encrypted sums, with nodes falling silent where a test says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tenseal")

from daafl.secure import Identity, Roster
from daafl.secure.he import (
    EncryptedSum,
    EpochTerms,
    HeldKey,
    Inputs,
    KeyAdvertisements,
    KeyGroup,
    KeyMember,
    Packing,
    Selection,
    SumNode,
    SumTerms,
)

Words = npt.NDArray[np.uint32]
PHASES = ("advertise", "deal", "accept", "encrypt", "confirm", "decrypt")
WIDE = 2


@dataclass
class Group:
    """``silent`` names who stops answering from a phase on."""

    count: int
    length: int = 40
    silent: Mapping[str, set[int]] = field(default_factory=dict)
    hidden: tuple[tuple[int, int], ...] = ()
    num_decryptors: int = 1
    min_nodes: int = 2

    def __post_init__(self) -> None:
        self.identities = {node: Identity.new() for node in range(self.count)}
        keys = {node: identity.public for node, identity in self.identities.items()}
        self.roster = Roster("test", 1, Identity.new().public, keys)
        self.epoch = EpochTerms(self.roster, "main", 7)
        self.members = {
            n: KeyMember.new(self.epoch, n, identity) for n, identity in self.identities.items()
        }
        self.packing = Packing(self.count, num_wide=WIDE)
        rng = np.random.default_rng(1)
        self.inputs = {}
        for n in range(self.count):
            wide = rng.integers(0, (2**32 - 1) // self.count, WIDE, np.uint32, endpoint=True)
            rest = rng.integers(
                0, self.packing.levels, self.length - WIDE, np.uint32, endpoint=True
            )
            self.inputs[n] = np.concatenate([wide, rest])
        self.transcript: list[Any] = []
        self.held: dict[int, HeldKey] = {}
        self.nodes: dict[int, SumNode] = {}

    def is_alive(self, node: int, phase: str) -> bool:
        return all(node not in self.silent.get(p, ()) for p in PHASES[: PHASES.index(phase) + 1])

    def seen(self, message: Any) -> Any:
        """Return a message after it went over the wire."""
        self.transcript.append(message)
        return type(message).from_dict(message.to_dict())

    def dealt(self) -> KeyGroup:
        phase = KeyAdvertisements(self.epoch)
        for n, member in self.members.items():
            if self.is_alive(n, "advertise"):
                phase.receive(self.seen(member.advertisement()))
        dealing, cohort = phase.close()
        while not dealing.is_dealt:
            ((dealer, message),) = cohort.items()
            if self.is_alive(dealer, "deal"):
                dealing.receive(self.seen(self.members[dealer].deal(self.seen(message))))
            else:
                dealing, cohort = dealing.without_dealer()
        group, boxes = dealing.close()
        for n, box in boxes.items():
            if self.is_alive(n, "accept"):
                self.held[n] = self.members[n].accept(self.seen(box))
        return group

    def terms(self, group: KeyGroup, **changed: Any) -> SumTerms:
        selection = Selection(self.length, self.hidden or ((0, self.length),))
        values = {
            "round": 3,
            "attempt": 1,
            "model_hash": b"m" * 32,
            "plan_hash": b"p" * 32,
            "selection": selection,
            "packing": self.packing,
            "min_nodes": self.min_nodes,
        }
        return SumTerms(group, **{**values, **changed})

    def encrypted(self, **changed: Any) -> Inputs:
        terms = self.terms(self.dealt(), **changed)
        phase = Inputs(terms, num_decryptors=self.num_decryptors)
        for n in terms.group.members:
            if self.is_alive(n, "encrypt"):
                self.nodes[n] = SumNode(terms, n, self.identities[n], self.held[n])
                phase.receive(self.seen(self.nodes[n].encrypt(self.inputs[n])))
        return phase

    def confirmed(self) -> Any:
        confirming, listed = self.encrypted().close()
        for n in listed.nodes:
            if self.is_alive(n, "confirm"):
                confirming.receive(self.seen(self.nodes[n].confirm(self.seen(listed))))
        return confirming.close()

    def run(self) -> EncryptedSum:
        phase = self.confirmed()
        while not phase.is_complete:
            for n in phase.ask():
                if self.is_alive(n, "decrypt"):
                    phase.receive(self.seen(self.nodes[n].decrypt(self.seen(phase.message))))
        return phase.close()

    def sum_of(self, nodes: tuple[int, ...]) -> Words:
        return np.sum([self.inputs[n] for n in nodes], axis=0, dtype=np.uint32)


@pytest.fixture
def group() -> Callable[..., Group]:
    """Return the class, since test modules cannot import from each other."""
    return Group
