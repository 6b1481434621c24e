"""The server's side of an encrypted sum, as three phases that close into one another.

A phase takes messages one by one, refuses with a reason what breaks the protocol, and closes when
its host thinks it has waited long enough. The server holds the sum's ciphertexts and, at the end,
the sum itself; never a key, and no single node's ciphertexts beyond the moment in which they are
added. `daafl.secure.he.key_server` has the two phases that come before the first sum of a key.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from daafl.errors import ConfigError, DataError, FederationError, MessageError
from daafl.secure.he.messages import (
    DecryptedSum,
    EncryptedInput,
    SumList,
    SumToDecrypt,
)
from daafl.secure.he.scheme import Summation
from daafl.secure.he.terms import SumTerms
from daafl.secure.masks import Words, words_digest
from daafl.secure.messages import Confirmation
from daafl.secure.server import check_expected, check_first


class Inputs:
    """Phase 3: adds up ciphertexts as they arrive and keeps none of them.

    Parameters
    ----------
    terms
        What the sum is about.
    num_decryptors
        How many nodes are to decrypt it; with more than one, most of them must agree.
    """

    def __init__(self, terms: SumTerms, *, num_decryptors: int = 1) -> None:
        if num_decryptors < 1:
            raise ConfigError(f"num_decryptors is {num_decryptors}; it must be 1 or more")
        self.terms = terms
        self._num_decryptors = num_decryptors
        self._total = Summation(terms.packing.plain_modulus, terms.num_chunks)
        self._clear: Words = np.zeros(terms.selection.num_clear, np.uint32)
        self._received: set[int] = set()

    def receive(self, message: EncryptedInput) -> None:
        """Add a node's ciphertexts, or raise `MessageError`."""
        node, terms = message.node, self.terms
        check_expected(node, terms.group.members)
        check_first(node, self._received)
        if message.clear.shape != self._clear.shape:
            raise MessageError(
                "shape", f"node {node} sent {message.clear.size} words, not {self._clear.size}"
            )
        hashes = sha256(message.ciphertexts).digest(), words_digest(message.clear)
        content = terms.input(node, *hashes)
        terms.group.terms.check_signed(node, content, message.signature, "encrypted vector")
        self._total.add(message.ciphertexts)
        np.add(self._clear, message.clear, out=self._clear)
        self._received.add(node)

    def close(self) -> tuple[Confirming, SumList]:
        """Return the next phase and the message to each whose ciphertexts are in the sum.

        Raises
        ------
        FederationError
            If too few arrived.
        """
        nodes = tuple(sorted(self._received))
        terms = self.terms
        needed = max(terms.min_nodes, terms.group.quorum)
        if len(nodes) < needed:
            raise FederationError(
                f"{len(nodes)} of {len(terms.group.members)} nodes sent encrypted updates; "
                f"{needed} must"
            )
        try:
            total = self._total.to_bytes()
        except DataError as error:  # no honest node's ciphertexts are in it
            raise FederationError(f"the sum of encrypted updates is none: {error}") from None
        phase = Confirming(terms, nodes, total, self._clear, self._num_decryptors)
        return phase, SumList(nodes)


class Confirming:
    """Phase 4: collects signatures under the list of those in the sum."""

    def __init__(
        self,
        terms: SumTerms,
        nodes: tuple[int, ...],
        total: bytes,
        clear: Words,
        num_decryptors: int,
    ) -> None:
        self.terms = terms
        self._nodes = nodes
        self._total = total
        self._clear = clear
        self._num_decryptors = num_decryptors
        self._received: dict[int, bytes] = {}

    def receive(self, message: Confirmation) -> None:
        """Take a node's signature, or raise `MessageError`."""
        check_expected(message.node, self._nodes)
        check_first(message.node, self._received)
        self.terms.group.terms.check_signed(
            message.node,
            self.terms.listed(self._nodes),
            message.signature,
            "list of those in the sum",
        )
        self._received[message.node] = message.signature

    def close(self) -> Decrypting:
        """Return the last phase, which says whom to ask.

        Raises
        ------
        FederationError
            If too few signed.
        """
        quorum = self.terms.group.quorum
        if len(self._received) < quorum:
            raise FederationError(
                f"{len(self._received)} nodes signed the list of those in the sum; {quorum} must"
            )
        nodes = tuple(sorted(self._received))
        message = SumToDecrypt(self._total, nodes, tuple(self._received[node] for node in nodes))
        return Decrypting(self.terms, self._nodes, message, self._clear, self._num_decryptors)


