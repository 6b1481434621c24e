"""Which proofs a server verifies: those of a random sample, or all of them by several processes.

A sample is drawn from a secret that is fresh and drawn after every commitment has arrived, so that
nobody knows at commitment whether it will be looked at. Whoever is not in the sample is not
verified at all: `missed` says what that risks.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from daafl.errors import ConfigError, MessageError
from daafl.secure.hidden import SEED_BYTES, Secret
from daafl.secure.proof.group import GENERATORS
from daafl.secure.proof.messages import Commitment, Proof
from daafl.secure.proof.statement import Statement
from daafl.secure.proof.verifier import verify


@dataclass(frozen=True)
class Received:
    """What a server holds of one node, as bytes.

    Parameters
    ----------
    statement
        What the node has to prove, from the server's own configuration.
    seed
        The seed the server drew.
    commitment, proof
        What the node sent.
    """

    statement: Statement
    seed: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    proof: bytes = field(repr=False)

    def check(self) -> None:
        """Return if the proof holds.

        Raises
        ------
        MessageError
            As reading and `daafl.secure.proof.verifier.verify` do.
        """
        claim = self.statement.claim
        # The proof first: its scalars are the cheapest thing to be wrong.
        proof = Proof.from_bytes(self.proof, claim)
        verify(Commitment.from_bytes(self.commitment, claim), self.seed, proof, self.statement)


def fresh_secret() -> Secret:
    """Return what a sample is drawn with; to be drawn once all commitments are there."""
    return Secret(secrets.token_bytes(SEED_BYTES))


def sampled(nodes: Iterable[int], count: int, secret: Secret) -> tuple[int, ...]:
    """Return ``count`` of the nodes at random, ascending; all of them if there are no more.

    The draw is a function of the secret, so that it can be shown later to have been fair.

    Raises
    ------
    ConfigError
        If the count is below 1.
    """
    if count < 1:
        raise ConfigError(f"{count} proofs are to be verified; at least 1 must be")
    key = secret.reveal()
    drawn = sorted(set(nodes), key=lambda node: hmac.digest(key, b"sample %d" % node, "sha256"))
    return tuple(sorted(drawn[:count]))


def missed(num_nodes: int, num_cheaters: int, num_verified: int) -> float:
    """Return the probability that a sample holds none of the cheaters.

    Examples
    --------
    >>> round(missed(100, 10, 20), 3)
    0.095
    """
    if not 0 <= num_cheaters <= num_nodes or not 0 <= num_verified <= num_nodes:
        raise ConfigError(
            f"{num_cheaters} cheaters and {num_verified} verified of {num_nodes} nodes"
        )
    honest = math.comb(num_nodes - num_cheaters, num_verified)
    return honest / math.comb(num_nodes, num_verified)


def refused(received: Mapping[int, Received], *, processes: int = 1) -> dict[int, MessageError]:
    """Return the nodes whose proofs do not hold, and why; an empty mapping if all do.

    Parameters
    ----------
    received
        By node.
    processes
        How many verify at once; 1 for this one alone.
    """
    if processes < 2 or len(received) < 2:
        found: Iterable[tuple[str, str] | None] = map(_reason, received.values())
        return _errors(received, found)
    entries = max(one.statement.claim.num_generators for one in received.values())
    with ProcessPoolExecutor(
        min(processes, len(received)),
        mp_context=get_context("spawn"),
        initializer=_adopt,
        initargs=(GENERATORS.exported(entries),),
    ) as pool:
        return _errors(received, pool.map(_reason, received.values()))


def _adopt(exported: bytes) -> None:
    """Make the parent's generators those of this process, which would take a second to hash."""
    GENERATORS.adopt(exported)


def _reason(one: Received) -> tuple[str, str] | None:
    try:
        one.check()
    except MessageError as error:
        return error.reason, error.detail
    return None


def _errors(
    nodes: Iterable[int], found: Iterable[tuple[str, str] | None]
) -> dict[int, MessageError]:
    pairs: Sequence[tuple[int, tuple[str, str] | None]] = list(zip(nodes, found, strict=True))
    return {node: MessageError(*reason) for node, reason in pairs if reason is not None}
