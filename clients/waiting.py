"""A node's vector that waits for the seed of the test of its norm."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from flwr.app import ConfigRecord, Context

from daafl.errors import MessageError
from daafl.flower import config_record
from daafl.messages import COMMITMENT, SECONDS, STEPS, VOLATILE, WORDS
from daafl.secure.fields import Fields
from daafl.secure.masked_vectors import bytes_of
from daafl.secure.messages import HASH_BYTES
from daafl.secure.quantisation import Words

_VECTOR: Final = f"{VOLATILE}masked-vector"
_SESSION: Final = "session"
_CLAIM: Final = "claim"


@dataclass(frozen=True, eq=False)
class Vector:
    """What a node puts into a masked sum, before it is masked.

    Parameters
    ----------
    words
        Header, update, and the randomness of its commitment if there is one.
    steps, seconds
        What the training took.
    claim
        Guarantee that holds for it; ``None`` for none.
    """

    words: Words = field(repr=False)
    steps: int
    seconds: float
    claim: str | None

    def put_aside(self, context: Context, session: bytes, words: Words, commitment: bytes) -> None:
        """Keep the vector for a session, with ``words`` for its own, and the commitment to it."""
        context.state[_VECTOR] = config_record(
            {
                _SESSION: session,
                WORDS: bytes_of(words).tobytes(),
                COMMITMENT: commitment,
                STEPS: self.steps,
                SECONDS: repr(self.seconds),
                **({} if self.claim is None else {_CLAIM: self.claim}),
            }
        )

    @staticmethod
    def forget(context: Context) -> None:
        """Drop a vector that waits: its session is over."""
        context.state.pop(_VECTOR, None)

    @staticmethod
    def check_none(context: Context) -> None:
        """Refuse to train a second time in a session (*phase*)."""
        if _VECTOR in context.state:
            raise MessageError("phase", "this node has trained in this session already")

    @classmethod
    def taken_up(cls, context: Context, session: bytes) -> tuple[Vector, bytes]:
        """Return the vector of a session with its commitment, and forget both.

        Raises
        ------
        MessageError
            With reason ``phase`` if there is none, or it was trained for another session.
        """
        record = context.state.pop(_VECTOR, None)
        if not isinstance(record, ConfigRecord) or record.get(_SESSION) != session:
            raise MessageError("phase", "this node has committed to no vector in this session")
        read = Fields.of(dict(record), "a vector put aside")
        read.data(_SESSION, HASH_BYTES)
        words = np.array(read.words(WORDS))
        found = cls(words, read.integer(STEPS), float(read.text(SECONDS, 40)), None)
        if _CLAIM in record:
            found = replace(found, claim=read.text(_CLAIM, 256))
        commitment = read.data(COMMITMENT)
        read.end()
        return found, commitment
