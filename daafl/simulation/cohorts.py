"""What answers many messages at once: the seam between the grid and vectorised training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from flwr.app import Context, Message
from numpy.typing import NDArray

from daafl.store.tree import Tree


class CohortApp(Protocol):
    """Does for many nodes what the ClientApp does for one, with the same answers.

    A grid without one runs every message by itself.
    """

    def prepare(self) -> None:
        """Decide how cohorts are trained; called once, before the first message runs."""

    def is_together(self, message: Message) -> bool:
        """Return whether messages like this one are worth answering together."""

    def most_together(self, message: Message) -> int:
        """Return how many nodes are to be trained in one job at most, at least one.

        It depends on the message alone, so that a cohort is divided in the same way everywhere;
        several jobs share the cores.
        """

    def answers(
        self, messages: Sequence[Message], contexts: Callable[[], Sequence[Context]]
    ) -> Sequence[tuple[Message, Context]]:
        """Return each message's reply, and its node's context as the work has left it.

        Parameters
        ----------
        messages
            TRAIN messages for different nodes that carry one model; not to be written to.
        contexts
            Returns new contexts of the nodes, in the order of the messages; may be called again.

        Raises
        ------
        Exception
            Whatever a node's training raises; every message is then run by itself.
        """

    def steps(self, message: Message) -> float:
        """Return the local steps that a message asks of each node of a cohort."""

    def summed(self, message: Message, partitions: Sequence[int], time_s: float) -> Message:
        """Return one reply for the nodes of a cohort: their weighted mean model."""

    def merged(self, message: Message, replies: Sequence[Message]) -> Message:
        """Return one reply for several that `summed` made of parts of a cohort, in their order."""

    def num_examples(self, partitions: Sequence[int]) -> NDArray[np.int64]:
        """Return how many training examples nodes hold; shape [partitions]."""

    def described(self) -> str:
        """Return in words how cohorts are trained, and why; empty before that is decided."""

    def state(self) -> Tree:
        """Return how cohorts are trained, for a run that goes on later."""

    def load(self, state: Tree) -> None:
        """Train cohorts as an earlier run did, in place of `prepare`."""
