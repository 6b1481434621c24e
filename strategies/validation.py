"""The eleven checks that every update passes before anything is combined.

A bad update costs its sender that update, with the name of the check as the reason that is
counted; the step goes on. Cheap checks come first, so that nobody makes the coordinator work for
what it will not use, and what a message merely claims decides no allocation:

=================  =================================================================================
``schema``         known records with few and short keys: an envelope, metrics, one packed array
``size``           no text, list or total larger than a reply may be; exactly the model's bytes
``dtype``          the packed array consists of bytes
``shape``          and has the model's length
``freshness``      the envelope is about the assignment that it answers, and is not a repeated one
``signature``      that of the sender's pinned key, where a roster is agreed on; else there is none
``privacy_claim``  the guarantee that was agreed on; where none was, there is none
``sample_count``   a positive number, at most twice what the node said it holds
``plausibility``   loss, metrics and the work done are what an honest node can report
``finiteness``     neither NaN nor infinity in the difference to the model that was sent
``norm``           a difference that training can make
=================  =================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from daafl.decoding import decoded
from daafl.errors import MessageError
from daafl.learning.layout import Layout, Packed, Vector
from daafl.messages import (
    ACCURACY,
    ARRAYS,
    CONFIG,
    ENVELOPE,
    LOSS,
    MAX_COUNT,
    MAX_TEXT,
    METRICS,
    NUM_EXAMPLES,
    PACKED,
    SECONDS,
    STEPS,
    TELEMETRY,
    TRAIN_LOSS,
    Assignment,
    Envelope,
)
from daafl.payload import content_bytes
from daafl.secure.signing import Signer
from daafl.sensing import checked_reading
from daafl.strategies.mailbox import Ticket

CHECKS: Final = (
    "schema",
    "size",
    "dtype",
    "shape",
    "freshness",
    "signature",
    "privacy_claim",
    "sample_count",
    "plausibility",
    "finiteness",
    "norm",
)
"""Names of the checks, in the order in which they run."""

_ALL_PASSED: Final[Mapping[str, Outcome]] = dict.fromkeys(CHECKS, "passed")

MAX_ENTRIES: Final = 64  # of any record
MAX_LIST: Final = 1024  # numbers in one entry
MAX_BLOB: Final = 4096  # characters or bytes in one entry
MAX_BESIDE: Final = 64 * 1024  # bytes of a reply beside the model, the array's header included
RECORDS: Final = frozenset({ARRAYS, CONFIG, METRICS, ENVELOPE, TELEMETRY})

SAMPLE_FACTOR: Final = 2.0  # examples reported over examples greeted with
LEAST_LOSS: Final = -1e6  # a density may have a loss below zero, but none that far
MOST_GROWTH: Final = 1e3  # root mean square of a difference over 1 + that of the weights sent
MOST_STATISTICS: Final = 1e9  # the same with running statistics, which take on the data's scale

_PLAIN: Final = frozenset({int, float, bool})  # of one size each
Record = ArrayRecord | ConfigRecord | MetricRecord
Outcome = Literal["passed", "not applicable"]


@dataclass(frozen=True)
class Accepted:
    """The last update that was accepted of a node: model version and sequence number."""

    version: int
    sequence: int


@dataclass(frozen=True, eq=False)
class Sent:
    """A model that was sent, and how far training can move it; the same for a whole cohort.

    Parameters
    ----------
    vector
        Its values.
    most_trained, most
        Largest root mean square of a change: of what gradients move, and of everything.
    """

    vector: Vector
    most_trained: float
    most: float

    @classmethod
    def of(cls, layout: Layout, base: Packed) -> Sent:
        """Return what holds for a packed model."""
        vector = layout.vector(base)
        trained = layout.trained(vector)
        most_trained = MOST_GROWTH * (1.0 + _root_mean_square(trained))
        if trained is vector:
            return cls(vector, most_trained, most_trained)
        return cls(vector, most_trained, MOST_STATISTICS * (1.0 + _root_mean_square(vector)))


@dataclass(frozen=True, eq=False)
class Terms:
    """What a reply to a training assignment is held to.

    Parameters
    ----------
    federation
        Name of the federation.
    ticket
        What was asked, and how many examples the node says it holds.
    layout, base
        Layout and values of the model that was sent.
    last
        The last update accepted of this node on this branch; ``None`` before the first.
    num_bytes
        Size of the reply, if it is known; ``None`` to have it counted.
    sent
        What a difference to ``base`` is held to, if it is known; ``None`` to have it worked out.
    signer
        Who must have signed the update; ``None`` where nodes have no keys.
    claim
        Guarantee that the update must come with; ``None`` where none was agreed on.
    """

    federation: str
    ticket: Ticket
    layout: Layout
    base: Packed
    last: Accepted | None = None
    num_bytes: int | None = None
    sent: Sent | None = None
    signer: Signer | None = None
    claim: str | None = None


@dataclass(frozen=True, eq=False)
class Validated:
    """An update that passed.

    Parameters
    ----------
    envelope
        Which update it is.
    metrics
        Numbers the node reports; a training loss that is no number has become infinite.
    packed
        The trained model, a read-only view of what came.
    delta
        What it changed in the model that was sent, as a vector of the layout.
    checks
        Outcome of every check, by its name, in the order in which they ran.
    """

    envelope: Envelope
    metrics: Mapping[str, float]
    packed: Packed
    delta: Vector
    checks: Mapping[str, Outcome]


def validated(content: RecordDict, terms: Terms) -> Validated:
    """Return the update in a reply, after all checks.

    Raises
    ------
    MessageError
        At the first check that fails. The reason is the check's name, or ``duplicate`` for an
        update that was accepted before.
    """
    layout, ticket = terms.layout, terms.ticket
    assignment = ticket.assignment or Assignment()
    records = dict(content.items())  # one look at each through Flower's record
    check_records(records)
    envelope = _envelope(records)
    metrics = _metrics(records)
    packed = _packed(records, layout, terms.num_bytes)
    _check_freshness(envelope, terms, assignment.plan_hash)
    signature = _check_signature(envelope, records, terms.signer)
    claim = _check_claim(envelope, terms.claim)
    _check_sample_count(metrics, ticket.num_examples)
    _check_plausibility(metrics)
    check_telemetry(records, assignment.local_steps)
    sent = terms.sent or Sent.of(layout, terms.base)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        delta = layout.vector(packed) - sent.vector
        square = float(np.dot(delta, delta))
    _check_finiteness(delta, square)
    _check_norm(delta, square, sent, layout)
    if not math.isfinite(metrics.get(TRAIN_LOSS, 0.0)):
        metrics[TRAIN_LOSS] = math.inf
    checks = {**_ALL_PASSED, "signature": signature, "privacy_claim": claim}
    return Validated(envelope, metrics, packed, delta, checks)


def check_records(content: Mapping[str, Record]) -> None:
    """Refuse records that no reply has, and those that are too large (*schema*, *size*).

    Raises
    ------
    MessageError
        Naming the record.
    """
    for name, record in content.items():
        if name not in RECORDS:
            raise MessageError("schema", f"the reply has an unknown record {name[:40]!r}")
        entries = record.items()
        if len(entries) > MAX_ENTRIES:
            raise MessageError(
                "schema", f"record {name!r} has {len(entries)} entries, at most {MAX_ENTRIES}"
            )
        for key, value in entries:
            if len(key) > MAX_TEXT:
                raise MessageError(
                    "schema", f"a name in {name!r} is longer than {MAX_TEXT} characters"
                )
            if type(value) not in _PLAIN and not isinstance(value, Array):
                _check_value(name, key, value)


def _check_value(record: str, key: str, value: object) -> None:
    if isinstance(value, str | bytes):
        if len(value) > MAX_BLOB:
            what = f"{record}[{key[:40]!r}]"
            raise MessageError("size", f"{what} has a length of {len(value)}, at most {MAX_BLOB}")
    elif isinstance(value, list):
        what = f"{record}[{key[:40]!r}]"
        if len(value) > MAX_LIST:
            raise MessageError("size", f"{what} has {len(value)} items, at most {MAX_LIST}")
        if any(isinstance(item, str | bytes) and len(item) > MAX_TEXT for item in value):
            raise MessageError("size", f"an item of {what} is longer than {MAX_TEXT}")


def _envelope(content: Mapping[str, Record]) -> Envelope:
    record = content.get(ENVELOPE)
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", "the update has no envelope")
    envelope = Envelope.from_record(record)
    if envelope.codec is not None:
        raise MessageError("schema", f"codec {envelope.codec!r} was not agreed on")
    return envelope


def _metrics(content: Mapping[str, Record]) -> dict[str, float]:
    """Return the scalar metrics in a reply (*schema*); lists are left out."""
    record = content.get(METRICS)
    if not isinstance(record, MetricRecord):
        raise MessageError("schema", f"the reply has no record {METRICS!r} of numbers")
    return {key: as_float(value) for key, value in record.items() if not isinstance(value, list)}


def _packed(content: Mapping[str, Record], layout: Layout, num_bytes: int | None) -> Packed:
    """Return the model (*schema*, *size*, *dtype*, *shape*); its header tells all four."""
    record = content.get(ARRAYS)
    if not isinstance(record, ArrayRecord) or list(record) != [PACKED]:
        raise MessageError("schema", f"the update has no record {ARRAYS!r} with one packed array")
    packed = decoded(record[PACKED], np.dtype(np.uint8), (layout.num_bytes,))
    size = content_bytes(content) if num_bytes is None else num_bytes
    most = layout.num_bytes + MAX_BESIDE
    if size > most:
        raise MessageError("size", f"the reply has {size} bytes, at most {most} are accepted")
    return packed


def check_envelope(
    envelope: Envelope, *, federation: str, ticket: Ticket, plan_hash: str, claim: str | None
) -> None:
    """Hold the envelope of an update that nobody sees into to what was asked.

    Raises
    ------
    MessageError
        With reason *freshness*, *signature* or *privacy_claim*. The sum's own protocol has a
        signature, so that the envelope has none.
    """
    if envelope.codec is not None:
        raise MessageError("schema", f"codec {envelope.codec!r} was not agreed on")
    _check_asked(envelope, federation, ticket, plan_hash)
    _check_signature(envelope, {}, None)
    _check_claim(envelope, claim)


def _check_freshness(envelope: Envelope, terms: Terms, plan_hash: str) -> None:
    """Hold an envelope to its ticket, and its sequence to the last one accepted.

    A node has one assignment at a time, so the versions of its accepted updates never fall.
    Within a version its sequence must grow. With a newer version it may begin anew, because a node
    without a store forgets it when it restarts; a repeated update names an older version.
    """
    last = terms.last
    _check_asked(envelope, terms.federation, terms.ticket, plan_hash)
    if last is None or envelope.base_version > last.version:
        return
    if (envelope.base_version, envelope.sequence) == (last.version, last.sequence):
        raise MessageError("duplicate", f"update {envelope.key} was accepted before")
    if envelope.base_version < last.version or envelope.sequence < last.sequence:
        raise MessageError(
            "freshness",
            f"update {envelope.sequence} of version {envelope.base_version} comes after update "
            f"{last.sequence} of version {last.version}",
        )


def _check_asked(envelope: Envelope, federation: str, ticket: Ticket, plan_hash: str) -> None:
    expected = (federation, ticket.branch, ticket.version, ticket.node)
    if envelope.key[:4] != expected:
        raise MessageError(
            "freshness",
            f"the envelope speaks of {envelope.key[:4]}, the assignment was {expected}",
        )
    if envelope.plan_hash != plan_hash:
        raise MessageError(
            "freshness",
            f"the envelope names plan {envelope.plan_hash!r}, the assignment {plan_hash!r}",
        )


def _check_signature(
    envelope: Envelope, content: Mapping[str, Record], signer: Signer | None
) -> Outcome:
    """Refuse an update that is not its sender's; where nobody has keys, one that is signed.

    A claim that nobody can verify is worth nothing, and where keys are agreed on, an update without
    a signature is a downgrade.
    """
    if signer is not None:
        signer.check(envelope, content)
        return "passed"
    if envelope.signature is not None:
        raise MessageError("signature", "the update carries a signature that was not agreed on")
    return "not applicable"


def _check_claim(envelope: Envelope, agreed: str | None) -> Outcome:
    """Refuse an update that does not come with the guarantee agreed on, or with another one."""
    claim = envelope.privacy_claim
    if claim == agreed:
        return "not applicable" if agreed is None else "passed"
    if agreed is None:
        raise MessageError("privacy_claim", "the update claims a privacy that was not agreed on")
    said = "none" if claim is None else f"{claim[:100]!r}"
    raise MessageError(
        "privacy_claim", f"the update claims {said}; it must be protected by {agreed!r}"
    )


def _check_sample_count(metrics: Mapping[str, float], claimed: int) -> None:
    """Hold a reported number of examples to what the node ``claimed`` when it was greeted.

    A node whose data have grown beyond the factor says so in a new greeting.
    """
    count = metrics.get(NUM_EXAMPLES, math.nan)
    if not 0 < count <= MAX_COUNT:
        raise MessageError("sample_count", f"{NUM_EXAMPLES} is {count}, not a positive number")
    if count > SAMPLE_FACTOR * max(claimed, 1):
        raise MessageError(
            "sample_count",
            f"{NUM_EXAMPLES} is {count:g}, but the node said it holds {claimed}",
        )


def _check_plausibility(metrics: Mapping[str, float]) -> None:
    """Refuse numbers that no honest node reports (*plausibility*).

    A loss may be infinite or NaN, because that of a model that diverged is; it is never endlessly
    negative. An accuracy is a share.
    """
    for key in (TRAIN_LOSS, LOSS):
        if metrics.get(key, 0.0) < LEAST_LOSS:
            raise MessageError("plausibility", f"{key} is {metrics[key]:g}, below {LEAST_LOSS:g}")
    accuracy = metrics.get(ACCURACY, 0.0)
    if accuracy < 0.0 or accuracy > 1.0:
        raise MessageError("plausibility", f"{ACCURACY} is {accuracy:g}, not within [0, 1]")


def check_telemetry(content: Mapping[str, Record], asked_steps: int) -> None:
    """Refuse reports of more work than was asked for, or of negative time (*plausibility*).

    Whatever else is in the record must be a reading that a sensor can show (see `daafl.sensing`).
    """
    record = content.get(TELEMETRY)
    if record is None:
        return
    if not isinstance(record, ConfigRecord):
        raise MessageError("schema", f"record {TELEMETRY!r} is not one of settings")
    for key, most in ((STEPS, float(asked_steps)), (SECONDS, math.inf)):
        value = record.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MessageError("schema", f"{key} is of type {type(value).__name__}, not a number")
        if not 0 <= as_float(value) <= most:
            raise MessageError(
                "plausibility", f"{key} is {as_float(value):g}, not within [0, {most:g}]"
            )
    for key, value in record.items():
        if key not in (STEPS, SECONDS):
            checked_reading(key, value)


def checked_mean(mean: Vector, sent: Sent, layout: Layout) -> Vector:
    """Return the mean change of a group, of the model's number type, if training can make it.

    Raises
    ------
    MessageError
        With reason *finiteness* or *norm*.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        delta = mean.astype(sent.vector.dtype)
        square = float(np.dot(delta, delta))
    _check_finiteness(delta, square)
    _check_norm(delta, square, sent, layout)
    return delta


