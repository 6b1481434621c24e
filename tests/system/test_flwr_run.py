"""The quickstart app as a user runs it: `flwr run`, with a SuperLink and Ray."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from daafl.store.run_folder import load

pytestmark = pytest.mark.system

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart"

FRAGILE_NODES = '''"""What every node runs; one of them cannot train."""

from daafl.clients import client_app
from quickstart.task import make_task


def without_node_1(message, context, call_next):
    """Raise where partition 1 should train."""
    if message.metadata.message_type == "train" and context.node_config["partition-id"] == 1:
        raise RuntimeError("out of memory, say")
    return call_next(message, context)


app = client_app(make_task, mods=[without_node_1])
'''


def test_the_command_in_the_readme_trains_and_leaves_a_report(quickstart: Any) -> None:
    assert quickstart.run.status == "finished:completed", quickstart.run.log
    run = load(quickstart.folder)
    assert run.summary is not None
    assert run.summary.status == "completed"
    assert run.summary.nodes == 10
    assert run.summary.rounds == 20
    # As in `daafl run`, with nobody choosing a learning rate; 0.97 is what central training gets.
    assert run.summary.final_accuracy is not None
    assert run.summary.final_accuracy > 0.9
    assert (quickstart.folder / "report.html").stat().st_size > 0
    assert "completed: all 20 rounds done" in quickstart.run.log


def test_a_node_that_raises_costs_its_update_and_nothing_else(
    superlink: Any, tmp_path: Path
) -> None:
    app, folder = tmp_path / "fragile", tmp_path / "run"
    shutil.copytree(QUICKSTART, app, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "quickstart" / "client_app.py").write_text(FRAGILE_NODES)
    run = superlink.run(
        [
            str(app),
            "--stream",
            *("--federation-config", "num-supernodes=3 client-resources-num-cpus=1"),
            *("-c", f'num-server-rounds=2 output-dir="{folder}"'),
        ]
    )
    assert run.status == "finished:completed", run.log
    stored = load(folder)
    assert stored.summary is not None
    assert stored.summary.status == "completed"
    trained = [step for step in stored.steps if step.kind == "train"]
    assert [step.num_updates for step in trained] == [2, 2]
    assert [dict(step.failures) for step in trained] == [{"client_app_raised": 1}] * 2
