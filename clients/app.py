"""A Flower ClientApp that trains a task: the same one in simulation and in deployments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from daafl import __version__
from daafl.clients.alterations import Alters, altered, altering
from daafl.clients.encrypted import answer_encrypted
from daafl.clients.identity import Identity, identity
from daafl.clients.masked import answer_masked
from daafl.clients.memory import has_sent
from daafl.clients.model_records import model_record, received_model, received_pair
from daafl.clients.parts import NodeParts
from daafl.clients.private import ALIKE, LEDGERS, PrivateTraining, declining, refuse_unprotected
from daafl.clients.replies import Sign, assignment_of, reportable, telemetry, training_reply
from daafl.clients.security import KeysOf
from daafl.clients.sensors import SIMULATED, Sensors, measured
from daafl.clients.work import Work
from daafl.errors import ConfigError, MessageError
from daafl.flower import Mod
from daafl.learning.assigned import assigned_key, assigned_work
from daafl.learning.ballot import ballot
from daafl.learning.examples import Examples
from daafl.learning.layout import Layout
from daafl.learning.task import Task
from daafl.learning.trainer import TorchTrainer
from daafl.messages import (
    CONFIG,
    LEARNING_RATES,
    LOG_LOSSES,
    LOSS,
    METRICS,
    NUM_EXAMPLES,
    QUERY_HELLO,
    QUERY_PROBE,
    QUERY_VOTE,
    TELEMETRY,
    TIME_S,
    Assignment,
    Hello,
)
from daafl.privacy.guarantee import NodePrivacy
from daafl.secure.settings import EncryptedSums, MaskedSums, Security
from daafl.secure.signing import signature
from daafl.secure.work import bytes_hash
from daafl.store.node_store import NodeStore

MAX_PROBED_RATES: Final = 64
MAX_LEARNING_RATE: Final = 1e6


def client_app(
    task: Task | Callable[[], Task],
    *,
    node_store: Path | None = None,
    mods: Sequence[Mod] = (),
    sensors: Sensors = SIMULATED,
    secure: Security | None = None,
    keys: KeysOf | None = None,
    privacy: NodePrivacy | None = None,
    ledgers: Path | None = None,
) -> ClientApp:
    """Return the app that nodes of a federation run to train a task.

    It answers TRAIN, EVALUATE and the queries ``probe``, ``vote`` and ``hello``, to daafl's
    coordinator and, the first two, to any Flower strategy: a model that came as named arrays goes
    back as named arrays. A training depends on the message and the node's data alone: its
    randomness is a pure function of ``(seed, node, version, draw)``.

    Parameters
    ----------
    task
        What to train, or a function without arguments that makes it. The function is called once
        per process, when the first message arrives.
    node_store
        Directory of the node's durable memory; ``None`` keeps it for the time of a run.
    mods
        Flower mods around every message, outermost first.
    sensors
        What nodes measure about themselves; see `daafl.clients.sensors`. Readings travel with
        every training, evaluation, probe and vote.
    secure
        How updates leave the node, signed or hidden in sums; ``None`` for in the clear. It answers
        no other kind of training.
    keys
        The node's keys, where updates are signed or hidden.
    privacy
        What the node guarantees about its data, such as `daafl.privacy.guarantee.SamplePrivacy`;
        ``None`` for nothing. It then answers nothing but the greeting and training that its budget
        pays for.
    ledgers
        Folder for the ledgers of simulated nodes; real nodes have theirs in the node store, which
        privacy needs.

    Examples
    --------
    >>> from daafl.learning.tasks.digits import Digits
    >>> from daafl.simulation import InProcessGrid
    >>> with InProcessGrid(client_app(Digits), 30, workers=0) as grid:
    ...     content = RecordDict({"config": Assignment().to_record()})
    ...     question = Message(content, grid.get_node_ids()[7], "query.hello")
    ...     (reply,) = grid.send_and_receive([question])
    >>> Hello.from_record(reply.content["config"]).node
    7
    """
    if (secure is None) != (keys is None):
        raise ConfigError("secure and keys go together: give client_app both of them or neither")
    private = _private(privacy, node_store, ledgers)
    store = NodeStore(node_store) if node_store is not None else None
    node = _Node(task, store, sensors, keys, private, altering(mods) if secure else ())
    app = ClientApp(mods=list(mods) if private is None else [declining, *mods])
    if keys is None or not isinstance(secure, MaskedSums | EncryptedSums):
        app.train()(node.train)
    else:
        parts = NodeParts(keys, node.worked, lambda: node.layout, store, sensors)
        if isinstance(secure, MaskedSums):
            answer_masked(app, secure, parts)
        else:
            answer_encrypted(app, secure, parts)
    app.evaluate()(node.evaluate)
    app.query(QUERY_PROBE.removeprefix("query."))(node.probe)
    app.query(QUERY_VOTE.removeprefix("query."))(node.vote)
    app.query(QUERY_HELLO.removeprefix("query."))(node.hello)
    return app


class _Node:
    """The handlers of the app; one trainer serves all nodes that this process plays."""

    def __init__(
        self,
        task: Task | Callable[[], Task],
        store: NodeStore | None,
        sensors: Sensors,
        keys: KeysOf | None,
        private: PrivateTraining | None,
        mods: Sequence[Alters],
    ) -> None:
        self._task = task
        self._mods = mods
        self._sensors = sensors
        self.store = store
        self._keys = keys
        self._private = private
        self._made: TorchTrainer | None = None

    def train(self, message: Message, context: Context) -> Message:
        """Train the model in the message on the node's data and return it."""
        start_s = time.perf_counter()
        work = self.worked(message, context)
        trained = work.trained
        return training_reply(
            message,
            work.assignment,
            context,
            work.who,
            arrays=model_record(trained.packed, work.received, self._trainer),
            num_examples=trained.num_examples,
            loss=trained.loss_before,
            steps=trained.steps,
            start_s=start_s,
            store=self.store,
            sensors=self._sensors,
            sign=self._sign(work, context),
            claim=work.claim,
        )

    def worked(self, message: Message, context: Context) -> Work:
        """Train the model in a message as its assignment says; nothing leaves the node yet."""
        work = self._trained(message, context)
        return altered(work, self._mods, message, context, self._trainer)

    def _trained(self, message: Message, context: Context) -> Work:
        assignment = self._assignment(message)
        who = identity(context)
        received = received_model(message.content, self._trainer)
        examples = self._examples(who, context)
        if self._private is not None:
            trained = self._private.trained(
                self._trainer,
                received.packed,
                examples,
                assignment,
                who,
                has_spent=has_sent(context),
            )
            return Work(assignment, who, received, trained, self._private.settings.claim)
        trained = self._trainer.train(
            received.packed,
            examples,
            assigned_work(assignment),
            assigned_key(assignment, who.node),
        )
        return Work(assignment, who, received, trained)

    def evaluate(self, message: Message, context: Context) -> Message:
        """Return the loss and metrics of the model in the message on the node's data."""
        start_s = time.perf_counter()
        refuse_unprotected(self._private, "an evaluation")
        self._assignment(message)
        received = received_model(message.content, self._trainer)
        examples = self._examples(identity(context), context)
        figures = self._trainer.evaluate(received.packed, examples)
        figures[LOSS] = reportable(figures[LOSS])
        metrics = MetricRecord({**figures, NUM_EXAMPLES: len(examples)})
        content = RecordDict(
            {METRICS: metrics, TELEMETRY: telemetry(0, start_s, measured(self._sensors, context))}
        )
        return Message(content, reply_to=message)

    def probe(self, message: Message, context: Context) -> Message:
        """Return the log losses that throw-away trainings end at, one for each rate asked for."""
        start_s = time.perf_counter()
        refuse_unprotected(self._private, "a probe")
        assignment = self._assignment(message)
        rates = _probed_rates(message)
        who = identity(context)
        examples = self._examples(who, context)
        received = received_model(message.content, self._trainer)
        log_losses = self._trainer.probe(
            received.packed,
            examples,
            rates,
            assigned_work(assignment),
            assigned_key(assignment, who.node),
        )
        metrics = MetricRecord({LOG_LOSSES: list(log_losses), NUM_EXAMPLES: len(examples)})
        steps = assignment.local_steps * len(rates)
        content = RecordDict(
            {
                METRICS: metrics,
                TELEMETRY: telemetry(steps, start_s, measured(self._sensors, context)),
            }
        )
        return Message(content, reply_to=message)

    def vote(self, message: Message, context: Context) -> Message:
        """Return a ballot on the candidate model in the message; see `daafl.learning.ballot`."""
        start_s = time.perf_counter()
        refuse_unprotected(self._private, "a vote")
        self._assignment(message)
        who = identity(context)
        trainer = self._trainer
        models = (*received_pair(message.content, trainer), trainer.untrained)
        examples = trainer.task.validation_data(who.partition, who.num_partitions, _time_s(context))
        candidate, accepted, untrained = (trainer.losses(model, examples) for model in models)
        cast = ballot(candidate, accepted, untrained)
        content = RecordDict(
            {
                METRICS: cast.to_record(),
                TELEMETRY: telemetry(0, start_s, measured(self._sensors, context)),
            }
        )
        return Message(content, reply_to=message)

    def hello(self, message: Message, context: Context) -> Message:
        """Return who this node is and what it holds; the coordinator compares the layouts."""
        who = identity(context)
        hello = Hello(
            node=who.node,
            num_examples=self._public_count(len(self._examples(who, context))),
            layout=self._trainer.layout.digest,
            software=f"daafl {__version__}",
            num_nodes=who.num_nodes,
        )
        return Message(RecordDict({CONFIG: hello.to_record()}), reply_to=message)

    def _sign(self, work: Work, context: Context) -> Sign | None:
        """Return what signs an update of this node; ``None`` where nodes have no keys."""
        if self._keys is None:
            return None
        node_identity = self._keys(context).identity
        model_hash = bytes_hash(work.received.packed.data)
        return lambda envelope, content: signature(node_identity, envelope, model_hash, content)

    @property
    def layout(self) -> Layout:
        """Layout of the task's model."""
        return self._trainer.layout

    @property
    def _trainer(self) -> TorchTrainer:
        if self._made is None:
            task = self._task if isinstance(self._task, Task) else self._task()
            if not isinstance(task, Task):
                raise ConfigError(
                    f"client_app was given a function that returns a {type(task).__name__}; it "
                    "must return a daafl.Task"
                )
            self._made = TorchTrainer(task)
        return self._made

    def _public_count(self, num_examples: int) -> int:
        """Return how many examples the node says it has."""
        is_private = self._private is not None and self._private.is_whole_node
        return ALIKE if is_private else num_examples

    def _examples(self, who: Identity, context: Context) -> Examples:
        return self._trainer.task.node_data(who.partition, who.num_partitions, _time_s(context))

    def _assignment(self, message: Message) -> Assignment:
        return assignment_of(message, self._trainer.layout.digest)


