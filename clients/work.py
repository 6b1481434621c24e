"""A training that a node has done, before anything of it leaves the node."""

from __future__ import annotations

from dataclasses import dataclass

from daafl.clients.identity import Identity
from daafl.clients.model_records import ReceivedModel
from daafl.learning.trainer import Trained
from daafl.messages import Assignment


@dataclass(frozen=True, eq=False)
class Work:
    """What was asked, of whom, from which model, and what came of it.

    Parameters
    ----------
    assignment, who, received
        The work, the node and the model that came.
    trained
        The result.
    claim
        Guarantee that holds for it, as it travels in an envelope; ``None`` for none.
    is_bounded
        Whether the node keeps to the bound that it is told for the length of its update. Hostile
        nodes of a simulation do not.
    """

    assignment: Assignment
    who: Identity
    received: ReceivedModel
    trained: Trained
    claim: str | None = None
    is_bounded: bool = True
