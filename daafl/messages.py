"""Every record, key, type and unit that travels between the coordinator and the nodes.

A message's content is a ``RecordDict`` of a few records:

==============  =============  ==================================================================
record          Flower type    what it holds
==============  =============  ==================================================================
``arrays``      ArrayRecord    the model as one ``packed`` byte array (see ``learning.layout``);
                               for a vote a second one, ``accepted``, to compare it with
``config``      ConfigRecord   the `Assignment`: what the node is asked to do
``metrics``     MetricRecord   numbers a node reports: ``num-examples``, ``train_loss`` ...
``envelope``    ConfigRecord   the `Envelope`: which update this is, for which model
``telemetry``   ConfigRecord   what the work took: ``steps``, ``seconds``; and what sensors show,
                               under the names, units and bounds of `daafl.sensing`
``cohort``      ConfigRecord   of a cohort asked together: ``nodes``, and when asked, ``draws``
``secure``      ConfigRecord   one message of a secure sum, of `daafl.secure`
``summing``     ConfigRecord   what is summed: ``unit``, the examples that weigh 1
``dealt``       ConfigRecord   the key of an encrypted sum, in a box for one node
==============  =============  ==================================================================

What comes from the network is parsed strictly: a missing key, a wrong type or a value out of
range is a `MessageError` with a reason that is counted against its sender.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from flwr.app import ConfigRecord, MetricRecord

from daafl.errors import MessageError
from daafl.flower import config_record

ARRAYS: Final = "arrays"
PACKED: Final = "packed"
ACCEPTED: Final = "accepted"  # vote: the model that the one under ``packed`` would replace
CONFIG: Final = "config"
METRICS: Final = "metrics"
ENVELOPE: Final = "envelope"
TELEMETRY: Final = "telemetry"
COHORT: Final = "cohort"
SECURE: Final = "secure"
SUMMING: Final = "summing"
DEALT: Final = "dealt"
CIPHERTEXTS: Final = "ciphertexts"  # arrays: words in the clear, then ciphertexts
PROOF: Final = "proof"  # arrays: that the norm of a masked update is within the bound
WORDS: Final = "words"  # arrays: the vector of a masked sum, little-endian 32-bit words

NUM_EXAMPLES: Final = "num-examples"  # examples behind an update or an evaluation
TRAIN_LOSS: Final = "train_loss"  # mean loss of the incoming model on the node's data
LOSS: Final = "loss"  # mean loss of an evaluated model; in a ballot, of the candidate
SATURATED: Final = "saturated-fraction"  # of a secure sum: share of the values that were cut
WITHIN_CLIP: Final = "within-clip-fraction"  # of a secure sum: share of nodes within the clip bound
ACCEPTED_LOSS: Final = "accepted-loss"  # ballot: mean loss of the accepted model
IN_FAVOUR: Final = "in-favour"  # ballot: 1, or 0 for a candidate that does material harm
ACCURACY: Final = "accuracy"  # share of an evaluated model's answers that are right
LOG_LOSSES: Final = "log-losses"  # probe: log loss after training at each tried rate
LEARNING_RATES: Final = "learning-rates"  # probe: the rates to try
PROXIMAL_MU: Final = "proximal-mu"  # weight of FedProx's term, as Flower's FedProx sends it
SERVER_ROUND: Final = "server-round"  # Flower's own round counter, from 1
STEPS: Final = "steps"  # local steps done
SECONDS: Final = "seconds"  # wall-clock seconds of local work

DECLINED: Final = "declined"  # in place of a result: why the node does not do what it is asked
BUDGET_SPENT: Final = "budget_spent"  # ... as it would cost more privacy than is left

VOLATILE: Final = "volatile."  # begins names of records in `Context.state` that no disk may hold

# What a simulated node finds in `Context.node_config` when it begins to work.
TIME_S: Final = "time-s"  # virtual seconds since the run began
SENSOR: Final = "sensor."  # followed by the name of what a sensor shows
NODE: Final = "node"
NODES: Final = "nodes"  # cohort: logical ids of those asked, or of those that took part, ascending
DRAWS: Final = "draws"  # cohort: per node the `Assignment.draw` that is its own
LAYOUT: Final = "layout"
SOFTWARE: Final = "software"
EPOCH: Final = "epoch"  # encrypted sum: when its key was asked for, in ms since 1970; only grows
ATTEMPT: Final = "attempt"  # secure sum: when it began, in ms since 1970; only grows
MODEL_HASH: Final = "model-hash"  # secure sum: SHA-256 of the model that will be sent
WORK_HASH: Final = "work-hash"  # secure sum: `work_hash` of the assignment that will be sent
LENGTH: Final = "length"  # secure sum: words of a vector
UNIT: Final = "unit"  # secure sum: examples that weigh 1
SEED: Final = "seed"  # secure sum: of a test of norms, drawn when all have committed
COMMITMENT: Final = "commitment"  # secure sum: to an update whose norm is to be proved
SIGNATURE: Final = "signature"  # secure sum: under that
USERS_ALIKE: Final = "users-alike"  # setting: all members of a secure sum weigh 1, not by examples
CLIP_BOUND: Final = "clip-bound"  # setting: longest update that members of a secure sum may send
NUM_NODES: Final = "num-nodes"  # nodes a federation is made of, as far as a node knows

QUERY_HELLO: Final = "query.hello"
QUERY_PROBE: Final = "query.probe"
QUERY_VOTE: Final = "query.vote"
QUERY_KEYS: Final = "query.secure_keys"
QUERY_SHARES: Final = "query.secure_shares"
TRAIN_COMMITTED: Final = "train.committed"
TRAIN_MASKED: Final = "train.masked"
QUERY_CONFIRM: Final = "query.secure_confirm"
QUERY_REVEAL: Final = "query.secure_reveal"
QUERY_HE_KEYS: Final = "query.he_keys"
QUERY_HE_DEAL: Final = "query.he_deal"
TRAIN_ENCRYPTED: Final = "train.encrypted"
QUERY_HE_CONFIRM: Final = "query.he_confirm"
QUERY_HE_DECRYPT: Final = "query.he_decrypt"

ENVELOPE_VERSION: Final = 1
COHORT_NODE: Final = 2**48  # in place of a node's id where a whole cohort is asked
MAX_TEXT: Final = 256  # characters of any text field
MAX_COUNT: Final = 2**53  # largest integer a float64 holds exactly

Scalar = bool | int | float | str
T = TypeVar("T", int, float, str, bytes)


@dataclass(frozen=True)
class Assignment:
    """What a node is asked to do with the model it gets.

    Parameters
    ----------
    federation, branch
        Names of the federation and of the model's branch.
    version
        Version of the model that travels with the assignment.
    ticket
        Identity of this assignment within the run.
    draw
        How often the node was already asked at this version; makes its batches differ.
    seed
        Seed of the run; a node's randomness is a function of (seed, node, version, draw).
    lr
        Learning rate of local training.
    local_steps, batch_size
        Local optimisation steps, and examples per step.
    plan_hash
        Digest of the plan in force; comes back in the envelope.
    layout
        Digest of the model's layout; empty when the sender does not know it.
    settings
        Further numbers a server optimiser wants nodes to know, such as ``proximal-mu``.
    """

    federation: str = ""
    branch: str = "main"
    version: int = 0
    ticket: int = 0
    draw: int = 0
    seed: int = 0
    lr: float = 0.1
    local_steps: int = 10
    batch_size: int = 16
    plan_hash: str = ""
    layout: str = ""
    settings: Mapping[str, Scalar] = field(default_factory=dict)

    def to_record(self) -> ConfigRecord:
        """Return the record that travels; ``server-round`` is version + 1, as Flower counts."""
        return config_record(
            {
                **self.settings,
                "federation": self.federation,
                "branch": self.branch,
                "version": self.version,
                "ticket": self.ticket,
                "draw": self.draw,
                "seed": self.seed,
                "lr": self.lr,
                "local-steps": self.local_steps,
                "batch-size": self.batch_size,
                "plan-hash": self.plan_hash,
                LAYOUT: self.layout,
                SERVER_ROUND: self.version + 1,
            }
        )

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Assignment:
        """Return the assignment in ``record``; absent keys take their defaults.

        A server that is not daafl's sends neither ticket nor version: the version is then
        Flower's ``server-round`` less one.

        Raises
        ------
        MessageError
            If a value has the wrong type or is out of range.
        """
        server_round = _taken(record, SERVER_ROUND, int, 1, low=0, high=MAX_COUNT)
        known = {
            "federation": _taken(record, "federation", str, ""),
            "branch": _taken(record, "branch", str, "main"),
            "version": _taken(
                record, "version", int, max(server_round - 1, 0), low=0, high=MAX_COUNT
            ),
            "ticket": _taken(record, "ticket", int, 0, low=0, high=MAX_COUNT),
            "draw": _taken(record, "draw", int, 0, low=0, high=MAX_COUNT),
            "seed": _taken(record, "seed", int, 0, low=0, high=MAX_COUNT),
            "lr": _taken(record, "lr", float, 0.1, low=0.0, high=1e6),
            "local_steps": _taken(record, "local-steps", int, 10, low=1, high=1_000_000),
            "batch_size": _taken(record, "batch-size", int, 16, low=1, high=1_000_000),
            "plan_hash": _taken(record, "plan-hash", str, ""),
            "layout": _taken(record, LAYOUT, str, ""),
        }
        settings = {
            key: value
            for key, value in record.items()
            if key not in _ASSIGNMENT_KEYS and isinstance(value, bool | int | float | str)
        }
        return cls(**known, settings=settings)  # type: ignore[arg-type]  # checked key by key above


_ASSIGNMENT_KEYS: Final = frozenset(Assignment().to_record())


@dataclass(frozen=True)
class Envelope:
    """Which update this is: how it travels, for which model, from whom.

    An update is accepted once per (federation, branch, base version, node, sequence), in
    whatever exchange it arrives. Fields that do not apply are absent (``None``).

    Parameters
    ----------
    federation, branch, base_version
        The model the update was trained from.
    node
        Logical id of the sender: its partition or the number of its pinned key.
    sequence
        Counts the node's updates; only grows.
    plan_hash
        Digest of the plan the node worked under.
    codec
        Name of the compression applied; ``None`` means the plain packed model.
    privacy_claim
        Guarantee the node claims for this update; ``None`` means none.
    signature
        Signature over the update and this envelope; ``None`` means unsigned.
    """

    federation: str
    branch: str
    base_version: int
    node: int
    sequence: int
    plan_hash: str
    codec: str | None = None
    privacy_claim: str | None = None
    signature: bytes | None = None
    format_version: int = ENVELOPE_VERSION

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """Identity of the update: federation, branch, base version, node, sequence."""
        return (self.federation, self.branch, self.base_version, self.node, self.sequence)

    def to_record(self) -> ConfigRecord:
        """Return the record that travels; absent fields are left out."""
        record = config_record(
            {
                "format-version": self.format_version,
                "federation": self.federation,
                "branch": self.branch,
                "base-version": self.base_version,
                NODE: self.node,
                "sequence": self.sequence,
                "plan-hash": self.plan_hash,
            }
        )
        if self.codec is not None:
            record["codec"] = self.codec
        if self.privacy_claim is not None:
            record["privacy-claim"] = self.privacy_claim
        if self.signature is not None:
            record["signature"] = self.signature
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Envelope:
        """Return the envelope in ``record``.

        Raises
        ------
        MessageError
            With reason ``schema`` if a field is missing, unknown, of the wrong type or out of
            range, or if the format version is one this release does not speak.
        """
        record = dict(record.items())  # one look at each entry through Flower's record
        version = _required(record, "format-version", int)
        if version != ENVELOPE_VERSION:
            raise MessageError(
                "schema", f"envelope format {version} is not format {ENVELOPE_VERSION}"
            )
        unknown = record.keys() - _ENVELOPE_KEYS
        if unknown:
            raise MessageError("schema", f"envelope has unknown fields {sorted(unknown)[:5]}")
        signature = record.get("signature")
        if signature is not None and not (isinstance(signature, bytes) and len(signature) <= 4096):
            raise MessageError("schema", "envelope field signature is not at most 4096 bytes")
        return cls(
            federation=_required(record, "federation", str),
            branch=_required(record, "branch", str),
            base_version=_required(record, "base-version", int),
            node=_required(record, NODE, int),
            sequence=_required(record, "sequence", int),
            plan_hash=_required(record, "plan-hash", str),
            codec=_required(record, "codec", str) if "codec" in record else None,
            privacy_claim=(
                _required(record, "privacy-claim", str) if "privacy-claim" in record else None
            ),
            signature=signature,
        )


_ENVELOPE_KEYS: Final = frozenset(
    {
        "format-version",
        "federation",
        "branch",
        "base-version",
        NODE,
        "sequence",
        "plan-hash",
        "codec",
        "privacy-claim",
        "signature",
    }
)


@dataclass(frozen=True)
class Hello:
    """What a node says about itself before training starts.

    Parameters
    ----------
    node
        Logical id, stable over reconnects: the partition or the number of a pinned key.
    num_examples
        Training examples the node holds.
    layout
        Digest of the layout of the node's model; must equal the coordinator's.
    software
        Name and version of the node's software.
    num_nodes
        How many nodes the sender expects in the federation; 0 if it does not know.
    """

    node: int
    num_examples: int
    layout: str
    software: str
    num_nodes: int = 0

    def to_record(self) -> ConfigRecord:
        """Return the record that travels."""
        return config_record(
            {
                NODE: self.node,
                NUM_EXAMPLES: self.num_examples,
                LAYOUT: self.layout,
                SOFTWARE: self.software,
                NUM_NODES: self.num_nodes,
            }
        )

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Hello:
        """Return the greeting in ``record``.

        Raises
        ------
        MessageError
            If a field is missing, of the wrong type or out of range.
        """
        return cls(
            node=_required(record, NODE, int),
            num_examples=_required(record, NUM_EXAMPLES, int),
            layout=_required(record, LAYOUT, str),
            software=_required(record, SOFTWARE, str),
            num_nodes=_taken(record, NUM_NODES, int, 0, low=0, high=MAX_COUNT),
        )


@dataclass(frozen=True)
class Ballot:
    """A node's vote on a candidate model, with the losses it is based on.

    Parameters
    ----------
    is_in_favour
        False if the candidate does material harm on the node's examples.
    loss, accepted_loss
        Mean loss of the candidate and of the accepted model; infinite if it is not a number.
    num_examples
        Examples behind both.
    """

    is_in_favour: bool
    loss: float
    accepted_loss: float
    num_examples: int

    def to_record(self) -> MetricRecord:
        """Return the record that travels as ``metrics``: four numbers."""
        return MetricRecord(
            {
                IN_FAVOUR: int(self.is_in_favour),
                LOSS: self.loss,
                ACCEPTED_LOSS: self.accepted_loss,
                NUM_EXAMPLES: self.num_examples,
            }
        )

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Ballot:
        """Return the ballot in ``record``.

        Raises
        ------
        MessageError
            If a number is missing, unknown, of the wrong type or out of range, or if the ballot
            contradicts itself: nobody is in favour of a model without a finite loss.
        """
        unknown = set(record) - _BALLOT_KEYS
        if unknown:
            raise MessageError("schema", f"a ballot has {len(unknown)} unknown fields")
        choice = _required(record, IN_FAVOUR, int)
        if choice not in (0, 1):
            raise MessageError("schema", f"field {IN_FAVOUR} is {choice}, not 0 or 1")
        count = _required(record, NUM_EXAMPLES, int)
        if count == 0:
            raise MessageError("sample_count", "a ballot is based on no example")
        ballot = cls(bool(choice), _loss(record, LOSS), _loss(record, ACCEPTED_LOSS), count)
        if ballot.is_in_favour and not math.isfinite(ballot.loss):
            raise MessageError("plausibility", "a ballot favours a model whose loss is infinite")
        return ballot


_BALLOT_KEYS: Final = frozenset({IN_FAVOUR, LOSS, ACCEPTED_LOSS, NUM_EXAMPLES})


def _loss(record: Mapping[str, object], key: str) -> float:
    if key not in record:
        raise MessageError("schema", f"field {key} is missing")
    return _checked(key, record[key], float, low=-math.inf, high=math.inf)


def _required(record: Mapping[str, object], key: str, kind: type[T]) -> T:
    if key not in record:
        raise MessageError("schema", f"field {key} is missing")
    return _checked(key, record[key], kind, low=0, high=MAX_COUNT)


def _taken(
    record: Mapping[str, object],
    key: str,
    kind: type[T],
    default: T,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> T:
    return _checked(key, record[key], kind, low=low, high=high) if key in record else default


def _checked(key: str, value: object, kind: type[T], *, low: float, high: float) -> T:
    """Return ``value`` as ``kind``; an int is a float too, a bool is neither."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # An integer beyond the floats is beyond every range.
        value = float(value) if abs(value) <= MAX_COUNT else math.inf if value > 0 else -math.inf
    if not isinstance(value, kind) or isinstance(value, bool):
        raise MessageError(
            "schema", f"field {key} is of type {type(value).__name__}, not {kind.__name__}"
        )
    if isinstance(value, str | bytes):
        if len(value) > MAX_TEXT:
            raise MessageError("size", f"field {key} is longer than {MAX_TEXT} characters")
    elif not low <= value <= high:
        raise MessageError("schema", f"field {key} is {value!r}, not within [{low:g}, {high:g}]")
    return value
