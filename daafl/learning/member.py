"""One node's part in a training of many nodes together."""

from dataclasses import dataclass

from daafl.learning.examples import Examples
from daafl.learning.work import LocalWork


@dataclass(frozen=True, eq=False)
class Member:
    """What one node trains on, and how.

    Attributes
    ----------
    examples
        Its training examples.
    work
        Settings of its training.
    key
        64 bits that its batches depend on; see `daafl.learning.assigned.assigned_key`.
    """

    examples: Examples
    work: LocalWork
    key: int


class NotBatched(Exception):
    """Says in words why a model cannot be trained for several nodes in one computation.

    It never leaves this package: whoever catches it trains the nodes one after the other.
    """
