"""Trains many simulated nodes as one computation, with the replies that each would give."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, NoReturn

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
)
from numpy.typing import NDArray

from daafl.clients.identity import Identity, identity
from daafl.clients.memory import has_sent
from daafl.clients.model_records import ReceivedModel, received_model
from daafl.clients.private import PrivateTraining, declined, has_declined
from daafl.clients.private_cohorts import Asked, PrivateCohorts
from daafl.clients.replies import assignment_of, reportable, telemetry, training_reply
from daafl.errors import BudgetError, MessageError
from daafl.flower import (
    ClientAppCallable,
    Mod,
    array_record,
    config_record,
    metric_record,
    record_dict,
)
from daafl.keyed_random import mixed
from daafl.lazy_array import LazyArray
from daafl.learning.assigned import assigned_keys, assigned_work
from daafl.learning.choice import Choice, Method
from daafl.learning.cohort import CohortTrainer, Member
from daafl.learning.examples import Examples
from daafl.learning.layout import Packed
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork
from daafl.messages import (
    ARRAYS,
    COHORT,
    COHORT_NODE,
    DRAWS,
    ENVELOPE,
    METRICS,
    NODES,
    NUM_EXAMPLES,
    PACKED,
    TELEMETRY,
    TIME_S,
    TRAIN_LOSS,
    Assignment,
    Envelope,
)
from daafl.simulation.wire import packed, unpacked
from daafl.store.tree import Tree

_TRIED: Final = 32  # members on which ways to train are compared

_JOB_WORK: Final = 26_000_000
"""Weights times examples of a job; enough for a job not to notice that it is one of several."""

_LEAST_TOGETHER: Final = 4
_MOST_TOGETHER: Final = 128  # larger computations are hardly faster

_MAX_REASON: Final = 500  # characters

Answered = tuple[Message, Context]


class TaskCohorts:
    """Answers TRAIN messages that share a model, as `daafl.clients.client_app` does one by one.

    Replies hold rows of one stack, so a model becomes bytes only if somebody asks for them.

    Parameters
    ----------
    task
        What to train.
    num_nodes
        Nodes of the federation.
    work
        What nodes are going to be asked for, roughly: ways to train are timed on it.
    mods
        Flower mods around every message, outermost first. They run once to see what reaches the
        training, and again around its result; what they keep in `Context.state` counts once.
    method
        How to train; ``auto`` finds out what is fastest.
    private
        What nodes guarantee about their data, and their ledgers; ``None`` for nothing.
    """

    def __init__(
        self,
        task: Task,
        num_nodes: int,
        *,
        work: LocalWork,
        mods: Sequence[Mod] = (),
        method: Literal["auto"] | Method = "auto",
        private: PrivateTraining | None = None,
    ) -> None:
        self._task = task
        self._num_nodes = num_nodes
        self._work = work
        self._mods = tuple(mods)
        self._method = method
        # Under privacy, what was asked for is looked at before it is taken: see `prepare`.
        self._trainer = CohortTrainer(task, method=method if private is None else "auto")
        self._private = None if private is None else PrivateCohorts(private, self._trainer)

    @property
    def choice(self) -> Choice | None:
        """How cohorts are trained, and why; ``None`` before that has been decided."""
        return self._trainer.choice

    def prepare(self) -> None:
        """Decide how cohorts are trained, unless that has been decided before."""
        if self._trainer.choice is not None:
            return
        private = None if self._private is None else self._private.choice(self._method)
        if private is not None:
            self._trainer.load(private)
            return
        try:
            members = [
                Member(self._examples(node, 0.0), self._work, int(mixed(node)))
                for node in range(min(_TRIED, self._num_nodes))
            ]
            self._trainer.choose(self._trainer.trainer.initial(seed=0), members)
        except Exception as error:  # a task may raise anything; each node will say so by itself
            reason = f"the trial failed: {type(error).__name__}: {error}"
            self._trainer.load(Choice("eager", reason[:_MAX_REASON], {}))

    def is_together(self, message: Message) -> bool:
        """Return whether nodes are trained together at all, and the message asks for training."""
        choice = self._trainer.choice
        is_training = message.metadata.message_type == MessageType.TRAIN
        return is_training and choice is not None and choice.method != "eager"

    def most_together(self, message: Message) -> int:
        """Return how many nodes are trained in one job at most: work for some milliseconds."""
        asked = assignment_of(message, self._trainer.trainer.layout.digest)
        num_weights = self._trainer.trainer.layout.num_parameters
        per_node = max(asked.local_steps * asked.batch_size * num_weights, 1)
        return int(min(max(_JOB_WORK // per_node, _LEAST_TOGETHER), _MOST_TOGETHER))

    def answers(
        self, messages: Sequence[Message], contexts: Callable[[], Sequence[Context]]
    ) -> Sequence[Answered]:
        """Return each message's reply, and its node's context as the work has left it."""
        if not self._mods:
            columns = list(zip(messages, contexts(), strict=True))
            return list(zip(self._trained(columns), (c for _, c in columns), strict=True))
        return self._through_mods(messages, contexts)

    def steps(self, message: Message) -> float:
        """Return the local steps that a message asks of each node of a cohort."""
        return float(assignment_of(message, self._trainer.trainer.layout.digest).local_steps)

    def summed(self, message: Message, partitions: Sequence[int], time_s: float) -> Message:
        """Return one reply for the nodes of a cohort: their mean model, weighted by examples."""
        if self._private is not None:
            raise MessageError("privacy", "a cohort cannot answer for its nodes' own budgets")
        start_s = time.perf_counter()
        layout = self._trainer.trainer.layout
        assignment = assignment_of(message, layout.digest)
        base = received_model(message.content, self._trainer.trainer).packed
        work, keys = assigned_work(assignment), _keys(assignment, message, partitions)
        members = [
            Member(self._examples(node, time_s), work, key)
            for node, key in zip(partitions, keys, strict=True)
        ]
        total = self._trainer.summed(base, members)
        mean = layout.packed(layout.vector(base) + total.delta)
        return _cohort_reply(
            message, assignment, mean, partitions, total.num_examples, total.loss, start_s
        )

    def merged(self, message: Message, replies: Sequence[Message]) -> Message:
        """Return one reply for several that `summed` made of parts of a cohort, in their order."""
        start_s = time.perf_counter()
        layout = self._trainer.trainer.layout
        # What `summed` has made in this program: its records are known to be there.
        contents: list[Any] = [reply.content for reply in replies]
        counts: list[int] = [content[METRICS][NUM_EXAMPLES] for content in contents]
        losses: list[float] = [content[METRICS][TRAIN_LOSS] for content in contents]
        models = [layout.vector(content[ARRAYS][PACKED].numpy()) for content in contents]
        shares = np.array(counts) / sum(counts)
        mean = np.zeros(layout.num_parameters)
        with np.errstate(over="ignore", invalid="ignore"):  # the coordinator looks at the result
            for share, model in zip(shares, models, strict=True):
                mean += share * model
            loss = float(shares @ np.array(losses))
            packed_mean = layout.packed(mean.astype(layout.dtype))
        nodes: list[int] = [node for content in contents for node in content[COHORT][NODES]]
        assignment = assignment_of(message, layout.digest)
        return _cohort_reply(message, assignment, packed_mean, nodes, sum(counts), loss, start_s)

    def num_examples(self, partitions: Sequence[int]) -> NDArray[np.int64]:
        """Return how many training examples nodes hold; shape [partitions]."""
        return np.array([len(self._examples(node, 0.0)) for node in partitions], np.int64)

    def described(self) -> str:
        """Return in words how cohorts are trained, and why; empty before that is decided."""
        choice = self._trainer.choice
        return "" if choice is None else f"{choice.method}: {choice.reason}"

    def state(self) -> Tree:
        """Return how cohorts are trained, for a run that goes on later."""
        choice = self._trainer.choice
        return None if choice is None else choice.to_json()

    def load(self, state: Tree) -> None:
        """Train cohorts as an earlier run did.

        Raises
        ------
        StoreError
            If `state` is not a choice.
        """
        self._trainer.load(Choice.from_json(state))

    def _trained(self, columns: Sequence[Answered]) -> list[Message]:
        """Return the replies to messages that carry one model."""
        start_s = time.perf_counter()
        received = received_model(columns[0][0].content, self._trainer.trainer)
        layout = self._trainer.trainer.layout.digest
        known = [
            (message, assignment_of(message, layout), context, identity(context))
            for message, context in columns
        ]
        if self._private is not None:
            return self._trained_privately(self._private, received, known, start_s)
        keys = assigned_keys([asked[1] for asked in known], [asked[3].node for asked in known])
        members = [
            Member(self._examples(who.partition, _time_s(context)), assigned_work(assignment), key)
            for (_, assignment, context, who), key in zip(known, keys, strict=True)
        ]
        trained = self._trainer.train(received.packed, members)
        losses, counts = trained.loss_before.tolist(), trained.num_examples.tolist()
        return [
            training_reply(
                *asked,
                arrays=_arrays(trained.packed, row, received.names, self._trainer.trainer),
                num_examples=counts[row],
                loss=losses[row],
                steps=int(trained.steps[row]),
                start_s=start_s,
            )
            for row, asked in enumerate(known)
        ]

    def _trained_privately(
        self,
        private: PrivateCohorts,
        received: ReceivedModel,
        known: Sequence[tuple[Message, Assignment, Context, Identity]],
        start_s: float,
    ) -> list[Message]:
        asked = [
            Asked(
                self._examples(who.partition, _time_s(context)),
                assignment,
                who,
                has_spent=has_sent(context),
            )
            for _, assignment, context, who in known
        ]
        outcomes = private.trained(received.packed, asked)
        return [
            declined(each[0])
            if done is None
            else training_reply(
                *each,
                arrays=_arrays(done.packed[None], 0, received.names, self._trainer.trainer),
                num_examples=done.num_examples,
                loss=done.loss_before,
                steps=done.steps,
                start_s=start_s,
                claim=private.private.settings.claim,
            )
            for each, done in zip(known, outcomes, strict=True)
        ]

    def _through_mods(
        self, messages: Sequence[Message], contexts: Callable[[], Sequence[Context]]
    ) -> list[Answered]:
        """Return replies as mods leave them, with one training for all that reach it."""
        reached = {}
        for row, (message, context) in enumerate(zip(messages, contexts(), strict=True)):
            try:
                self._chain(_stop)(_own(message), context)
            except _Reached as stop:
                reached[row] = (stop.message, stop.context)
        trained = self._trained(list(reached.values())) if reached else []
        replies = dict(zip(reached, trained, strict=True))
        answered = []
        for row, (message, context) in enumerate(zip(messages, contexts(), strict=True)):
            inner = partial(_handed_over, replies.get(row), reached.get(row))
            try:
                answered.append((self._chain(inner)(_own(message), context), context))
            except BudgetError:
                answered.append((declined(message), context))
        return answered

    def _chain(self, inner: ClientAppCallable) -> ClientAppCallable:
        call = inner
        for mod in reversed(self._mods):
            call = partial(_modded, mod, call)
        return call

    def _examples(self, node: int, time_s: float) -> Examples:
        return self._task.node_data(node, self._num_nodes, time_s)


class _Reached(BaseException):
    """Carries a message out of the mods when it reaches the training."""

    def __init__(self, message: Message, context: Context) -> None:
        super().__init__()
        self.message = message
        self.context = context


def _stop(message: Message, context: Context) -> NoReturn:
    raise _Reached(message, context)


def _modded(mod: Mod, inner: ClientAppCallable, message: Message, context: Context) -> Message:
    return mod(message, context, inner)


def _handed_over(
    reply: Message | None, before: Answered | None, message: Message, context: Context
) -> Message:
    """Return the reply that was made for this message, and let its node remember what it did."""
    if reply is None or before is None:
        raise MessageError("schema", "a mod calls the training only every other time")
    if has_declined(reply):
        raise BudgetError("the node's privacy budget is spent")  # past the mods, as at a node
    context.state = before[1].state
    return Message(reply.content, reply_to=message)


def _own(message: Message) -> Message:
    """Return a message that a mod may write to."""
    own = unpacked(packed(message))
    if not isinstance(own, Message):
        raise TypeError(f"a {type(own).__name__} was sent, not a Message")
    return own


def _cohort_reply(
    message: Message,
    assignment: Assignment,
    mean: Packed,
    nodes: Sequence[int],
    num_examples: int,
    loss: float,
    start_s: float,
) -> Message:
    """Return the reply of a cohort, which has the form of a node's."""
    envelope = Envelope(
        federation=assignment.federation,
        branch=assignment.branch,
        base_version=assignment.version,
        node=COHORT_NODE,
        sequence=assignment.ticket,
        plan_hash=assignment.plan_hash,
    )
    content = record_dict(
        {
            ARRAYS: _record(mean[None], 0),
            METRICS: metric_record({NUM_EXAMPLES: num_examples, TRAIN_LOSS: reportable(loss)}),
            ENVELOPE: envelope.to_record(),
            TELEMETRY: telemetry(assignment.local_steps, start_s),
            COHORT: config_record({NODES: list(nodes)}),
        }
    )
    return Message(content, reply_to=message)


