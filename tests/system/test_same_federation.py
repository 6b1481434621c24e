"""One federation, started in three ways: the same decisions, the same model."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import daafl
from daafl.autonomy.hub import Hub
from daafl.autonomy.journal import read, replay
from daafl.config.building import built
from daafl.data.partition import Dirichlet
from daafl.learning.tasks.digits import Digits
from daafl.strategies import Autonomous

pytestmark = pytest.mark.system

# What the quickstart app says, for the two other ways to start it.
NUM_NODES, NUM_ROUNDS, SEED, ALPHA = 10, 20, 0, 0.3
# Flower's nodes train one by one; together, they would differ from that by rounding.
TRAINER = "eager"


@pytest.fixture(scope="module")
def from_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run by `daafl.run`."""
    result = daafl.run(
        Digits(partitioner=Dirichlet(alpha=ALPHA)),
        num_nodes=NUM_NODES,
        num_rounds=NUM_ROUNDS,
        seed=SEED,
        trainer=TRAINER,
        output_dir=tmp_path_factory.mktemp("python") / "run",
        progress="quiet",
    )
    return result.output_dir


@pytest.fixture(scope="module")
def from_command_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run by `daafl run`."""
    return run_by_command_line(tmp_path_factory.mktemp("command_line"))


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose operator asks for far too high a rate."""
    edit = "overrides=[{step: 10, knob: lr, value: 3.0}]"
    return run_by_command_line(tmp_path_factory.mktemp("disturbed"), edit, "pacing=over_selected")


def run_by_command_line(folder: Path, *overrides: str) -> Path:
    """Run the quickstart's federation, with further overrides, and return the run's folder."""
    settings = [
        *("task=digits", "partition=dirichlet", f"partition.alpha={ALPHA}"),
        *(f"num_nodes={NUM_NODES}", f"num_rounds={NUM_ROUNDS}", f"seed={SEED}"),
        *(f"trainer={TRAINER}", f"output_dir={folder / 'run'}"),
    ]
    command = [sys.executable, "-m", "daafl", "run", "--quiet", *settings, *overrides]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def hubs_of(folder: Path) -> Mapping[str, Hub]:
    """Return the hubs that a folder's configuration describes; without one, the default ones."""
    file = folder / "config.yaml"
    if not file.exists():
        return Autonomous().hubs
    config = yaml.safe_load(file.read_text())
    loops = [built(node) for node in config["loop"].values() if node]
    return Autonomous(loops=loops, pacing=built(config["pacing"])).hubs


def effects(folder: Path) -> list[dict[str, Any]]:
    """Return everything that a run's journal tells to have happened to plan and model.

    Left out is what hangs on the wall clock of a run with real nodes, and can only raise an alert:
    how long a step took, and what the alarms say about it.
    """
    return [
        {
            **{key: record[key] for key in ("target", "tick", "before", "restore", "after")},
            "acting": [
                {key: decision[key] for key in ("loop", "action", "changes", "restore", "reason")}
                for decision in record["decisions"]
                if decision["changes"] or decision["restore"] is not None
            ],
        }
        if record["kind"] == "decided"
        else record
        for record in read(folder / "journal.jsonl").records
        if record["kind"] != "closed"
    ]


def model(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "checkpoints" / "model.npz") as stored:
        return dict(stored)


def test_python_and_command_line_run_the_same_federation(
    from_python: Path, from_command_line: Path
) -> None:
    journals = [folder / "journal.jsonl" for folder in (from_python, from_command_line)]
    assert journals[0].read_text() == journals[1].read_text()
    for name, array in model(from_python).items():
        np.testing.assert_array_equal(array, model(from_command_line)[name])


def test_flower_runs_the_same_federation(from_python: Path, quickstart: Any) -> None:
    assert quickstart.run.status == "finished:completed", quickstart.run.log
    expected = effects(from_python)
    # A probe, a start from what it measured, and moves of the rate: something did happen.
    assert sum(len(record["acting"]) for record in expected) >= 3
    assert effects(quickstart.folder) == expected
    trained = model(quickstart.folder)
    assert set(trained) == set(model(from_python))
    for name, array in model(from_python).items():
        np.testing.assert_allclose(trained[name], array, rtol=0, atol=1e-6)


@pytest.mark.parametrize("origin", ["from_python", "from_command_line", "disturbed", "quickstart"])
def test_a_journal_replays_to_the_same_decisions(
    origin: str, request: pytest.FixtureRequest
) -> None:
    made = request.getfixturevalue(origin)
    folder = made if isinstance(made, Path) else made.folder
    header, records = read(folder / "journal.jsonl")
    assert len(records) > 2 * NUM_ROUNDS  # both hubs, after every step
    assert replay(hubs_of(folder), [header, *records]) is None


def test_the_disturbed_run_tells_of_everything_that_can_be_replayed(disturbed: Path) -> None:
    kinds = {record["kind"] for record in read(disturbed / "journal.jsonl").records}
    assert kinds >= {"decided", "override", "restored"}
