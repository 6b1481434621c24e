"""What the coordinator runs."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from daafl.federation import train_on
from quickstart.task import make_task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train on whatever nodes there are."""
    config = context.run_config
    train_on(
        grid,
        make_task(),
        num_rounds=int(config["num-server-rounds"]),
        seed=int(config["seed"]),
        output_dir=str(config["output-dir"]) or None,
        min_nodes=1,
        node_timeout_s=120,  # a simulation on a busy machine takes a while until its nodes answer
    )
