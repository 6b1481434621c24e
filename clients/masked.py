"""A node's answers in a masked sum; see `daafl.secure.protocol` for the five phases.

Training happens in the third, when the masks are agreed on; where norms are proved it happens one
message earlier, and the vector waits under a commitment. Between two messages the session waits in
`Context.state`, which a SuperNode keeps in memory; a node that restarts takes part again in the
next session only.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from daafl.clients.contributing import clip_bound, contributed
from daafl.clients.identity import identity
from daafl.clients.memory import next_sequence
from daafl.clients.parts import NodeParts
from daafl.clients.sensors import measured
from daafl.clients.summing import (
    TRAINED,
    check_federation,
    record_of,
    reply_of,
    seed_of,
    unit_of,
)
from daafl.clients.waiting import Vector
from daafl.errors import MessageError
from daafl.flower import config_record, record_dict
from daafl.learning.assigned import assigned_key
from daafl.messages import (
    ARRAYS,
    ATTEMPT,
    COMMITMENT,
    CONFIG,
    ENVELOPE,
    LENGTH,
    MODEL_HASH,
    PROOF,
    QUERY_CONFIRM,
    QUERY_KEYS,
    QUERY_REVEAL,
    QUERY_SHARES,
    SECONDS,
    SECURE,
    SIGNATURE,
    STEPS,
    TELEMETRY,
    TRAIN_COMMITTED,
    TRAIN_MASKED,
    VOLATILE,
    WORDS,
    WORK_HASH,
    Assignment,
    Envelope,
)
from daafl.secure.fields import Fields
from daafl.secure.masked_vectors import Contribution, bytes_of, words_of
from daafl.secure.messages import HASH_BYTES, Cohort, Confirmations, Delivery, Survivors
from daafl.secure.protocol import Node
from daafl.secure.settings import MaskedSums
from daafl.secure.suspension import resumed, suspended
from daafl.secure.terms import Terms
from daafl.secure.work import bytes_hash, work_hash

if TYPE_CHECKING:
    from daafl.secure.norm_bound import NormBound

_SESSION: Final = f"{VOLATILE}masked-session"

T = TypeVar("T", Cohort, Delivery, Survivors, Confirmations)


def answer_masked(app: ClientApp, settings: MaskedSums, parts: NodeParts) -> None:
    """Let an app answer the questions of masked sums.

    Parameters
    ----------
    app
        Gets a handler for each question.
    settings
        What the node asks of a sum.
    parts
        The node.
    """
    node = _MaskedNode(settings, parts)
    app.query(QUERY_KEYS.removeprefix("query."))(node.keys)
    app.query(QUERY_SHARES.removeprefix("query."))(node.shares)
    if settings.norm_bound is not None:
        app.train(TRAIN_COMMITTED.removeprefix("train."))(node.committed)
    app.train(TRAIN_MASKED.removeprefix("train."))(node.masked)
    app.query(QUERY_CONFIRM.removeprefix("query."))(node.confirmation)
    app.query(QUERY_REVEAL.removeprefix("query."))(node.revelation)


class _MaskedNode:
    def __init__(self, settings: MaskedSums, parts: NodeParts) -> None:
        self._settings = settings
        self._keys = parts.keys
        self._do = parts.do
        self._layout = parts.layout
        self._store = parts.store
        self._sensors = parts.sensors

    def keys(self, message: Message, context: Context) -> Message:
        """Begin a session and return two fresh public keys."""
        assignment = Assignment.from_record(record_of(message, CONFIG))
        asked = Fields.of(dict(record_of(message, SECURE)), "the opening of a masked sum")
        who, keys = identity(context).node, self._keys(context)
        terms = Terms(
            roster=keys.roster,
            branch=assignment.branch,
            round=assignment.version,
            attempt=asked.integer(ATTEMPT),
            model_hash=asked.data(MODEL_HASH, HASH_BYTES),
            plan_hash=asked.data(WORK_HASH, HASH_BYTES),
            length=asked.integer(LENGTH),
            policy=self._settings.policy,
        )
        asked.end()
        check_federation(assignment, keys.roster.federation, self._layout())
        TRAINED.check_new(context, assignment.version, assignment.draw)
        Vector.forget(context)
        node = Node(terms, who, keys.identity)
        reply = reply_of(message, node.advertisement.to_dict())
        self._put_aside(context, node)
        return reply

    def shares(self, message: Message, context: Context) -> Message:
        """Return shares of this node's secrets for its neighbours."""
        node = self._take_up(context)
        shares = node.share(_parsed(message, Cohort))
        self._put_aside(context, node)
        return reply_of(message, shares.to_dict())

    def committed(self, message: Message, context: Context) -> Message:
        """Train, and return a commitment to what came of it; the vector itself waits."""
        from daafl.secure.norm_bound import signed_commitment

        node = self._take_up(context)
        group, who = node.group, identity(context).node
        Vector.check_none(context)
        vector = self._trained(message, context, node)
        quantiser = self._settings.quantiser(len(group.members))
        commitment, words = self._norm_bound.committed(vector.words, quantiser, group, who)
        vector.put_aside(context, group.session, words, commitment)
        self._put_aside(context, node)
        signed = self._keys(context).identity.sign(signed_commitment(group, who, commitment))
        return reply_of(message, {COMMITMENT: commitment, SIGNATURE: signed})

    def masked(self, message: Message, context: Context) -> Message:
        """Return this node's vector under masks, and the proof of its norm if one is asked for."""
        node = self._take_up(context)
        delivery = _parsed(message, Delivery)
        arrays: dict[str, Array] = {}
        if self._settings.norm_bound is None:
            vector = self._trained(message, context, node)
        else:
            vector, commitment = Vector.taken_up(context, node.group.session)
            proof = self._norm_bound.proof(
                vector.words,
                commitment,
                self._settings.quantiser(len(node.group.members)),
                node.group,
                identity(context).node,
                seed=seed_of(message),
            )
            arrays[PROOF] = Array(np.frombuffer(proof, np.uint8))
        masked = node.mask(delivery, vector.words)
        self._put_aside(context, node)
        values = masked.to_dict()
        del values["words"]  # as an array, since a record's values are copied
        arrays[WORDS] = Array(bytes_of(masked.words))
        readings = measured(self._sensors, context)
        content = record_dict(
            {
                SECURE: config_record(values),
                ARRAYS: ArrayRecord(arrays),
                ENVELOPE: self._envelope(message, context, vector.claim).to_record(),
                TELEMETRY: config_record(
                    {STEPS: vector.steps, SECONDS: vector.seconds, **readings}
                ),
            }
        )
        return Message(content, reply_to=message)

    def confirmation(self, message: Message, context: Context) -> Message:
        """Return a signature under the list of those whose vectors arrived."""
        node = self._take_up(context)
        confirmation = node.confirm(_parsed(message, Survivors))
        self._put_aside(context, node)
        return reply_of(message, confirmation.to_dict())

    def revelation(self, message: Message, context: Context) -> Message:
        """Return shares of the neighbours' secrets; the session is then over and forgotten."""
        node = self._take_up(context)
        return reply_of(message, node.reveal(_parsed(message, Confirmations)).to_dict())

    def _trained(self, message: Message, context: Context, node: Node) -> Vector:
        """Do the work that all members of the sum agreed on, and return the words it gives."""
        start_s = time.perf_counter()
        if not node.is_unmasked:
            raise MessageError("phase", "this node has sent its vector in this session")
        terms, unit = node.terms, unit_of(message)
        assignment = Assignment.from_record(record_of(message, CONFIG))
        found = work_hash(assignment, unit, repr(self._settings))
        asked = (assignment.branch, assignment.version, found)
        if asked != (terms.branch, terms.round, terms.plan_hash):
            raise MessageError("plan", "the work is not what the session was opened for")
        TRAINED.check_new(context, assignment.version, assignment.draw)
        TRAINED.note(context, assignment.version, assignment.draw)
        work = self._do(message, context)
        if bytes_hash(work.received.packed.data) != terms.model_hash:
            raise MessageError("model", "the model is not the one that the session was opened for")
        contribution, rng = contributed(work, self._layout()), None
        if self._settings.norm_bound is not None:
            is_told = clip_bound(assignment) is not None
            contribution = self._within_bound(contribution, is_told=is_told)
            rng = np.random.default_rng(assigned_key(assignment, work.who.node))
        quantiser = self._settings.quantiser(len(node.group.members))
        words = words_of(contribution, quantiser, unit, rng)
        seconds = time.perf_counter() - start_s
        return Vector(words, work.trained.steps, seconds, work.claim)

    def _within_bound(self, contribution: Contribution, *, is_told: bool) -> Contribution:
        delta, was_within = self._norm_bound.clipped(contribution.delta)
        # Of two bounds the bit is about the one that follows it: the other would drive it off.
        is_within = contribution.header.is_within_clip if is_told else was_within
        return Contribution(delta, replace(contribution.header, is_within_clip=is_within))

    @property
    def _norm_bound(self) -> NormBound:
        from daafl.secure.norm_bound import NormBound  # proofs are for those who ask for them

        return NormBound(self._settings, self._layout().num_parameters)

    def _envelope(self, message: Message, context: Context, claim: str | None) -> Envelope:
        assignment = Assignment.from_record(record_of(message, CONFIG))
        who = identity(context).node
        return Envelope(
            federation=assignment.federation,
            branch=assignment.branch,
            base_version=assignment.version,
            node=who,
            sequence=next_sequence(context, self._store, assignment.federation, who),
            plan_hash=assignment.plan_hash,
            privacy_claim=claim,
        )

    def _put_aside(self, context: Context, node: Node) -> None:
        context.state[_SESSION] = config_record(suspended(node))

    def _take_up(self, context: Context) -> Node:
        """Return the session and forget it, so that nothing is answered twice under it."""
        record = context.state.pop(_SESSION, None)
        if not isinstance(record, ConfigRecord):
            raise MessageError("phase", "this node has no masked sum that it takes part in")
        keys = self._keys(context)
        return resumed(dict(record), keys.roster, self._settings.policy, keys.identity)


def _parsed(message: Message, kind: type[T]) -> T:
    return kind.from_dict(dict(record_of(message, SECURE)))
