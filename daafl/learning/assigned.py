"""What an assignment means for a node's training: its settings and its randomness."""

import math
from collections.abc import Sequence

import numpy as np

from daafl.errors import MessageError
from daafl.keyed_random import mixed
from daafl.learning.work import LocalWork
from daafl.messages import PROXIMAL_MU, Assignment


def assigned_work(assignment: Assignment) -> LocalWork:
    """Return the local training that an assignment asks for.

    Raises
    ------
    MessageError
        If the weight of the proximal term is not a finite number of 0 or more.
    """
    proximal_mu = assignment.settings.get(PROXIMAL_MU, 0.0)
    if isinstance(proximal_mu, bool | str) or not 0.0 <= proximal_mu < math.inf:
        raise MessageError("schema", f"{PROXIMAL_MU} is {proximal_mu!r}, not a number >= 0")
    return LocalWork(
        lr=assignment.lr,
        steps=assignment.local_steps,
        batch_size=assignment.batch_size,
        proximal_mu=float(proximal_mu),
    )


def assigned_key(assignment: Assignment, node: int) -> int:
    """Return the 64 bits that a node's training draws on: the same message, the same key anywhere.

    Parameters
    ----------
    assignment
        What the node is asked to do.
    node
        Logical id of the node.
    """
    (key,) = assigned_keys([assignment], [node])
    return key


def assigned_keys(assignments: Sequence[Assignment], nodes: Sequence[int]) -> list[int]:
    """Return what `assigned_key` does, for many nodes at once."""
    asked = [(each.seed, each.version, each.draw) for each in assignments]
    seeds, versions, draws = np.array(asked, np.uint64).T
    keys: list[int] = mixed(seeds, np.array(nodes, np.uint64), versions, draws).tolist()
    return keys
