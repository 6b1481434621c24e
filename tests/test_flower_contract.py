"""What `daafl.flower` relies on holds in the Flower that is installed."""

import ast
import logging
import pickle
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path

import flwr
import numpy as np
import pytest
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore.task_identity import TaskIdentity

from daafl import flower

ROOT = Path(__file__).resolve().parents[1]
EXPORTED = {
    "flwr.app",
    "flwr.clientapp",
    "flwr.clientapp.mod",
    "flwr.serverapp",
    "flwr.serverapp.strategy",
}


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test a task identity and put back what was there before."""
    for field in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, field, None)
    flower.adopt_task_identity(run_id=7)
    yield


def instruction(message_type: str = "train") -> Message:
    content = RecordDict({"arrays": ArrayRecord([np.arange(3.0)]), "config": ConfigRecord()})
    return Message(content, dst_node_id=12, message_type=message_type, group_id="4")


def test_installed_flower_is_the_supported_minor_version() -> None:
    assert version("flwr").rsplit(".", 1)[0] == flower.SUPPORTED_FLOWER
    assert flwr.__version__ == version("flwr")


def test_the_distribution_admits_only_the_supported_minor_version() -> None:
    pins = [line for line in requires("daafl") or [] if line.startswith("flwr<")]
    assert pins == ["flwr<1.42,>=1.41"]


def test_a_message_needs_a_task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskIdentity, "_run_id", None)
    with pytest.raises(RuntimeError, match="run_id is not set"):
        instruction()


def test_the_adopted_identity_signs_new_messages() -> None:
    flower.adopt_task_identity(run_id=21, node_id=33, task_id=5)
    metadata = instruction().metadata
    assert (metadata.run_id, metadata.src_node_id, metadata.src_task_id) == (21, 33, 5)


def test_the_server_is_the_default_identity() -> None:
    assert instruction().metadata.src_node_id == flower.SUPERLINK_NODE_ID == 1


def test_an_empty_run_carries_its_id_and_nothing_else() -> None:
    run = flower.empty_run(7)
    assert isinstance(run, flower.Run)
    assert (run.run_id, run.fab_id, run.override_config) == (7, "", {})


def test_a_new_message_has_no_id_and_no_public_way_to_get_one() -> None:
    message = instruction()
    assert message.metadata.message_id == ""
    with pytest.raises(AttributeError):
        message.metadata.message_id = "a"  # type: ignore[misc]  # the point of the test


def test_with_message_id_changes_the_id_alone() -> None:
    message = instruction()
    named = flower.with_message_id(message, "a")
    assert named.metadata.message_id == "a"
    assert message.metadata.message_id == ""
    assert named.content is message.content
    assert named.metadata.group_id == "4"
    assert named.metadata.dst_node_id == 12
    assert named.metadata.created_at == message.metadata.created_at


def test_a_reply_names_the_message_it_answers_and_goes_back_to_its_sender() -> None:
    asked = flower.with_message_id(instruction(), "a")
    reply = Message(RecordDict(), reply_to=asked)
    assert reply.metadata.reply_to_message_id == "a"
    assert reply.metadata.src_node_id == 12
    assert reply.metadata.dst_node_id == flower.SUPERLINK_NODE_ID
    assert reply.metadata.message_type == "train"


def test_rebuild_isolates_metadata_and_takes_the_content_given() -> None:
    message = flower.with_message_id(instruction(), "a")
    content = RecordDict()
    copied = flower.rebuild(message.metadata, content)
    copied.metadata.group_id = "changed"
    assert copied.content is content
    assert copied.metadata.message_id == "a"
    assert message.metadata.group_id == "4"


def test_an_error_reply_has_an_error_and_no_content() -> None:
    asked = flower.with_message_id(instruction(), "a")
    code = flower.ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    reply = flower.error_reply(asked, code=code, reason="ValueError: no data")
    assert not reply.has_content()
    assert reply.error == Error(code, "ValueError: no data")
    assert reply.metadata.reply_to_message_id == "a"


def test_an_error_reply_keeps_its_error_under_a_new_id() -> None:
    reply = flower.error_reply(instruction(), code=flower.ErrorCode.UNKNOWN, reason="lost")
    assert flower.with_message_id(reply, "b").error == Error(0, "lost")


def test_every_error_code_of_flower_has_its_own_name() -> None:
    codes = {value for name, value in vars(flower.ErrorCode).items() if name.isupper()}
    assert codes == set(flower.FAILURE_NAMES)
    assert len(set(flower.FAILURE_NAMES.values())) == len(codes)


@pytest.mark.parametrize(("code", "name"), [(2, "client_app_raised"), (5, "node_unavailable")])
def test_failures_are_counted_by_name(code: int, name: str) -> None:
    assert flower.failure_name(Error(code, "why")) == name


def test_a_code_flower_does_not_define_counts_as_unknown() -> None:
    assert flower.failure_name(Error(4242)) == "unknown"


def test_messages_survive_pickling_between_processes() -> None:
    message = flower.with_message_id(instruction(), "a")
    twin = pickle.loads(pickle.dumps(message))
    assert twin.metadata == message.metadata
    assert np.array_equal(twin.content["arrays"].to_numpy_ndarrays()[0], np.arange(3.0))


def test_a_client_app_can_be_called_without_any_executor() -> None:
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        node = ConfigRecord({"partition": context.node_config["partition-id"]})
        return Message(RecordDict({"node": node}), reply_to=message)

    context = Context(
        run_id=7,
        node_id=12,
        node_config={"partition-id": 3},
        state=RecordDict(),
        run_config={},
    )
    reply = app(flower.with_message_id(instruction("query.hello"), "a"), context)
    assert reply.content["node"] == ConfigRecord({"partition": 3})
    assert reply.metadata.reply_to_message_id == "a"


def test_copying_a_record_isolates_it_from_its_source() -> None:
    record = ConfigRecord({"lr": 0.1})
    record.copy().pop("lr")
    assert record == ConfigRecord({"lr": 0.1})


def test_a_record_made_without_checks_equals_one_made_with_them() -> None:
    values: dict[str, bool | bytes | float | int | str | list[int]] = {
        "lr": 0.1,
        "steps": 3,
        "is-live": True,
        "name": "main",
        "key": b"k",
        "nodes": [1, 2],
    }
    fast, checked = flower.config_record(values), ConfigRecord(values)
    assert fast == checked
    assert pickle.loads(pickle.dumps(fast)) == checked
    fast["steps"] = 4
    assert values["steps"] == 3
    with pytest.raises(TypeError):
        fast["steps"] = object()  # what is added later is checked


def test_records_are_put_together_without_checks_as_with_them() -> None:
    records = {"config": ConfigRecord({"steps": 3}), "metrics": MetricRecord({"loss": 0.5})}
    fast, checked = flower.record_dict(records), RecordDict(records)
    assert fast == checked
    assert pickle.loads(pickle.dumps(fast)) == checked
    with pytest.raises(TypeError):
        fast["more"] = 1  # type: ignore[assignment]  # what is added later is checked


def test_quiet_logs_drop_narration_and_keep_warnings(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("flwr")
    previous = logger.level
    try:
        flower.quiet_flower_logs()
        logger.addHandler(caplog.handler)
        logger.info("[ROUND 1/3]")
        logger.warning("reply discarded")
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(previous)
    assert {record.getMessage() for record in caplog.records} == {"reply discarded"}


def imported_modules(file: Path) -> set[str]:
    """Return the absolute names of the modules that `file` imports, wherever in the file."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_no_other_module_imports_what_flower_does_not_export() -> None:
    folders = ("daafl", "strategies", "clients", "examples")
    files = {file for folder in folders for file in (ROOT / folder).rglob("*.py")}
    reaching_in = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files - {ROOT / "daafl" / "flower.py"}
        for name in imported_modules(file)
        if name.split(".")[0] == "flwr" and name not in EXPORTED
    }
    assert reaching_in == set()


def test_a_mod_wraps_the_call_of_a_handler() -> None:
    seen = []

    def note(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        seen.append(message.metadata.message_type)
        return call_next(message, context)

    mods: list[flower.Mod] = [note]
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    context = Context(run_id=7, node_id=12, node_config={}, state=RecordDict(), run_config={})
    app(instruction(), context)
    assert seen == ["train"]
