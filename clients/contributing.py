"""What a node puts into a sum that hides it, made of what it has trained."""

from __future__ import annotations

import math

import numpy as np

from daafl.clients.replies import reportable
from daafl.clients.work import Work
from daafl.errors import MessageError
from daafl.learning.layout import Layout
from daafl.messages import CLIP_BOUND, USERS_ALIKE, Assignment
from daafl.secure.header import Header
from daafl.secure.masked_vectors import Contribution
from daafl.secure.shortening import shortened


def contributed(work: Work, layout: Layout) -> Contribution:
    """Return what a node puts into the sum: its change of the model, within the bound it was told.

    The length is that of what gradients move; statistics shrink with it. Where a guarantee hangs on
    the bound, everything counts.
    """
    delta = layout.vector(work.trained.packed) - layout.vector(work.received.packed)
    counted = delta if work.assignment.settings.get(USERS_ALIKE) else layout.trained(delta)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is not sent
        norm = float(np.linalg.norm(counted.astype(np.float64)))
    short, is_within = shortened(delta, norm=norm, bound=clip_bound(work.assignment))
    # Under a guarantee of the node's own, no loss is measured.
    loss = None if work.claim is not None else max(reportable(work.trained.loss_before), 0.0)
    header = Header(work.trained.num_examples, loss, is_within_clip=is_within)
    return Contribution(short if work.is_bounded else delta, header)


def clip_bound(assignment: Assignment) -> float | None:
    """Return the longest change that is asked for; ``None`` for any.

    Raises
    ------
    MessageError
        If it is no length.
    """
    bound = assignment.settings.get(CLIP_BOUND)
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < math.inf:
        raise MessageError("schema", f"{CLIP_BOUND} is {bound!r:.40}; it must be positive, finite")
    return float(bound)
