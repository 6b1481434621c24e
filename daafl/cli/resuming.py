"""``daafl resume``: goes on with a run whose process has ended."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from daafl.cli.ending import telling_how_to_go_on, termination_as_interrupt
from daafl.cli.reporting import complete_run, found_run

if TYPE_CHECKING:
    from daafl.observability.events import Observer
    from daafl.observability.progress import Mode


@click.command(
    epilog="""
    \b
    Examples:
      daafl resume                        the newest run under runs/
      daafl resume runs/20260102-030405-digits-s0
      daafl resume results/first --quiet

    A run writes a checkpoint after every round (checkpoint_every=N for every Nth). It goes on after
    the last one as if nothing had happened: same model, same decisions, bit for bit. What was
    written later is cut off and done again. If the last checkpoint is damaged, the one before it
    is used, and a warning says so. Start it from the folder that the run was started from, so
    that files of your own are found.

    A run that was started from Python has no config.yaml; go on with it there:

    \b
      daafl.resume("runs/mine", MyTask(), num_nodes=30, num_rounds=60)

    The exit code is 0 if the run is complete, also if it was before; else as for `daafl run`.
    """
)
@click.argument("folder", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.option("--quiet", "-q", is_flag=True, help="Print only how the run ended.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on standard output.")
def resume(folder: str | None, *, quiet: bool, as_json: bool) -> None:
    """Go on with a run that was killed, stopped or failed.

    RUN is a run's folder, or its name under runs/; the newest one by default.
    """
    path = found_run(folder)
    from daafl.observability.progress import JsonProgress
    from daafl.observability.record_json import summary_json
    from daafl.reopening import is_complete
    from daafl.store.run_folder import REPORT, summary_of

    summary = summary_of(path)
    if summary is not None and is_complete(path):
        if as_json:
            click.echo(json.dumps(summary_json(summary), indent=2))
        click.echo(f"the run in {path} is complete: there is nothing to resume", err=as_json)
        return
    from daafl.config.resuming import resume as resume_run

    progress: Mode | Observer = "json" if as_json else "quiet" if quiet else "auto"
    if as_json and quiet:
        progress = JsonProgress(sys.stdout, report=path / REPORT, is_quiet=True)
    with termination_as_interrupt(), telling_how_to_go_on(path):
        resume_run(path, progress=progress)
