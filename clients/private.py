"""The node's side of privacy: it pays before it trains, and lets nothing out that is not noised."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import Context, Message, RecordDict

from daafl.clients.identity import Identity
from daafl.errors import BudgetError, ConfigError, MessageError
from daafl.flower import ClientAppCallable, config_record
from daafl.learning.assigned import assigned_key, assigned_work
from daafl.learning.examples import Examples
from daafl.learning.layout import Packed
from daafl.learning.member import Member, NotBatched
from daafl.learning.private import NO_LOSS, check_private, trained_privately
from daafl.learning.private_stack import PrivateMember, PrivateStack
from daafl.learning.trainer import TorchTrainer, Trained
from daafl.messages import BUDGET_SPENT, CONFIG, DECLINED, Assignment
from daafl.privacy.budget import Budgets, node_account
from daafl.privacy.dpsgd import SampleLevel
from daafl.privacy.guarantee import NodePrivacy, SamplePrivacy
from daafl.privacy.keystream import Keystream, keystream_for
from daafl.privacy.ledger import Debit, Ledger
from daafl.privacy.local import LocalRandomiser
from daafl.privacy.release import Release
from daafl.privacy.spending import ledger_folder
from daafl.store.atomic import write_bytes

LEDGERS: Final = "privacy"
"""Folder of the nodes' ledgers, in a node store or a run folder."""

ALIKE: Final = 1
"""Examples that a node under local privacy counts for, since its own number is private."""