def _keys(assignment: Assignment, message: Message, nodes: Sequence[int]) -> list[int]:
    """Return the members' keys, each that of `assigned_key` with the member's own draw."""
    record = message.content.get(COHORT)
    asked = record.get(NODES) if isinstance(record, ConfigRecord) else None
    draws = record.get(DRAWS) if isinstance(record, ConfigRecord) else None
    if not isinstance(asked, list) or not isinstance(draws, list) or len(asked) != len(draws):
        raise MessageError("schema", f"a cohort needs as many {DRAWS!r} as {NODES!r}")
    draw_of = dict(zip(asked, draws, strict=True))
    own = np.array([draw_of[node] for node in nodes], np.int64)
    members = np.array(nodes, np.int64)
    keys: list[int] = mixed(assignment.seed, members, assignment.version, own).tolist()
    return keys


def _arrays(
    stack: NDArray[np.uint8], row: int, names: tuple[str, ...] | None, trainer: TorchTrainer
) -> ArrayRecord:
    """Return a row as the model came: packed, or as named arrays."""
    if names is None:
        return _record(stack, row)
    values: Packed = stack[row]
    arrays = trainer.unpack(values)
    return ArrayRecord({name: Array(arrays[name]) for name in names})


def _record(stack: NDArray[np.uint8], row: int) -> ArrayRecord:
    return array_record({PACKED: LazyArray(stack, row)})


def _time_s(context: Context) -> float:
    value = context.node_config.get(TIME_S, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0
