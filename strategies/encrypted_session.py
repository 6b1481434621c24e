"""An encrypted sum over Flower's messages: a key where there is none, then three questions.

====================  ======================  ============================================
message type          what a node gets        what it answers
====================  ======================  ============================================
``he_keys``           for which key           a fresh public key
``he_deal``           everybody's (one node)  the group's key, in a box for each
``train.encrypted``   its box and the model   its update, encrypted
``he_confirm``        whose updates came      a signature under that
``he_decrypt``        the sum (one node)      the sum in the clear
====================  ======================  ============================================

The first two are left out while the nodes hold a key. If the one node that deals or decrypts is
lost, another is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from daafl.decoding import decoded
from daafl.errors import DataError, FederationError, MessageError
from daafl.flower import config_record, record_dict
from daafl.learning.slices import slices
from daafl.messages import (
    ARRAYS,
    ATTEMPT,
    CIPHERTEXTS,
    CONFIG,
    DEALT,
    ENVELOPE,
    EPOCH,
    QUERY_HE_CONFIRM,
    QUERY_HE_DEAL,
    QUERY_HE_DECRYPT,
    QUERY_HE_KEYS,
    SECURE,
    SUMMING,
    TELEMETRY,
    TRAIN_ENCRYPTED,
    UNIT,
    WORDS,
)
from daafl.secure.he.ciphertexts import FRESH_BYTES
from daafl.secure.he.key_server import Dealing, KeyAdvertisements
from daafl.secure.he.messages import (
    KEY_BOX_BYTES,
    DealtKeys,
    DecryptedSum,
    EncryptedInput,
    KeyAdvertisement,
    KeyBox,
)
from daafl.secure.he.server import Confirming, Decrypting, Inputs
from daafl.secure.he.terms import EpochTerms, KeyGroup, SumTerms
from daafl.secure.identity import SIGNATURE_BYTES
from daafl.secure.masked_vectors import read_sum
from daafl.secure.messages import Confirmation
from daafl.secure.settings import EncryptedSums
from daafl.secure.work import bytes_hash, work_hash
from daafl.strategies.exchange import Member
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

Phase = KeyAdvertisements | Dealing | Inputs | Confirming | Decrypting


class GroupKeys:
    """Who holds which key, as far as the coordinator knows: never the keys themselves."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[KeyGroup, int]] = {}

    def usable(
        self, settings: EncryptedSums, terms: EpochTerms, asked: Sequence[int], version: int
    ) -> KeyGroup | None:
        """Return the holders of a key that serves a sum over those asked; ``None`` if none does."""
        group, since = self._held.get(terms.branch, (None, version))
        is_due = settings.group_size is not None or settings.rotation.is_due(
            group, terms=terms, asked=asked, age=version - since
        )
        return None if is_due else group

    def note(self, group: KeyGroup, version: int) -> None:
        """Take down that a group was dealt a key."""
        self._held[group.terms.branch] = (group, version)

    def forget(self, branch: str) -> None:
        """Let the next sum have a key of its own, as some holders do not answer under this one."""
        self._held.pop(branch, None)


