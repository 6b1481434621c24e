"""A node's answers in a masked sum; see `daafl.secure.protocol` for the five phases.

Training happens in the third, when the masks are agreed on. Between two messages the session waits
in `Context.state`, which a SuperNode keeps in memory; a node that restarts takes part again in the
next session only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from daafl.clients.identity import identity
from daafl.clients.memory import next_sequence
from daafl.clients.replies import reportable, telemetry
from daafl.clients.security import KeysOf
from daafl.clients.sensors import Sensors, measured
from daafl.clients.work import Work
from daafl.errors import MessageError
from daafl.flower import config_record, record_dict
from daafl.learning.layout import Layout
from daafl.messages import (
    ARRAYS,
    ATTEMPT,
    CONFIG,
    ENVELOPE,
    LENGTH,
    MAX_COUNT,
    MODEL_HASH,
    QUERY_CONFIRM,
    QUERY_KEYS,
    QUERY_REVEAL,
    QUERY_SHARES,
    SECURE,
    SUMMING,
    TELEMETRY,
    TRAIN_MASKED,
    UNIT,
    VOLATILE,
    WORDS,
    WORK_HASH,
    Assignment,
    Envelope,
)
from daafl.secure.fields import Fields
from daafl.secure.header import Header
from daafl.secure.masked_vectors import Contribution, bytes_of, words_of
from daafl.secure.messages import HASH_BYTES, Cohort, Confirmations, Delivery, Plain, Survivors
from daafl.secure.protocol import Node
from daafl.secure.settings import MaskedSums
from daafl.secure.suspension import resumed, suspended
from daafl.secure.terms import Terms
from daafl.secure.work import bytes_hash, work_hash
from daafl.store.node_store import NodeStore

_SESSION: Final = f"{VOLATILE}masked-session"
_LATEST: Final = "daafl.masked"  # the last session in which a masked vector was sent, by branch

Do = Callable[[Message, Context], Work]
T = TypeVar("T", Cohort, Delivery, Survivors, Confirmations)


def answer_masked(
    app: ClientApp,
    settings: MaskedSums,
    keys: KeysOf,
    *,
    do: Do,
    layout: Callable[[], Layout],
    store: NodeStore | None,
    sensors: Sensors,
) -> None:
    """Let an app answer the questions of masked sums.

    Parameters
    ----------
    app
        Gets five handlers.
    settings, keys
        What is asked of a sum, and the node's keys.
    do
        Trains the model in a message.
    layout
        Returns the layout of the node's model.
    store
        Durable memory of the node, if it has one.
    sensors
        What the node measures about itself.
    """
    node = _MaskedNode(settings, keys, do, layout, store, sensors)
    app.query(QUERY_KEYS.removeprefix("query."))(node.keys)
    app.query(QUERY_SHARES.removeprefix("query."))(node.shares)
    app.train(TRAIN_MASKED.removeprefix("train."))(node.masked)
    app.query(QUERY_CONFIRM.removeprefix("query."))(node.confirmation)
    app.query(QUERY_REVEAL.removeprefix("query."))(node.revelation)


class _MaskedNode:
    def __init__(
        self,
        settings: MaskedSums,
        keys: KeysOf,
        do: Do,
        layout: Callable[[], Layout],
        store: NodeStore | None,
        sensors: Sensors,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._do = do
        self._layout = layout
        self._store = store
        self._sensors = sensors

    def keys(self, message: Message, context: Context) -> Message:
        """Begin a session and return two fresh public keys."""
        assignment = Assignment.from_record(_record(message, CONFIG))
        asked = Fields.of(dict(_record(message, SECURE)), "the opening of a masked sum")
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
        self._check_federation(assignment, keys.roster.federation)
        _check_new(context, terms)
        node = Node(terms, who, keys.identity)
        reply = _reply(message, node.advertisement.to_dict())
        self._put_aside(context, node)
        return reply

    def shares(self, message: Message, context: Context) -> Message:
        """Return shares of this node's secrets for its neighbours."""
        node = self._take_up(context)
        shares = node.share(_parsed(message, Cohort))
        self._put_aside(context, node)
        return _reply(message, shares.to_dict())

    def masked(self, message: Message, context: Context) -> Message:
        """Train, and return what came of it under masks."""
        start_s = time.perf_counter()
        node = self._take_up(context)
        terms = node.terms
        delivery = _parsed(message, Delivery)
        summing = Fields.of(dict(_record(message, SUMMING)), "the frame of a sum")
        unit = summing.integer(UNIT)
        summing.end()
        assignment = Assignment.from_record(_record(message, CONFIG))
        self._check_work(assignment, terms, unit)
        work = self._do(message, context)
        if bytes_hash(work.received.packed.data) != terms.model_hash:
            raise MessageError("model", "the model is not the one that the session was opened for")
        _note(context, terms)
        vector = self._layout().vector
        contribution = Contribution(
            vector(work.trained.packed) - vector(work.received.packed),
            Header(work.trained.num_examples, max(reportable(work.trained.loss_before), 0.0)),
        )
        quantiser = self._settings.quantiser(node.num_members)
        masked = node.mask(delivery, words_of(contribution, quantiser, unit))
        self._put_aside(context, node)
        values = masked.to_dict()
        del values["words"]  # as an array, since a record's values are copied
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
                ARRAYS: ArrayRecord({WORDS: Array(bytes_of(masked.words))}),
                ENVELOPE: envelope.to_record(),
                TELEMETRY: telemetry(work.trained.steps, start_s, measured(self._sensors, context)),
            }
        )
        return Message(content, reply_to=message)

    def confirmation(self, message: Message, context: Context) -> Message:
        """Return a signature under the list of those whose vectors arrived."""
        node = self._take_up(context)
        confirmation = node.confirm(_parsed(message, Survivors))
        self._put_aside(context, node)
        return _reply(message, confirmation.to_dict())

    def revelation(self, message: Message, context: Context) -> Message:
        """Return shares of the neighbours' secrets; the session is then over and forgotten."""
        node = self._take_up(context)
        return _reply(message, node.reveal(_parsed(message, Confirmations)).to_dict())

    def _check_federation(self, assignment: Assignment, federation: str) -> None:
        if assignment.federation != federation:
            raise MessageError(
                "federation",
                f"the coordinator speaks for federation {assignment.federation!r}, this node's "
                f"roster is that of {federation!r}",
            )
        digest = self._layout().digest
        if assignment.layout != digest:
            raise MessageError(
                "layout",
                f"the coordinator's model has layout {assignment.layout}, this node's has {digest}",
            )

    def _check_work(self, assignment: Assignment, terms: Terms, unit: int) -> None:
        """Refuse work that is not what all members of the sum agreed to do."""
        if not 1 <= unit <= MAX_COUNT:
            raise MessageError("schema", f"{UNIT} is {unit}; it must be 1 to {MAX_COUNT}")
        found = work_hash(
            plan_hash=assignment.plan_hash,
            lr=assignment.lr,
            local_steps=assignment.local_steps,
            batch_size=assignment.batch_size,
            settings=assignment.settings,
            unit=unit,
            value_range=self._settings.value_range,
        )
        asked = (assignment.branch, assignment.version, found)
        if asked != (terms.branch, terms.round, terms.plan_hash):
            raise MessageError("plan", "the work is not what the session was opened for")

    def _put_aside(self, context: Context, node: Node) -> None:
        context.state[_SESSION] = config_record(suspended(node))

    def _take_up(self, context: Context) -> Node:
        """Return the session and forget it, so that nothing is answered twice under it."""
        record = context.state.pop(_SESSION, None)
        if not isinstance(record, ConfigRecord):
            raise MessageError("phase", "this node has no masked sum that it takes part in")
        keys = self._keys(context)
        return resumed(dict(record), keys.roster, self._settings.policy, keys.identity)


