"""Challenges computed from everything said before them (Fiat and Shamir, 1986).

The interactive proof becomes one message: what the verifier would draw at random is a hash of the
statement and of all that the prover sent so far. Whatever is left out of the hash could be changed
after the challenge is known, so nothing is left out.
"""

from __future__ import annotations

import hashlib
from typing import Final

from daafl.secure.encoding import Value, encoded
from daafl.secure.proof.group import ORDER

LABEL: Final = "norm proof 1"


class Transcript:
    """What prover and verifier have both seen.

    Parameters
    ----------
    values
        The statement; integers in [0, 2**64).

    Examples
    --------
    >>> one, other = Transcript(b"a"), Transcript(b"b")
    >>> one.challenge("c") == other.challenge("c")
    False
    """

    def __init__(self, *values: Value) -> None:
        self._hash = hashlib.sha512(encoded(LABEL, *values))

    def absorb(self, name: str, data: bytes) -> None:
        """Take in what the prover sent."""
        self._hash.update(encoded("sent", name, data))

    def challenge(self, name: str) -> int:
        """Return a scalar that depends on all before, and take its name in.

        It is 512 bits reduced by a prime of 255: uniform up to 2**-257.
        """
        self._hash.update(encoded("challenge", name))
        return int.from_bytes(self._hash.copy().digest(), "big") % ORDER