@dataclass(frozen=True)
class EncryptedSum:
    """What comes out.

    Parameters
    ----------
    words
        Sum of the vectors: words with a slot of their own are below 2**32, the others below the
        packing's modulus, those in the clear modulo 2**32.
    nodes
        Whose vectors are in it.
    wrong_decryptors
        Nodes that returned another sum than most.
    """

    words: Words = field(repr=False)
    nodes: tuple[int, ...]
    wrong_decryptors: tuple[int, ...] = ()


class Decrypting:
    """Phase 5: asks nodes to decrypt, and others for those that are lost.

    Which node comes first moves with the round, so that all take their turn.
    """

    def __init__(
        self,
        terms: SumTerms,
        nodes: tuple[int, ...],
        message: SumToDecrypt,
        clear: Words,
        num_decryptors: int,
    ) -> None:
        self.terms = terms
        self.message = message
        self._nodes = nodes
        self._clear = clear
        self._wanted = min(num_decryptors, len(message.confirmed))
        first = terms.round % len(message.confirmed)
        self._left = [*message.confirmed[first:], *message.confirmed[:first]]
        self._asked: set[int] = set()
        self._answers: dict[int, Words] = {}

    @property
    def is_complete(self) -> bool:
        """Whether as many decrypted as were wanted."""
        return len(self._answers) >= self._wanted

    def ask(self) -> tuple[int, ...]:
        """Return whom to send the message now, in place of those that were lost.

        Raises
        ------
        FederationError
            If nobody is left.
        """
        missing = self._wanted - len(self._answers)
        asked, self._left = self._left[:missing], self._left[missing:]
        if missing and not asked:
            if self._answers:  # those that are left to vote must do
                self._wanted = len(self._answers)
                return ()
            raise FederationError(
                f"none of {len(self.message.confirmed)} nodes decrypted the sum: all are lost, or "
                "the sum is not one, because a node sent a false ciphertext"
            )
        self._asked.update(asked)
        return tuple(asked)

    def receive(self, message: DecryptedSum) -> None:
        """Take a decrypted sum, or raise `MessageError`."""
        node, terms = message.node, self.terms
        check_expected(node, self._asked)
        check_first(node, self._answers)
        if message.words.shape != (terms.selection.num_hidden,):
            raise MessageError("shape", f"node {node} decrypted {message.words.size} words")
        content = terms.decrypted(node, self._nodes, words_digest(message.words))
        terms.group.terms.check_signed(node, content, message.signature, "decrypted sum")
        self._answers[node] = message.words

    def close(self) -> EncryptedSum:
        """Return the sum.

        Raises
        ------
        FederationError
            If too few decrypted it: then `ask` others; or if they do not agree.
        """
        if not self._answers or not self.is_complete:
            raise FederationError("the sum was not decrypted yet")
        digests = {node: words_digest(words) for node, words in self._answers.items()}
        digest, count = Counter(digests.values()).most_common(1)[0]
        if 2 * count <= len(digests):
            raise FederationError(f"nodes {sorted(digests)} decrypted different sums")
        wrong = tuple(sorted(node for node, found in digests.items() if found != digest))
        right = next(node for node, found in digests.items() if found == digest)
        words = self.terms.selection.joined(self._answers[right], self._clear)
        return EncryptedSum(words, self._nodes, wrong)