def _private(
    privacy: NodePrivacy | None, node_store: Path | None, ledgers: Path | None
) -> PrivateTraining | None:
    if privacy is None:
        return None
    if ledgers is not None:
        return PrivateTraining(privacy, ledgers, is_simulated=True)
    if node_store is None:
        raise ConfigError(
            f"privacy={privacy.name} needs a node_store: what a node has spent must outlive its "
            "process"
        )
    return PrivateTraining(privacy, node_store / LEDGERS, is_simulated=False)


def _time_s(context: Context) -> float:
    """Return the virtual time that data may depend on; 0 outside simulations."""
    return float(context.node_config.get(TIME_S, 0.0))


def _probed_rates(message: Message) -> list[float]:
    rates = message.content[CONFIG].get(LEARNING_RATES)
    if not isinstance(rates, list) or not 1 <= len(rates) <= MAX_PROBED_RATES:
        raise MessageError("schema", f"{LEARNING_RATES} is not a list of 1 to {MAX_PROBED_RATES}")
    for rate in rates:
        if isinstance(rate, bool | str | bytes) or not 0 < rate <= MAX_LEARNING_RATE:
            raise MessageError("schema", f"a rate in {LEARNING_RATES} is {rate!r:.40}")
    return [float(rate) for rate in rates]