def _check_new(context: Context, terms: Terms) -> None:
    """Refuse a session that is not newer than the last in which this node sent its vector.

    Two sums over the same update with one member more or less would show that member's.
    """
    record = context.state.get(_LATEST)
    last = record.get(terms.branch) if isinstance(record, ConfigRecord) else None
    if isinstance(last, str) and (terms.round, terms.attempt) <= _numbers(last):
        raise MessageError(
            "freshness",
            f"session {terms.attempt} at version {terms.round} is not newer than the last in which "
            f"this node sent its update",
        )


def _note(context: Context, terms: Terms) -> None:
    record = context.state.get(_LATEST)
    latest = dict(record) if isinstance(record, ConfigRecord) else {}
    latest[terms.branch] = f"{terms.round} {terms.attempt}"
    context.state[_LATEST] = ConfigRecord(latest)


def _numbers(text: str) -> tuple[int, int]:
    version, attempt = text.split()
    return int(version), int(attempt)


def _record(message: Message, name: str) -> ConfigRecord:
    record = message.content.get(name)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", f"the message has no record {name!r} of settings")
    return record


def _parsed(message: Message, kind: type[T]) -> T:
    return kind.from_dict(dict(_record(message, SECURE)))


def _reply(message: Message, values: Plain) -> Message:
    return Message(RecordDict({SECURE: config_record(values)}), reply_to=message)
