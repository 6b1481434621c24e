"""``daafl run``: composes a configuration and runs it, once or for every job of a sweep."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from daafl.cli.completion import complete_overrides
from daafl.cli.ending import telling_how_to_go_on, termination_as_interrupt

if TYPE_CHECKING:
    from daafl.observability.events import Observer
    from daafl.observability.progress import Mode

# Hydra, Flower and torch take a second to load: each command imports what it needs when it runs,
# so that help, completion and error sentences come at once.


@click.command(
    epilog="""
    \b
    Examples:
      daafl run experiment=quickstart
      daafl run task=wine partition=iid num_nodes=10 num_rounds=20
      daafl run strategy=fedadam strategy.eta=0.1 pacing=buffered
      daafl run loop/learning_rate=off training.lr=0.05     choose the rate yourself
      daafl run task=my_task.py:MyTask                      a task of your own
      daafl run scenario=./mine.yaml                        faults and drift on your schedule
      daafl run output_dir=results/first seed=1
      daafl run --multirun seed=0,1,2 strategy=fedavg,fedadam
      daafl run --cfg job strategy=fedadam                  show, do not run

    `daafl list` shows the groups and their options. The exit code is 0 only if the run did what
    was asked; 1 if it failed, 2 if a setting is wrong, 130 if it was interrupted.
    """
)
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--multirun", "-m", is_flag=True, help="Run every combination of key=1,2,3 lists.")
@click.option(
    "--cfg",
    type=click.Choice(["job", "hydra", "all"]),
    help="Print the configuration and run nothing.",
)
@click.option("--resolve", is_flag=True, help="With --cfg: replace interpolations by their values.")
@click.option("--config-dir", type=click.Path(path_type=Path), help="Folder of your own groups.")
@click.option("--quiet", "-q", is_flag=True, help="Print only how the run ended.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on standard output.")
def run(
    overrides: tuple[str, ...],
    *,
    multirun: bool,
    cfg: str | None,
    resolve: bool,
    config_dir: Path | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run a federation.

    OVERRIDES choose an option of a group (strategy=fedadam) or set a value (num_rounds=20,
    strategy.eta=0.1), in Hydra's syntax.
    """
    if resolve and cfg is None:
        raise click.UsageError("--resolve goes with --cfg.")
    if cfg is not None:
        _print_configuration(overrides, part=cfg, resolve=resolve, folder=config_dir)
        return 0
    with termination_as_interrupt():
        if multirun:
            from daafl.cli.sweeping import sweep

            return sweep(overrides, folder=config_dir, as_json=as_json, now=datetime.now())
        _run_once(overrides, folder=config_dir, quiet=quiet, as_json=as_json)
    return 0


def _run_once(
    overrides: tuple[str, ...], *, folder: Path | None, quiet: bool, as_json: bool
) -> None:
    from daafl.config.composition import compose

    composition = compose(overrides, folder=folder)
    # Only now, when the configuration is known to hang together, load what is slow to load.
    from daafl.config.launching import launch, parts
    from daafl.observability.progress import JsonProgress
    from daafl.store.run_folder import REPORT, default_path

    arguments, root = parts(composition), composition.root
    output_dir = (
        Path(root.output_dir)
        if root.output_dir is not None
        else default_path(
            Path("runs"), task=composition.name, seed=root.seed, started=datetime.now()
        )
    )
    progress: Mode | Observer = "json" if as_json else "quiet" if quiet else "auto"
    if as_json and quiet:
        progress = JsonProgress(sys.stdout, report=output_dir / REPORT, is_quiet=True)
    with telling_how_to_go_on(output_dir):
        launch(composition, arguments, output_dir=output_dir, progress=progress)


def _print_configuration(
    overrides: tuple[str, ...], *, part: str, resolve: bool, folder: Path | None
) -> None:
    from daafl.config.composition import compose

    composition = compose(overrides, folder=folder)
    job = composition.shown if resolve else composition.unresolved
    shown = {
        "job": dict(job),
        "hydra": {"hydra": composition.hydra},
        "all": {"hydra": composition.hydra, **job},
    }[part]
    yaml.safe_dump(shown, sys.stdout, sort_keys=False, allow_unicode=True)
