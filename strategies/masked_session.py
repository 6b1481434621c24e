"""A masked sum over Flower's messages: five questions to every node of a group.

====================  ====================  ======================================
message type          what a node gets      what it answers
====================  ====================  ======================================
``secure_keys``       what the sum is about its fresh public keys
``secure_shares``     everybody's keys      shares of its secrets, in boxes
``train.masked``      boxes and the model   its update under masks
``secure_confirm``    whose updates came    a signature under that
``secure_reveal``     those signatures      one share per neighbour
====================  ====================  ======================================

Where norms are proved, the model goes out one question earlier, ``train.committed``, and the
vector comes with its proof once every node is bound to its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from daafl.decoding import decoded
from daafl.errors import DataError, FederationError
from daafl.flower import config_record, record_dict
from daafl.messages import (
    ARRAYS,
    ATTEMPT,
    CONFIG,
    ENVELOPE,
    LENGTH,
    MODEL_HASH,
    PROOF,
    QUERY_CONFIRM,
    QUERY_KEYS,
    QUERY_REVEAL,
    QUERY_SHARES,
    SECURE,
    SEED,
    SUMMING,
    TELEMETRY,
    TRAIN_COMMITTED,
    TRAIN_MASKED,
    UNIT,
    WORDS,
    WORK_HASH,
)
from daafl.secure.header import HEADER_SLOTS
from daafl.secure.masked_vectors import read_sum
from daafl.secure.messages import (
    BOX_BYTES,
    Advertisement,
    Confirmation,
    Delivery,
    MaskedInput,
    Revelation,
    SealedShares,
)
from daafl.secure.norm_bound import NormBound
from daafl.secure.server import Advertisements, Confirming, Inputs, Shares
from daafl.secure.settings import MaskedSums
from daafl.secure.terms import Terms
from daafl.secure.unmasking import Revealing
from daafl.secure.work import bytes_hash, work_hash
from daafl.strategies.exchange import Member
from daafl.strategies.norm_checks import Committing, Proving
from daafl.strategies.secure_session import (
    MOST_BESIDE,
    GroupSum,
    Question,
    Questions,
    Round,
    arrays_of,
    check_names,
    check_work,
    own,
    question_of,
    secure_record,
    to_all,
    unit_of,
    values_of,
)

Phase = Advertisements | Shares | Committing | Inputs | Confirming | Revealing


class MaskedSession:
    """The coordinator's side of a masked sum over one group.

    Parameters
    ----------
    around
        The round.
    settings
        What is asked of a sum.
    members
        The group.
    """

    def __init__(self, around: Round, settings: MaskedSums, members: Sequence[Member]) -> None:
        self._round = around
        self._settings = settings
        self._members = {member.ticket.node: member for member in members}
        self._unit = unit_of(members)
        some = members[0].assignment
        self._bound = _bound_of(around, settings)
        self._proving: Proving | None = None
        length = HEADER_SLOTS + around.layout.num_parameters
        self._terms = Terms(
            roster=around.roster,
            branch=some.branch,
            round=some.version,
            attempt=around.attempt,
            model_hash=bytes_hash(around.packed.data),
            plan_hash=work_hash(some, self._unit, repr(self._settings)),
            length=length if self._bound is None else self._bound.num_words,
            policy=self._settings.policy,
        )
        self._phase: Phase = Advertisements(self._terms)

    def questions(self) -> Questions:
        """Return the message that opens the session, for every member."""
        terms = self._terms
        opening = config_record(
            {
                ATTEMPT: terms.attempt,
                MODEL_HASH: terms.model_hash,
                WORK_HASH: terms.plan_hash,
                LENGTH: terms.length,
            }
        )
        return {
            node: Question(
                QUERY_KEYS,
                record_dict({CONFIG: member.assignment.to_record(), SECURE: opening}),
            )
            for node, member in self._members.items()
        }

    def receive(self, node: int, content: RecordDict) -> None:
        """Take a node's answer to the present phase.

        Raises
        ------
        MessageError
            If it is not an answer, or not this node's.
        """
        match self._phase:
            case Advertisements() as phase:
                phase.receive(own(node, Advertisement.from_dict(values_of(content))))
            case Shares() as phase:
                boxes = len(phase.group.neighbours(node)) * BOX_BYTES
                phase.receive(own(node, SealedShares.from_dict(values_of(content, boxes))))
            case Committing() as phase:
                phase.receive(node, values_of(content, phase.bound.claim.commitment_bytes))
            case Inputs() as phase:
                phase.receive(own(node, self._input(node, content)))
            case Confirming() as phase:
                phase.receive(own(node, Confirmation.from_dict(values_of(content))))
            case Revealing() as phase:
                rows = len(phase.group.neighbours(node)) * BOX_BYTES
                phase.receive(own(node, Revelation.from_dict(values_of(content, rows))))

    def close(self) -> Questions | GroupSum:
        """End the present phase; see `Session.close`."""
        match self._phase:
            case Advertisements() as phase:
                self._phase, cohort = phase.close()
                return to_all(cohort.nodes, QUERY_SHARES, cohort.to_dict())
            case Shares() as phase:
                return self._training(*phase.close())
            case Committing() as phase:
                return self._masking(phase)
            case Inputs() as phase:
                self._phase, lists = phase.close()
                return {
                    node: question_of(QUERY_CONFIRM, survivors.to_dict())
                    for node, survivors in lists.items()
                }
            case Confirming() as phase:
                self._phase, confirmations = phase.close()
                return to_all(confirmations.nodes, QUERY_REVEAL, confirmations.to_dict())
            case Revealing() as phase:
                return self._summed(phase)

    def _training(self, inputs: Inputs, deliveries: Mapping[int, Delivery]) -> Questions:
        """Ask those that shared for their vectors, or, to prove the norm, for commitments first."""
        frame = config_record({UNIT: self._unit})
        asked: dict[int, dict[str, ArrayRecord | ConfigRecord]] = {
            node: {
                ARRAYS: self._round.model,
                CONFIG: self._members[node].assignment.to_record(),
                SUMMING: frame,
            }
            for node in deliveries
        }
        if self._bound is not None:
            self._phase = Committing(inputs, deliveries, self._bound)
            return {
                node: Question(TRAIN_COMMITTED, record_dict(records))
                for node, records in asked.items()
            }
        self._phase = inputs
        for node, delivery in deliveries.items():
            asked[node][SECURE] = config_record(delivery.to_dict())
        return {node: Question(TRAIN_MASKED, record_dict(r)) for node, r in asked.items()}

    def _masking(self, phase: Committing) -> Questions:
        """Ask those that committed for their vectors with the proofs."""
        self._proving = proving = phase.close()
        self._phase = phase.inputs
        frame = config_record({SEED: proving.seed})
        return {
            node: Question(
                TRAIN_MASKED,
                record_dict(
                    {
                        CONFIG: self._members[node].assignment.to_record(),
                        SECURE: config_record(phase.deliveries[node].to_dict()),
                        SUMMING: frame,
                    }
                ),
            )
            for node in proving.nodes
        }

    def _input(self, node: int, content: RecordDict) -> MaskedInput:
        """Return a node's masked vector, checked as far as anyone can see into it."""
        check_names(content, SECURE, ARRAYS, ENVELOPE, TELEMETRY)
        check_work(content, self._members[node], self._round.claim)
        names = (WORDS,) if self._proving is None else (PROOF, WORDS)
        arrays = arrays_of(content, ARRAYS, names)
        words = decoded(arrays[WORDS], np.dtype(np.uint8), (4 * self._terms.length,))
        if self._proving is not None:
            size = self._proving.bound.claim.proof_bytes
            proof = decoded(arrays[PROOF], np.dtype(np.uint8), (size,))
            self._proving.check(node, proof.tobytes())
        values = secure_record(content, SECURE, MOST_BESIDE + 8 * len(self._members))
        return MaskedInput.from_dict({**values, "words": words.tobytes()})

    def _summed(self, phase: Revealing) -> GroupSum:
        masked = phase.close()
        quantiser = self._settings.quantiser(len(phase.group.members))
        words = masked.words
        if self._proving is not None:
            self._proving.check_sum(masked, quantiser)
            words = words[: HEADER_SLOTS + self._round.layout.num_parameters]
        try:
            found = read_sum(words, len(masked.nodes), quantiser, self._unit)
        except DataError as error:
            raise FederationError(f"the sum of {len(masked.nodes)} updates: {error}") from None
        return GroupSum(masked.nodes, found.mean, found.header, masked.wrong_holders)


def _bound_of(around: Round, settings: MaskedSums) -> NormBound | None:
    """Return what nodes prove; ``None`` where they prove nothing."""
    if settings.norm_bound is None:
        return None
    return NormBound(settings, around.layout.num_parameters)