class PrivateTraining:
    """Trains under a guarantee that nodes see to themselves.

    Parameters
    ----------
    settings
        The guarantee.
    folder
        Where the nodes' ledgers are, one folder each: outside checkpoints, and never rolled back.
    is_simulated
        Whether nodes are simulated, so that their noise may come from a seed.
    """

    def __init__(self, settings: NodePrivacy, folder: Path, *, is_simulated: bool) -> None:
        if settings.rng == "seeded" and not is_simulated:
            raise ConfigError(
                "privacy: rng=seeded is for simulations only: who knows the seed can subtract the "
                "noise; use rng=secret"
            )
        self.settings = settings
        self._folder = folder
        self._is_simulated = is_simulated
        self._checked: TorchTrainer | None = None
        self._stack: PrivateStack | None = None  # for dense models, several times as fast

    @property
    def is_whole_node(self) -> bool:
        """Whether all data of a node are protected together, their number included."""
        return not isinstance(self.settings, SamplePrivacy)

    def trained(
        self,
        trainer: TorchTrainer,
        packed: Packed,
        examples: Examples,
        assignment: Assignment,
        who: Identity,
        *,
        has_spent: bool = False,
    ) -> Trained:
        """Return what a training gives that has been paid for before.

        Parameters
        ----------
        trainer, packed, examples
            What to train, from which values, on what.
        assignment, who
            What is asked, and of whom.
        has_spent
            Whether the node is known to have spent something, so that a missing ledger is a lost
            one.

        Raises
        ------
        BudgetError
            If the node has not enough left; then nothing was spent or trained.
        ConfigError
            If the model cannot be trained privately.
        DataError
            As `TorchTrainer.train` does.
        """
        work, key = assigned_work(assignment), assigned_key(assignment, who.node)
        if isinstance(self.settings, SamplePrivacy):
            if self._checked is not trainer:
                check_private(trainer)
                self._checked, self._stack = trainer, _stack(trainer)
            release = self.settings.release(
                len(examples), batch_size=work.batch_size, steps=work.steps
            )
            keystream = self.paid(release, assignment, who.node, has_spent=has_spent)
            privacy = SampleLevel(self.settings.bound, release.noise_multiplier)
            if self._stack is not None:
                own = PrivateMember(Member(examples, work, key), privacy, keystream)
                # Inputs it cannot take are refused before anything is drawn.
                with suppress(NotBatched):
                    (row,) = self._stack.train(packed, [own])
                    return Trained(row, NO_LOSS, len(examples), work.steps)
            return trained_privately(
                trainer, packed, examples, work, key, privacy=privacy, keystream=keystream
            )
        release = self.settings.release()
        keystream = self.paid(release, assignment, who.node, has_spent=has_spent)
        trained = trainer.train(packed, examples, work, key)
        return self.randomised(trainer, packed, trained, release, keystream)

    def paid(
        self, release: Release, assignment: Assignment, node: int, *, has_spent: bool = False
    ) -> Keystream:
        """Debit a node for a training; return the keystream for it.

        Noise of a secret keystream is new each time, so a training that is done again, as after a
        restart, lets out more and is paid again.

        Raises
        ------
        BudgetError
            If the node has not enough left.
        StoreError
            If its ledger is damaged or cannot be written; then nothing must be trained.
        """
        marker = self._marker(node)
        has_spent = has_spent or (marker is not None and marker.exists())
        seed = (assignment.seed, "node", node, assignment.version, assignment.draw)
        keystream = keystream_for(self.settings.rng, *seed, is_simulated=self._is_simulated)
        ledger = Ledger(ledger_folder(self._folder, node), must_exist=has_spent)
        budgets = Budgets(ledger, self.settings.budget)
        debit = Debit(node_account(node), _key(assignment), release)
        budgets.spend(debit, is_replay=not keystream.is_secret)
        if marker is not None and not has_spent:
            write_bytes(marker, b"")
        return keystream

    def _marker(self, node: int) -> Path | None:
        """Return the file outside the ledgers that tells that a real node has spent something.

        A simulated node's state says so for as long as its run lasts.
        """
        return None if self._is_simulated else self._folder.parent / f"spent-node-{node}"

    def randomised(
        self,
        trainer: TorchTrainer,
        packed: Packed,
        trained: Trained,
        release: Release,
        keystream: Keystream,
    ) -> Trained:
        """Return a training with its update randomised, and nothing told of what it was made of."""
        layout = trainer.layout
        sent = layout.vector(packed).astype(np.float64)
        update = layout.vector(trained.packed) - sent
        # An update that is not finite must not stop the node: that would tell about its data.
        if not np.isfinite(update).all():
            update = np.zeros_like(update)
        randomiser = LocalRandomiser(self.settings.bound, release.noise_multiplier)
        noisy = sent + randomiser.randomised(update, keystream)
        return replace(
            trained,
            packed=layout.packed(noisy.astype(layout.dtype)),
            loss_before=NO_LOSS,
            num_examples=ALIKE,
        )


def refuse_unprotected(private: PrivateTraining | None, what: str) -> None:
    """Refuse a question whose answer would tell about examples without noise.

    Raises
    ------
    MessageError
        With reason ``privacy``.
    """
    if private is not None:
        raise MessageError(
            "privacy",
            f"{what} would tell about this node's examples without noise; under privacy "
            f"{private.settings.name} it answers no such question",
        )


def declining(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Say that the budget is spent where it is: a Flower mod, outermost of all."""
    try:
        return call_next(message, context)
    except BudgetError:
        return declined(message)


def declined(message: Message) -> Message:
    """Return the answer of a node whose budget is spent."""
    record = config_record({DECLINED: BUDGET_SPENT})
    return Message(RecordDict({CONFIG: record}), reply_to=message)


def _stack(trainer: TorchTrainer) -> PrivateStack | None:
    try:
        return PrivateStack(trainer)
    except NotBatched:
        return None


def has_declined(reply: Message) -> bool:
    """Return whether a reply is one of `declined`."""
    record = reply.content.get(CONFIG)
    return record is not None and DECLINED in record


def _key(assignment: Assignment) -> str:
    """Return what a debit is for; it is short however long the names are."""
    names = json.dumps([assignment.federation, assignment.branch])
    digest = hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"train {digest} version {assignment.version} draw {assignment.draw}"
