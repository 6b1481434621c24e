"""The Flower mod that makes some nodes of a simulated federation hostile."""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from daafl.errors import MessageError
from daafl.flower import ClientAppCallable, Mod
from daafl.learning.layout import Packed
from daafl.learning.task import Task
from daafl.messages import (
    ARRAYS,
    CONFIG,
    ENVELOPE,
    PACKED,
    TIME_S,
    TRAIN_MASKED,
    Assignment,
    Envelope,
)
from daafl.simulation.attacks.attack import Attack
from daafl.simulation.attacks.behaviour import Scene
from daafl.simulation.attacks.rehearsal import Rehearsal


def hostile(attack: Attack, task: Task, num_nodes: int) -> Mod:
    """Return the mod that plays the attackers, to go around the ordinary app of a federation.

    All nodes of a simulation run one app; the mod acts where ``partition-id`` is an attacker's.
    What is sent depends on the message, the attackers' data and the node's own memory alone, never
    on which process plays which node.

    Parameters
    ----------
    attack
        Who attacks, when and how.
    task
        What the federation trains.
    num_nodes
        Nodes of the federation.

    Raises
    ------
    ConfigError
        If the attack names a node that does not exist.

    Examples
    --------
    ::

        app = client_app(task, mods=[hostile(Attack(SignFlip(3.0)), task, 30)])
    """
    return _Hostile(attack, task, num_nodes)


class _Hostile:
    """The mod; each process makes its own trainer when it first plays an attacker."""

    def __init__(self, attack: Attack, task: Task, num_nodes: int) -> None:
        self._attack = attack
        self._task = task
        self._num_nodes = num_nodes
        self._attackers = attack.attackers(num_nodes)
        self._hostile = frozenset(self._attackers)
        self._rehearsal: Rehearsal | None = None

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Let the node answer, and change its answer if it is an attacker's turn."""
        reply = call_next(message, context)
        # The phases of a sum after its training ask for nothing that there are lies about.
        if not reply.has_content() or CONFIG not in message.content or _is_sealed(reply):
            return reply
        content = self.altered(message, context, reply.content)
        return reply if content is reply.content else Message(content, reply_to=message)

    def altered(self, message: Message, context: Context, content: RecordDict) -> RecordDict:
        """Return what an attacker makes of an honest answer; the same object if it changes nothing.

        An app whose answers are signed or masked calls this before it does so.
        """
        node = context.node_config["partition-id"]
        if node not in self._hostile:
            return content
        assignment = _assignment(message)
        round_number = assignment.version + 1
        time_s = _time_s(context)
        if not self._attack.is_active(round_number, time_s):
            return content
        if message.metadata.message_type in (MessageType.TRAIN, TRAIN_MASKED):
            scene = Scene(
                node=int(node),
                attackers=self._attackers,
                num_nodes=self._num_nodes,
                elapsed=round_number - self._attack.start,
                assignment=assignment,
                base=_packed(message.content),
                rehearsal=self._rehearse(),
                memory=context.state,
                trained=_packed(content),
                time_s=time_s,
            )
            content = self._attack.does.content(scene, content)
        return self._attack.lies.told(message, content)

    def _rehearse(self) -> Rehearsal:
        if self._rehearsal is None:
            self._rehearsal = Rehearsal(self._task, self._num_nodes)
        return self._rehearsal


def _is_sealed(reply: Message) -> bool:
    """Return whether the app has signed or masked a training, and let it be altered before."""
    envelope = reply.content.get(ENVELOPE)
    if reply.metadata.message_type != MessageType.TRAIN or not isinstance(envelope, ConfigRecord):
        return reply.metadata.message_type == TRAIN_MASKED
    return Envelope.from_record(envelope).signature is not None


def _time_s(context: Context) -> float:
    """Return the virtual time; 0 outside simulations."""
    return float(context.node_config.get(TIME_S, 0.0))


def _assignment(message: Message) -> Assignment:
    record = message.content.get(CONFIG)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", f"the message has no record {CONFIG!r} of settings")
    return Assignment.from_record(record)


def _packed(content: RecordDict) -> Packed:
    record = content.get(ARRAYS)
    if not isinstance(record, ArrayRecord) or list(record) != [PACKED]:
        raise MessageError("schema", "attackers read packed models only, as daafl sends them")
    return record[PACKED].numpy()
