"""A node's part in one encrypted sum, each step of it taken at most once.

::

    node                                     server
    KeyMember.advertisement ---------------> KeyAdvertisements
            <- KeyCohort (dealer only) -----
    KeyMember.deal     -- DealtKeys -------> Dealing
            <- KeyBox ----------------------
    KeyMember.accept
    SumNode.encrypt    -- EncryptedInput --> Inputs
            <- SumList ---------------------
    SumNode.confirm    -- Confirmation ----> Confirming
            <- SumToDecrypt (one or some) --
    SumNode.decrypt    -- DecryptedSum ----> Decrypting -> EncryptedSum

The first half is left out while the nodes hold a key. A node signs one list per sum, and decrypts
only for a list that a majority of the holders signed: so no two sums of one round are decrypted,
from whose difference a single update could be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from daafl.errors import DataError, MessageError
from daafl.secure.he.ciphertexts import SUM_BYTES, split
from daafl.secure.he.dealing import HeldKey
from daafl.secure.he.messages import DecryptedSum, EncryptedInput, SumList, SumToDecrypt
from daafl.secure.he.parallel import Cipher
from daafl.secure.he.tags import tagged, tags, untagged
from daafl.secure.he.terms import SumTerms
from daafl.secure.identity import Identity
from daafl.secure.masks import Words, words_digest
from daafl.secure.messages import Confirmation


@dataclass(frozen=True)
class Ready:
    """Before anything was encrypted."""


@dataclass(frozen=True)
class Waiting:
    """After the ciphertexts went out, until the list of those in the sum arrives."""


@dataclass(frozen=True)
class Confirmed:
    """After this node signed a list."""

    nodes: tuple[int, ...]


Phase = Ready | Waiting | Confirmed
P = TypeVar("P", Ready, Waiting, Confirmed)


class SumNode:
    """A node in one sum.

    Parameters
    ----------
    terms
        What the sum is about, built by the node itself.
    node
        Its number.
    identity
        Its long-lived key.
    held
        The key it was dealt.
    phase
        Where it is; given when a sum is taken up again.
    newest
        Round and attempt of the last sum that this node encrypted for on this branch.
    processes
        How many processes may encrypt and decrypt a large vector.

    Raises
    ------
    MessageError
        ``epoch`` if the sum is under another key, ``freshness`` if it is not newer than the last,
        ``swapped_key`` if the roster has another identity for the node.
    """

    def __init__(
        self,
        terms: SumTerms,
        node: int,
        identity: Identity,
        held: HeldKey,
        *,
        phase: Phase | None = None,
        newest: tuple[int, int] = (-1, -1),
        processes: int = 1,
    ) -> None:
        if terms.group.digest != held.group.digest:
            raise MessageError(
                "epoch",
                f"the sum is under the key of epoch {terms.group.terms.epoch}, and node {node} "
                f"holds that of epoch {held.group.terms.epoch}",
            )
        if (terms.round, terms.attempt) <= newest:
            raise MessageError(
                "freshness",
                f"attempt {terms.attempt} at round {terms.round} is not newer than the last sum "
                f"in which node {node} took part",
            )
        if node not in terms.group.members:
            raise MessageError("unknown_node", f"node {node} does not hold the key")
        if terms.group.terms.roster.key_of(node) != identity.public:
            raise MessageError("swapped_key", f"the roster has another identity for node {node}")
        self.terms = terms
        self.node = node
        self._identity = identity
        self._held = held
        self._phase: Phase | None = Ready() if phase is None else phase
        self._processes = processes

    def put_aside(self) -> Phase:
        """Return the phase, of which there is one only: this object can do nothing any more.

        Raises
        ------
        MessageError
            With reason ``phase`` if the sum is over.
        """
        phase, self._phase = self._phase, None
        if phase is None:
            raise MessageError("phase", "the sum is over: there is nothing to put aside")
        return phase

    def encrypt(self, words: Words) -> EncryptedInput:
        """Return this node's vector, the selected part of it encrypted.

        Raises
        ------
        DataError
            If there are not as many words as the terms say, or one is too large for its field.
        """
        self._take(Ready)
        terms, key = self.terms, self._held.key
        if words.dtype != "uint32":
            raise DataError(f"words of type {words.dtype} to encrypt; they must be uint32")
        hidden, clear = terms.selection.split(words)
        modulus = terms.packing.plain_modulus
        own = tags(key.tag_key, terms.digest, self.node, (terms.num_chunks, modulus))
        chunks = tagged(terms.packing.packed(hidden), own)
        with Cipher(key, modulus, processes=self._processes) as cipher:
            ciphertexts = b"".join(cipher.encrypted(chunks))
        content = terms.input(self.node, sha256(ciphertexts).digest(), words_digest(clear))
        self._phase = Waiting()
        return EncryptedInput(self.node, ciphertexts, clear, self._identity.sign(content))

    def confirm(self, message: SumList) -> Confirmation:
        """Return a signature under the list of those in the sum.

        Raises
        ------
        MessageError
            ``excluded`` if this node is not on it, or as `SumTerms.check_listed`.
        """
        self._take(Waiting)
        self.terms.check_listed(message.nodes)
        if self.node not in message.nodes:
            raise MessageError("excluded", f"the sum is without node {self.node}, which took part")
        self._phase = Confirmed(message.nodes)
        return Confirmation(self.node, self._identity.sign(self.terms.listed(message.nodes)))

    def decrypt(self, message: SumToDecrypt) -> DecryptedSum:
        """Return the sum in the clear.

        Raises
        ------
        MessageError
            ``quorum`` if too few signed the list that this node signed, ``unknown_node`` or
            ``signature`` if one of them did not, ``ciphertext``, ``tag``, ``count`` or ``range`` if
            this is not the sum over the list.
        """
        terms, key = self.terms, self._held.key
        nodes = self._take(Confirmed).nodes
        if len(message.confirmed) < terms.group.quorum:
            raise MessageError(
                "quorum",
                f"{len(message.confirmed)} nodes signed the list of those in the sum; "
                f"{terms.group.quorum} must",
            )
        if not frozenset(message.confirmed) <= frozenset(nodes):
            raise MessageError("unknown_node", "a node signed the list that is not on it")
        content = terms.listed(nodes)
        for other, signature in zip(message.confirmed, message.signatures, strict=True):
            terms.group.terms.check_signed(other, content, signature, "list of those in the sum")
        modulus = terms.packing.plain_modulus
        with Cipher(key, modulus, processes=self._processes) as cipher:
            chunks = cipher.decrypted(split(message.ciphertexts, terms.num_chunks, SUM_BYTES))
        slots = untagged(
            chunks,
            terms.num_slots,
            key=key.tag_key,
            session=terms.digest,
            nodes=nodes,
            plain_modulus=modulus,
        )
        words = terms.packing.unpacked(slots, terms.selection.num_hidden, len(nodes))
        content = terms.decrypted(self.node, nodes, words_digest(words))
        return DecryptedSum(self.node, words, self._identity.sign(content))

    def _take(self, phase: type[P]) -> P:
        """Return the phase and forget it, so that no step is repeated, nor one after a failure."""
        found, self._phase = self._phase, None
        if not isinstance(found, phase):
            raise MessageError("phase", f"a message for phase {phase.__name__} came out of turn")
        return found
