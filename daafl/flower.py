"""The one place that touches what Flower 1.41 does not export.

Everything else imports Flower's public names from ``flwr.app``, ``flwr.serverapp`` and
``flwr.clientapp``. The functions here stand for behaviour that an in-process Grid needs and that
Flower keeps in modules it moves between minor versions; ``tests/test_flower_contract.py`` proves
each of them against the installed Flower, so that an upgrade fails there and nowhere else.
"""

import copy
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.app.message import make_message
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "FAILURE_NAMES",
    "SUPERLINK_NODE_ID",
    "SUPPORTED_FLOWER",
    "ClientAppCallable",
    "ErrorCode",
    "Mod",
    "Run",
    "adopt_task_identity",
    "array_record",
    "config_record",
    "empty_run",
    "error_reply",
    "failure_name",
    "metric_record",
    "named",
    "quiet_flower_logs",
    "rebuild",
    "record_dict",
    "with_message_id",
]

ConfigScalar = bool | bytes | float | int | str

SUPPORTED_FLOWER: Final = "1.41"
"""Minor version of Flower whose behaviour the contract test proves."""

FAILURE_NAMES: Final = MappingProxyType(
    {
        ErrorCode.UNKNOWN: "unknown",
        ErrorCode.LOAD_CLIENT_APP_EXCEPTION: "client_app_not_loaded",
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION: "client_app_raised",
        ErrorCode.MESSAGE_UNAVAILABLE: "message_unavailable",
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "reply_unavailable",
        ErrorCode.NODE_UNAVAILABLE: "node_unavailable",
        ErrorCode.MOD_FAILED_PRECONDITION: "mod_refused",
        ErrorCode.INVALID_FAB: "bundle_invalid",
        ErrorCode.CLIENT_APP_CRASHED: "client_app_crashed",
    }
)
"""Flower's error codes in words, as they are counted and reported."""


def adopt_task_identity(*, run_id: int, node_id: int = SUPERLINK_NODE_ID, task_id: int = 1) -> None:
    """Make this process the given task, so that it may create messages.

    Flower takes the sender of a new `Message` from process-wide state that only its own executors
    set; without it the constructor raises `RuntimeError`. The state is global: one run at a time
    per process.
    """
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id
    TaskIdentity.task_id = task_id


def empty_run(run_id: int) -> Run:
    """Return the description of a run that no SuperLink knows."""
    return Run.create_empty(run_id)


def with_message_id(
    message: Message, message_id: str, *, content: RecordDict | None = None
) -> Message:
    """Return `message` under another id; replies to it will name that id.

    It shares the message's content unless it is given another.

    `Metadata.message_id` has no setter, because in a deployment the SuperLink gives the ids.
    """
    metadata = copy.copy(message.metadata)
    metadata.__dict__["_message_id"] = message_id
    if message.has_error():
        return make_message(metadata=metadata, error=message.error)
    return make_message(metadata=metadata, content=message.content if content is None else content)


def named(message: Message, message_id: str) -> Message:
    """Return `message` itself, under another id; for messages that nobody else holds."""
    message.metadata.__dict__["_message_id"] = message_id
    return message


def rebuild(metadata: Metadata, content: RecordDict) -> Message:
    """Return a message with a copy of `metadata` and with `content` itself, not copied."""
    return make_message(metadata=copy.copy(metadata), content=content)


def error_reply(message: Message, *, code: int, reason: str) -> Message:
    """Return the reply of a node that could not answer `message`.

    Parameters
    ----------
    message
        What the node was asked.
    code
        One of the constants of `ErrorCode`.
    reason
        What went wrong, for the reader of the run's log.
    """
    return Message(Error(code, reason), reply_to=message)


def config_record(values: Mapping[str, ConfigScalar | list[int]]) -> ConfigRecord:
    """Return ``ConfigRecord(values)`` without Flower's check of every single value.

    The check takes longer than everything else that happens to a small message. Only for values
    of this program's own making, whose types are known; what comes from elsewhere is checked.
    """
    record = ConfigRecord()
    record.__dict__["_data"].update(values)
    return record


def array_record(arrays: Mapping[str, Array]) -> ArrayRecord:
    """Return ``ArrayRecord(arrays)`` with the arrays themselves, which it would copy."""
    record = ArrayRecord()
    record.__dict__["_data"].update(arrays)
    return record


def metric_record(values: Mapping[str, int | float]) -> MetricRecord:
    """Return ``MetricRecord(values)`` without Flower's checks, as `config_record` does."""
    record = MetricRecord()
    record.__dict__["_data"].update(values)
    return record


def record_dict(records: Mapping[str, ArrayRecord | ConfigRecord | MetricRecord]) -> RecordDict:
    """Return ``RecordDict(records)`` without Flower's checks, as `config_record` does."""
    content = RecordDict()
    content.__dict__["_data"].update(records)
    return content


def failure_name(error: Error) -> str:
    """Return the name under which `error` is counted: a value of `FAILURE_NAMES`.

    A code that Flower does not define, sent by a foreign node, counts as ``unknown``.
    """
    return FAILURE_NAMES.get(error.code, FAILURE_NAMES[ErrorCode.UNKNOWN])


def quiet_flower_logs(level: int = logging.WARNING) -> None:
    """Silence what Flower logs below `level`; its strategies narrate every round at ``INFO``."""
    logging.getLogger("flwr").setLevel(level)
