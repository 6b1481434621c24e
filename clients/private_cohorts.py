"""Trains simulated nodes under a guarantee together: paid one by one, computed as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from daafl.clients.identity import Identity
from daafl.clients.private import PrivateTraining
from daafl.errors import BudgetError
from daafl.learning.assigned import assigned_key, assigned_work
from daafl.learning.choice import Choice
from daafl.learning.cohort import CohortTrainer
from daafl.learning.examples import Examples
from daafl.learning.layout import Packed
from daafl.learning.member import Member, NotBatched
from daafl.learning.private import NO_LOSS, trained_privately
from daafl.learning.private_stack import PrivateMember, PrivateStack
from daafl.learning.trainer import Trained
from daafl.messages import Assignment
from daafl.privacy.dpsgd import SampleLevel
from daafl.privacy.guarantee import LocalPrivacy, SamplePrivacy
from daafl.privacy.keystream import Keystream
from daafl.privacy.release import Release

DENSE: Final = "examples are clipped by analytic norms, for many nodes as one"


@dataclass(frozen=True)
class Asked:
    """What one node is asked to do, on what.

    Parameters
    ----------
    examples
        Its training examples.
    assignment, who
        The work and the node.
    has_spent
        Whether it is known to have spent something before.
    """

    examples: Examples
    assignment: Assignment
    who: Identity
    has_spent: bool


@dataclass(frozen=True)
class _Paid:
    """A training that was paid for, with its place among those asked."""

    row: int
    member: Member
    release: Release
    keystream: Keystream


class PrivateCohorts:
    """Private training of cohorts.

    Parameters
    ----------
    private
        The guarantee and the ledgers.
    trainer
        Trains cohorts where noise comes on whole updates, and knows the model.
    """

    def __init__(self, private: PrivateTraining, trainer: CohortTrainer) -> None:
        self.private = private
        self._trainer = trainer
        self._stack: PrivateStack | None = None

    def choice(self, method: str) -> Choice | None:
        """Return how nodes are trained; ``None`` where it is to be tried as without privacy.

        Parameters
        ----------
        method
            What was asked for: ``auto`` or a `daafl.learning.choice.Method`.
        """
        if isinstance(self.private.settings, LocalPrivacy):
            return None
        if method not in ("auto", "dense"):
            return Choice("eager", f"privacy clips single examples, which {method} does not", {})
        try:
            PrivateStack(self._trainer.trainer)
        except NotBatched as error:
            return Choice("eager", f"privacy clips examples one by one: {error}", {})
        return Choice("dense", DENSE, {})

    def trained(self, packed: Packed, asked: Sequence[Asked]) -> list[Trained | None]:
        """Return what each training gives; ``None`` where the budget is spent.

        Raises
        ------
        DataError
            If examples and model do not fit together. What was paid for it stays paid.
        StoreError
            If a ledger is damaged or cannot be written.
        """
        found: list[Trained | None] = [None] * len(asked)
        paid = [one for row, each in enumerate(asked) if (one := self._paid(row, each))]
        if not paid:
            return found
        for one, trained in zip(paid, self._computed(packed, paid), strict=True):
            found[one.row] = trained
        return found

    def _paid(self, row: int, asked: Asked) -> _Paid | None:
        """Return a training whose price is debited; ``None`` if that is more than is left."""
        settings, node = self.private.settings, asked.who.node
        work = assigned_work(asked.assignment)
        if isinstance(settings, SamplePrivacy):
            size = len(asked.examples)
            release = settings.release(size, batch_size=work.batch_size, steps=work.steps)
        else:
            release = settings.release()
        try:
            keystream = self.private.paid(
                release, asked.assignment, node, has_spent=asked.has_spent
            )
        except BudgetError:
            return None
        member = Member(asked.examples, work, assigned_key(asked.assignment, node))
        return _Paid(row, member, release, keystream)

    def _computed(self, packed: Packed, paid: Sequence[_Paid]) -> list[Trained]:
        if isinstance(self.private.settings, LocalPrivacy):
            rows = self._trainer.train(packed, [one.member for one in paid]).packed
            return [
                self.private.randomised(
                    self._trainer.trainer,
                    packed,
                    Trained(row, NO_LOSS, len(one.member.examples), one.member.work.steps),
                    one.release,
                    one.keystream,
                )
                for one, row in zip(paid, rows, strict=True)
            ]
        bound = self.private.settings.bound
        levels = [SampleLevel(bound, one.release.noise_multiplier) for one in paid]
        members = [
            PrivateMember(one.member, level, one.keystream)
            for one, level in zip(paid, levels, strict=True)
        ]
        try:
            if self._stack is None:
                self._stack = PrivateStack(self._trainer.trainer)
            rows = self._stack.train(packed, members)
        except NotBatched:
            # Nothing has left the nodes, so what was paid pays for this.
            rows = np.stack([self._single(packed, member) for member in members])
        return [
            Trained(row, NO_LOSS, len(one.member.examples), one.member.work.steps)
            for one, row in zip(paid, rows, strict=True)
        ]

    def _single(self, packed: Packed, own: PrivateMember) -> Packed:
        trained = trained_privately(
            self._trainer.trainer,
            packed,
            own.member.examples,
            own.member.work,
            own.member.key,
            privacy=own.privacy,
            keystream=own.keystream,
        )
        return trained.packed
