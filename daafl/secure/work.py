"""What all members of a secure sum must have been asked alike.

A server that could ask one member to train and the others to do nothing would read its update from
the sum. So the work is part of the terms that every key and signature of a session is bound to.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from daafl.secure.encoding import digest


def work_hash(
    *,
    plan_hash: str,
    lr: float,
    local_steps: int,
    batch_size: int,
    settings: Mapping[str, bool | int | float | str],
    unit: int,
    rules: str,
) -> bytes:
    """Return the SHA-256 digest of what is asked of every member of a sum.

    Parameters
    ----------
    plan_hash, lr, local_steps, batch_size, settings
        As in `daafl.messages.Assignment`.
    unit
        Examples that weigh 1.
    rules
        The federation's settings for sums, as text.
    """
    return digest(
        "work",
        plan_hash,
        repr(float(lr)),
        local_steps,
        batch_size,
        repr(sorted((key, repr(value)) for key, value in settings.items())),
        unit,
        rules,
    )


def bytes_hash(content: memoryview | bytes) -> bytes:
    """Return the SHA-256 digest of bytes, such as a packed model's."""
    return sha256(content).digest()
