"""How the proof of a norm bound goes into a masked sum: experimental, see `docs/norm-proof.md`.

A node's words are then its header, its quantised update and the randomness of its commitments, all
under one mask. It commits before the coordinator draws the seed of the test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from daafl.errors import ConfigError
from daafl.secure.encoding import encoded
from daafl.secure.header import HEADER_SLOTS
from daafl.secure.proof import (
    Claim,
    Commitment,
    Committed,
    Context,
    Statement,
    centred,
    claim_for,
    commit,
    prove,
)
from daafl.secure.proof.binding import num_words, randomness_in, words_of
from daafl.secure.proof.commitments import cut
from daafl.secure.proof.sampling import fresh_secret, sampled
from daafl.secure.quantisation import Quantiser, Reals, Words
from daafl.secure.settings import MaskedSums
from daafl.secure.shortening import shortened
from daafl.secure.terms import Group


@dataclass(frozen=True)
class NormBound:
    """What the nodes of a federation prove about their updates.

    Parameters
    ----------
    settings
        With a ``norm_bound``.
    dimension
        Values of an update.

    Raises
    ------
    ConfigError
        If the settings have no norm bound, or it is out of range for so many values.
    """

    settings: MaskedSums
    dimension: int

    def __post_init__(self) -> None:
        """Refuse what nobody can prove."""
        if self.settings.norm_bound is None:
            raise ConfigError("these settings have no norm_bound: there is nothing to prove")
        _ = self.claim

    @property
    def bound(self) -> float:
        """Largest norm, in real units."""
        return self.settings.norm_bound or 0.0

    @cached_property
    def claim(self) -> Claim:
        """What is proved; the step of the quantiser does not depend on the number of nodes."""
        settings = self.settings
        return claim_for(
            self.bound,
            settings.quantiser(1),
            self.dimension,
            projections=settings.norm_projections,
        )

    @property
    def num_words(self) -> int:
        """Words of a vector: header, update and randomness."""
        return HEADER_SLOTS + self.dimension + num_words(self.claim)

    def statement(self, group: Group, node: int) -> Statement:
        """Return what a node proves in a session."""
        terms = group.terms
        context = Context(
            federation=terms.roster.federation,
            roster=terms.roster.digest,
            session=group.session,
            model=terms.model_hash,
            round=terms.round,
            node=node,
        )
        return Statement(self.claim, context)

    def clipped(self, delta: Reals) -> tuple[Reals, bool]:
        """Return an update within the bound, and whether it was within it before."""
        norm = float(np.linalg.norm(delta.astype(np.float64)))
        return shortened(delta, norm=norm, bound=self.bound)

    def committed(
        self, words: Words, quantiser: Quantiser, group: Group, node: int
    ) -> tuple[bytes, Words]:
        """Return a commitment to a node's quantised update, and the words with its randomness.

        Parameters
        ----------
        words
            Header and update.
        quantiser
            As the group has it.
        """
        values = centred(words[HEADER_SLOTS:], quantiser)
        made = commit(values, self.statement(group, node))
        words = np.concatenate([words, words_of(made.randomness)])
        return made.commitment.to_bytes(), words

    def proof(
        self, words: Words, commitment: bytes, quantiser: Quantiser, group: Group, node: int,
        *, seed: bytes,
    ) -> bytes:  # fmt: skip
        """Return the proof for a commitment that was made before the seed was known.

        Parameters
        ----------
        words
            From `committed`, randomness included.
        commitment
            As it was sent.
        seed
            The coordinator's.
        """
        end = HEADER_SLOTS + self.dimension
        made = Committed(
            statement=self.statement(group, node),
            commitment=Commitment.from_bytes(commitment, self.claim),
            rows=cut(centred(words[HEADER_SLOTS:end], quantiser), self.claim),
            randomness=randomness_in(words[end:], self.claim),
        )
        return prove(made, seed).to_bytes()

    def contexts(self, group: Group) -> dict[int, Context]:
        """Return what the proof of each member of a group is good for."""
        return {node: self.statement(group, node).context for node in group.members}

    def parts(self, words: Words) -> tuple[Words, Words]:
        """Return the update's words and those of the randomness, without the header."""
        end = HEADER_SLOTS + self.dimension
        return words[HEADER_SLOTS:end], words[end:]


def signed_commitment(group: Group, node: int, commitment: bytes) -> bytes:
    """Return what a node signs under its commitment."""
    return encoded("norm commitment", group.session, node, commitment)


def drawn(nodes: Iterable[int], share: float) -> frozenset[int]:
    """Return the nodes whose proofs are verified: a secret draw, so that nobody knows before.

    Parameters
    ----------
    nodes
        Those that committed.
    share
        In (0, 1]; at least one node is drawn.
    """
    listed = tuple(nodes)
    return frozenset(sampled(listed, max(1, round(share * len(listed))), fresh_secret()))