def _check_finiteness(delta: Vector, square: float) -> None:
    # A finite sum of squares has finite summands; only else it takes a second look to know.
    if not math.isfinite(square) and not np.isfinite(delta).all():
        raise MessageError("finiteness", "the update holds NaN or infinity")


def _check_norm(delta: Vector, square: float, sent: Sent, layout: Layout) -> None:
    """Refuse a change that no training makes, as one of 1e38 in float32 (*norm*).

    The root mean square of the change is at most `MOST_GROWTH` times 1 plus that of the model that
    was sent. Statistics and counters take on the data's scale and have their own, wider bound.
    """
    trained, found = layout.trained(delta), math.sqrt(square / max(len(delta), 1))
    if trained is delta:
        _check_growth(found, sent.most_trained)
        return
    _check_growth(_root_mean_square(trained), sent.most_trained)
    _check_growth(found, sent.most)


def _check_growth(found: float, limit: float) -> None:
    if not found <= limit:
        raise MessageError(
            "norm", f"weights change by {found:.3g} (root mean square), at most by {limit:.3g}"
        )


def _root_mean_square(vector: Vector) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(float(vector @ vector) / max(len(vector), 1))


def checked_evaluation(content: RecordDict, claimed: int) -> dict[str, float]:
    """Return the finite metrics of a node's evaluation.

    Raises
    ------
    MessageError
        As for an update: *schema*, *size*, *sample_count* or *plausibility*.
    """
    check_records(content)
    metrics = _metrics(content)
    _check_sample_count(metrics, claimed)
    _check_plausibility(metrics)
    return finite(metrics)


def as_float(value: int | float) -> float:
    """Return a reported number as a float; an integer beyond any float is infinite.

    Examples
    --------
    >>> as_float(3), as_float(-(10**400))
    (3.0, -inf)
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are finite numbers."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}