class EncryptedSession:
    """The coordinator's side of an encrypted sum over one group.

    Parameters
    ----------
    around
        The round.
    settings
        What is asked of a sum.
    keys
        Who holds which key.
    members
        The group.
    """

    def __init__(
        self,
        around: Round,
        settings: EncryptedSums,
        members: Sequence[Member],
        *,
        keys: GroupKeys,
    ) -> None:
        self._round = around
        self._settings = settings
        self._group_keys = keys
        self._members = {member.ticket.node: member for member in members}
        self._unit = unit_of(members)
        self._some = members[0].assignment
        # One epoch for each key: the round in which it was asked for.
        terms = EpochTerms(around.roster, self._some.branch, around.attempt)
        version = self._some.version
        group = self._group_keys.usable(self._settings, terms, tuple(self._members), version)
        self._boxes: dict[int, KeyBox] = {}
        self._phase: Phase
        if group is None:
            minimum = self._settings.min_nodes
            self._phase = KeyAdvertisements(terms, min_members=minimum)
            self._epoch = terms.epoch
        else:
            self._begin(group)

    def questions(self) -> Questions:
        """Return the message that opens the session, for every member."""
        if isinstance(self._phase, Inputs):
            return self._trainings()
        opening = config_record({EPOCH: self._epoch})
        return {
            node: Question(
                QUERY_HE_KEYS,
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
            case KeyAdvertisements() as phase:
                phase.receive(own(node, KeyAdvertisement.from_dict(values_of(content))))
            case Dealing() as phase:
                rows = len(phase.group.members) * (KEY_BOX_BYTES + SIGNATURE_BYTES)
                phase.receive(own(node, DealtKeys.from_dict(values_of(content, rows))))
            case Inputs() as phase:
                phase.receive(own(node, self._input(phase.terms, node, content)))
            case Confirming() as phase:
                phase.receive(own(node, Confirmation.from_dict(values_of(content))))
            case Decrypting() as phase:
                phase.receive(own(node, _decrypted(phase.terms, content)))

    def close(self) -> Questions | GroupSum:
        """End the present phase; see `Session.close`."""
        try:
            return self._next()
        except FederationError:
            self._group_keys.forget(self._some.branch)
            raise

    def _next(self) -> Questions | GroupSum:
        match self._phase:
            case KeyAdvertisements() as phase:
                self._phase, cohorts = phase.close()
                return {
                    node: question_of(QUERY_HE_DEAL, cohort.to_dict())
                    for node, cohort in cohorts.items()
                }
            case Dealing() as phase if not phase.is_dealt:
                self._phase, cohorts = phase.without_dealer()
                return {
                    node: question_of(QUERY_HE_DEAL, cohort.to_dict())
                    for node, cohort in cohorts.items()
                }
            case Dealing() as phase:
                group, self._boxes = phase.close()
                self._group_keys.note(group, self._some.version)
                self._begin(group)
                return self._trainings()
            case Inputs() as phase:
                self._phase, listed = phase.close()
                if not frozenset(self._members) & frozenset(phase.terms.group.members) <= frozenset(
                    listed.nodes
                ):
                    self._group_keys.forget(self._some.branch)
                return to_all(listed.nodes, QUERY_HE_CONFIRM, listed.to_dict())
            case Confirming() as phase:
                self._phase = phase.close()
                return self._asked(self._phase)
            case Decrypting() as phase:
                return self._asked(phase)

    def _begin(self, group: KeyGroup) -> None:
        around, some = self._round, self._some
        self._epoch = group.terms.epoch
        terms = self._settings.terms(
            group,
            slices(around.layout),
            round=some.version,
            attempt=around.attempt,
            model_hash=bytes_hash(around.packed.data),
            plan_hash=work_hash(some, self._unit, repr(self._settings)),
        )
        self._phase = Inputs(terms, num_decryptors=self._settings.num_decryptors)

    def _trainings(self) -> Questions:
        """Return the model for every member, with its box where a key was dealt."""
        asked = {}
        for node, member in self._members.items():
            if self._boxes and node not in self._boxes:
                continue
            records: dict[str, ArrayRecord | ConfigRecord] = {
                ARRAYS: self._round.model,
                CONFIG: member.assignment.to_record(),
                SECURE: config_record({ATTEMPT: self._round.attempt, EPOCH: self._epoch}),
                SUMMING: config_record({UNIT: self._unit}),
            }
            if self._boxes:
                records[DEALT] = config_record(self._boxes[node].to_dict())
            asked[node] = Question(TRAIN_ENCRYPTED, record_dict(records))
        return asked

    def _input(self, terms: SumTerms, node: int, content: RecordDict) -> EncryptedInput:
        """Return a node's ciphertexts, checked as far as anyone can see into them."""
        check_names(content, SECURE, ARRAYS, ENVELOPE, TELEMETRY)
        check_work(content, self._members[node], self._round.claim)
        clear = 4 * terms.selection.num_clear
        data = _data(content, CIPHERTEXTS, clear + terms.num_chunks * FRESH_BYTES)
        values = secure_record(content, SECURE, MOST_BESIDE)
        return EncryptedInput.from_dict(
            {**values, "clear": data[:clear], "ciphertexts": data[clear:]}
        )

    def _asked(self, phase: Decrypting) -> Questions | GroupSum:
        """Return the sum, or the message for those who are to decrypt it."""
        nodes = () if phase.is_complete else phase.ask()
        if not nodes:
            return self._summed(phase)
        values = phase.message.to_dict()
        del values["ciphertexts"]  # as an array, since a record's values are copied
        ciphertexts = Array(np.frombuffer(phase.message.ciphertexts, np.uint8))
        content = record_dict(
            {SECURE: config_record(values), ARRAYS: ArrayRecord({CIPHERTEXTS: ciphertexts})}
        )
        return dict.fromkeys(nodes, Question(QUERY_HE_DECRYPT, content))

    def _summed(self, phase: Decrypting) -> GroupSum:
        total = phase.close()
        quantiser = self._settings.quantiser(len(phase.terms.group.members))
        try:
            found = read_sum(total.words, len(total.nodes), quantiser, self._unit)
        except DataError as error:
            raise FederationError(f"the sum of {len(total.nodes)} updates: {error}") from None
        return GroupSum(total.nodes, found.mean, found.header, total.wrong_decryptors)


def _decrypted(terms: SumTerms, content: RecordDict) -> DecryptedSum:
    check_names(content, SECURE, ARRAYS)
    data = _data(content, WORDS, 4 * terms.selection.num_hidden)
    return DecryptedSum.from_dict({**secure_record(content, SECURE, MOST_BESIDE), "words": data})


def _data(content: RecordDict, key: str, most: int) -> bytes:
    """Return the bytes of an array of at most ``most``."""
    array = arrays_of(content, ARRAYS, (key,))[key]
    if len(array.shape) != 1:
        raise MessageError("schema", f"{key} are no array of one dimension")
    size = array.shape[0]
    if type(size) is not int or not 0 <= size <= most:
        raise MessageError("size", f"{key} have {size} bytes, at most {most} are accepted")
    return decoded(array, np.dtype(np.uint8), (size,)).tobytes()
