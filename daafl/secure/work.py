"""What all members of a secure sum must have been asked alike.

A server that could ask one member to train and the others to do nothing would read its update from
the sum. So the work is part of the terms that every key and signature of a session is bound to.
"""

from __future__ import annotations

from hashlib import sha256

from daafl.messages import Assignment
from daafl.secure.encoding import digest


def work_hash(assignment: Assignment, unit: int, rules: str) -> bytes:
    """Return the SHA-256 digest of what is asked of every member of a sum.

    Parameters
    ----------
    assignment
        As it goes to a member; ticket, draw and seed are a member's own.
    unit
        Examples that weigh 1.
    rules
        The federation's settings for sums, as text.
    """
    return digest(
        "work",
        assignment.plan_hash,
        repr(float(assignment.lr)),
        assignment.local_steps,
        assignment.batch_size,
        repr(sorted((key, repr(value)) for key, value in assignment.settings.items())),
        unit,
        rules,
    )


def bytes_hash(content: memoryview | bytes) -> bytes:
    """Return the SHA-256 digest of bytes, such as a packed model's."""
    return sha256(content).digest()
