"""Nodes with key files, on a real SuperLink: their coordinator sees sums only."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import daafl
from daafl.data.partition import Dirichlet
from daafl.learning.tasks.digits import Digits
from daafl.reopening import MODEL
from daafl.secure.settings import MaskedSums
from daafl.store.run_folder import load

pytestmark = pytest.mark.system

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart"
NUM_NODES, NUM_ROUNDS = 5, 4

CLIENT = '''"""What every node runs: its update leaves it under masks."""

from daafl.clients import client_app
from daafl.clients.key_files import KeyFiles
from daafl.secure.settings import MaskedSums
from quickstart.task import make_task

KEYS = KeyFiles("{keys}/node-{{node}}", "{keys}/roster.json", "{keys}/authority.pub")
app = client_app(make_task, secure=MaskedSums(), keys=KEYS)
'''

SERVER = '''"""What the coordinator runs."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from daafl.federation import train_on
from daafl.secure.roster_files import verified_roster
from daafl.secure.settings import MaskedSums
from quickstart.task import make_task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train on the nodes that the roster lists."""
    keys = Path("{keys}")
    roster = verified_roster(
        keys / "roster.json", keys / "authority.pub", federation="federation"
    )
    train_on(
        grid,
        make_task(),
        num_rounds={num_rounds},
        secure=MaskedSums(),
        roster=roster,
        output_dir=str(context.run_config["output-dir"]),
        min_nodes={num_nodes},
        node_timeout_s=120,
    )
'''


def make_keys(folder: Path) -> None:
    """Make a federation's keys with the commands that its people use."""

    def keys(*arguments: str) -> None:
        command = [sys.executable, "-m", "daafl", "keys", *arguments]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)

    keys("authority", "authority")
    keys("new", "server")
    keys(
        *("roster", "roster.json", "--federation", "federation"),
        *("--server", "server.pub", "--authority", "authority"),
    )
    for node in range(NUM_NODES):
        keys("new", f"node-{node}")
        keys(
            *("certify", "roster.json", f"node-{node}.pub"),
            *("--node", str(node), "--authority", "authority"),
        )


def test_masked_sums_on_a_superlink_give_the_model_of_a_simulation(
    superlink: Any, tmp_path: Path
) -> None:
    app, keys, folder = tmp_path / "app", tmp_path / "keys", tmp_path / "run"
    keys.mkdir()
    make_keys(keys)
    shutil.copytree(QUICKSTART, app, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "quickstart" / "client_app.py").write_text(CLIENT.format(keys=keys))
    (app / "quickstart" / "server_app.py").write_text(
        SERVER.format(keys=keys, num_rounds=NUM_ROUNDS, num_nodes=NUM_NODES)
    )
    run = superlink.run(
        [
            str(app),
            "--stream",
            *("--federation-config", f"num-supernodes={NUM_NODES} client-resources-num-cpus=1"),
            *("-c", f'output-dir="{folder}"'),
        ]
    )
    assert run.status == "finished:completed", run.log
    stored = load(folder)
    trained = [step for step in stored.steps if step.kind == "train"]
    assert [step.num_updates for step in trained] == [NUM_NODES] * NUM_ROUNDS
    simulated = daafl.run(
        Digits(partitioner=Dirichlet(alpha=0.3)),
        num_nodes=NUM_NODES,
        num_rounds=NUM_ROUNDS,
        secure=MaskedSums(),
        output_dir=tmp_path / "simulated",
        progress="quiet",
    )
    with np.load(folder / "checkpoints" / MODEL) as deployed:
        for name, array in simulated.arrays.items():
            assert np.array_equal(deployed[name], array), name
