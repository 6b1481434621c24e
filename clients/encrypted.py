"""A node's answers in an encrypted sum; see `daafl.secure.he.node` for the phases.

Between two messages the key and the sum wait in `Context.state`, which a SuperNode keeps in memory;
a node that restarts takes part again when the next key is dealt.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from daafl.clients.contributing import contributed
from daafl.clients.identity import identity
from daafl.clients.memory import next_sequence
from daafl.clients.parts import NodeParts
from daafl.clients.replies import telemetry
from daafl.clients.sensors import measured
from daafl.clients.summing import (
    TRAINED,
    Latest,
    array_bytes,
    check_federation,
    record_of,
    reply_of,
    unit_of,
)
from daafl.errors import MessageError
from daafl.flower import config_record, record_dict
from daafl.learning.assigned import assigned_key
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
    TELEMETRY,
    TRAIN_ENCRYPTED,
    VOLATILE,
    WORDS,
    Assignment,
    Envelope,
)
from daafl.secure.fields import Fields
from daafl.secure.he.ciphertexts import SUM_BYTES
from daafl.secure.he.dealing import HeldKey, KeyMember
from daafl.secure.he.messages import KeyBox, KeyCohort, SumList, SumToDecrypt
from daafl.secure.he.node import SumNode
from daafl.secure.he.suspension import (
    key_of,
    key_values,
    member_of,
    member_values,
    sum_of,
    sum_values,
)
from daafl.secure.he.terms import EpochTerms, SumTerms
from daafl.secure.masked_vectors import bytes_of, words_of
from daafl.secure.settings import EncryptedSums
from daafl.secure.work import bytes_hash, work_hash

_MEMBER: Final = f"{VOLATILE}he-member"
_DEALT: Final = f"{VOLATILE}he-dealt"
_KEY: Final = f"{VOLATILE}he-key."  # followed by the branch
_SUM: Final = f"{VOLATILE}he-sum"
_EPOCHS: Final = Latest("daafl.he-epochs")  # the last key that was asked for
_ROUNDING_STREAM: Final = 11  # keeps these draws apart from those of the training


def answer_encrypted(app: ClientApp, settings: EncryptedSums, parts: NodeParts) -> None:
    """Let an app answer the questions of encrypted sums.

    Parameters
    ----------
    app
        Gets a handler for each question.
    settings
        What the node asks of a sum.
    parts
        The node.
    """
    node = _EncryptedNode(settings, parts)
    app.query(QUERY_HE_KEYS.removeprefix("query."))(node.keys)
    app.query(QUERY_HE_DEAL.removeprefix("query."))(node.deal)
    app.train(TRAIN_ENCRYPTED.removeprefix("train."))(node.encrypted)
    app.query(QUERY_HE_CONFIRM.removeprefix("query."))(node.confirmation)
    app.query(QUERY_HE_DECRYPT.removeprefix("query."))(node.decrypted)


class _EncryptedNode:
    def __init__(self, settings: EncryptedSums, parts: NodeParts) -> None:
        self._settings = settings
        self._keys = parts.keys
        self._do = parts.do
        self._layout = parts.layout
        self._store = parts.store
        self._sensors = parts.sensors

    def keys(self, message: Message, context: Context) -> Message:
        """Return a fresh public key, for the box of a key that will be dealt."""
        assignment = Assignment.from_record(record_of(message, CONFIG))
        asked = Fields.of(dict(record_of(message, SECURE)), "the request for a key")
        epoch = asked.integer(EPOCH)
        asked.end()
        keys = self._keys(context)
        check_federation(assignment, keys.roster.federation, self._layout())
        _EPOCHS.check_new(context, epoch)
        terms = EpochTerms(keys.roster, assignment.branch, epoch)
        member = KeyMember.new(terms, identity(context).node, keys.identity)
        _EPOCHS.note(context, epoch)
        context.state.pop(_DEALT, None)
        context.state[_MEMBER] = config_record(member_values(member))
        return reply_of(message, member.advertisement().to_dict())

    def deal(self, message: Message, context: Context) -> Message:
        """Return a new key for everybody who advertised, each in a box."""
        if _DEALT in context.state:  # a second set of boxes would use their keys again
            raise MessageError("phase", "this node has dealt a key for this epoch already")
        context.state[_DEALT] = config_record({})
        cohort = KeyCohort.from_dict(dict(record_of(message, SECURE)))
        return reply_of(message, self._member(context).deal(cohort).to_dict())

    def encrypted(self, message: Message, context: Context) -> Message:
        """Train, and return what came of it encrypted."""
        start_s = time.perf_counter()
        asked = Fields.of(dict(record_of(message, SECURE)), "the frame of an encrypted sum")
        attempt, epoch = asked.integer(ATTEMPT), asked.integer(EPOCH)
        asked.end()
        unit = unit_of(message)
        assignment = Assignment.from_record(record_of(message, CONFIG))
        keys = self._keys(context)
        check_federation(assignment, keys.roster.federation, self._layout())
        TRAINED.check_new(context, assignment.version, assignment.draw)
        held = self._dealt(message, context, assignment.branch)
        if held.group.terms.epoch != epoch:
            raise MessageError(
                "epoch",
                f"the sum is under the key of epoch {epoch}, this node holds that of "
                f"{held.group.terms.epoch}",
            )
        TRAINED.note(context, assignment.version, assignment.draw)
        work = self._do(message, context)
        layout = self._layout()
        terms = self._settings.terms(
            held.group,
            slices(layout),
            round=assignment.version,
            attempt=attempt,
            model_hash=bytes_hash(work.received.packed.data),
            plan_hash=work_hash(assignment, unit, repr(self._settings)),
        )
        node = SumNode(
            terms, work.who.node, keys.identity, held, processes=self._settings.processes
        )
        quantiser = self._settings.quantiser(len(held.group.members))
        rng = np.random.default_rng([_ROUNDING_STREAM, assigned_key(assignment, work.who.node)])
        result = node.encrypt(words_of(contributed(work, layout), quantiser, unit, rng))
        context.state[_SUM] = config_record(sum_values(node) | {"branch": assignment.branch})
        values = result.to_dict()
        for name in ("ciphertexts", "clear"):  # as an array, since a record's values are copied
            del values[name]
        data = np.concatenate([bytes_of(result.clear), np.frombuffer(result.ciphertexts, np.uint8)])
        envelope = Envelope(
            federation=assignment.federation,
            branch=assignment.branch,
            base_version=assignment.version,
            node=work.who.node,
            sequence=next_sequence(context, self._store, assignment.federation, work.who.node),
            plan_hash=assignment.plan_hash,
            privacy_claim=work.claim,
        )
        content = record_dict(
            {
                SECURE: config_record(values),
                ARRAYS: ArrayRecord({CIPHERTEXTS: Array(data)}),
                ENVELOPE: envelope.to_record(),
                TELEMETRY: telemetry(work.trained.steps, start_s, measured(self._sensors, context)),
            }
        )
        return Message(content, reply_to=message)

    def confirmation(self, message: Message, context: Context) -> Message:
        """Return a signature under the list of those whose vectors arrived."""
        listed = SumList.from_dict(dict(record_of(message, SECURE)))
        node, branch = self._take_up(context)
        confirmation = node.confirm(listed)
        context.state[_SUM] = config_record(sum_values(node) | {"branch": branch})
        return reply_of(message, confirmation.to_dict())

    def decrypted(self, message: Message, context: Context) -> Message:
        """Return the sum in the clear; it is then over and forgotten."""
        node, _ = self._take_up(context)
        most = node.terms.num_chunks * SUM_BYTES
        asked = SumToDecrypt.from_dict(
            {
                **dict(record_of(message, SECURE)),
                "ciphertexts": array_bytes(message, CIPHERTEXTS, most),
            }
        )
        result = node.decrypt(asked)
        values = result.to_dict()
        del values["words"]
        content = record_dict(
            {
                SECURE: config_record(values),
                ARRAYS: ArrayRecord({WORDS: Array(bytes_of(result.words))}),
            }
        )
        return Message(content, reply_to=message)

    def _dealt(self, message: Message, context: Context, branch: str) -> HeldKey:
        """Return the key that came with a message, or that this node holds on a branch."""
        if DEALT in message.content:
            box = KeyBox.from_dict(dict(record_of(message, DEALT)))
            held = self._member(context).accept(box)
            del context.state[_MEMBER]
            context.state[_KEY + branch] = config_record(key_values(held))
        return self._held(context, branch)

    def _held(self, context: Context, branch: str) -> HeldKey:
        record = context.state.get(_KEY + branch)
        if record is None:
            raise MessageError("epoch", f"this node holds no key on branch {branch!r}")
        return key_of(dict(record), self._keys(context).roster)

    def _member(self, context: Context) -> KeyMember:
        record = context.state.get(_MEMBER)
        if record is None:
            raise MessageError("phase", "this node advertised no key for a box")
        keys = self._keys(context)
        return member_of(dict(record), keys.roster, identity(context).node, keys.identity)

    def _take_up(self, context: Context) -> tuple[SumNode, str]:
        """Return the sum and its branch and forget it, so that nothing is answered twice in it."""
        record = context.state.pop(_SUM, None)
        if record is None:
            raise MessageError("phase", "this node has no encrypted sum that it takes part in")
        values = dict(record)
        branch = str(values.pop("branch"))
        held = self._held(context, branch)

        def make_terms(version: int, attempt: int, model_hash: bytes, plan_hash: bytes) -> SumTerms:
            return self._settings.terms(
                held.group,
                slices(self._layout()),
                round=version,
                attempt=attempt,
                model_hash=model_hash,
                plan_hash=plan_hash,
            )

        node = sum_of(
            values,
            make_terms,
            identity(context).node,
            self._keys(context).identity,
            held,
            processes=self._settings.processes,
        )
        return node, branch
