"""``daafl replay``: lets the loops of a run decide again, and says whether they decide the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from daafl import __version__
from daafl.cli.reporting import complete_run, found_run
from daafl.errors import ConfigError

if TYPE_CHECKING:
    from daafl.autonomy.hub import Hub
    from daafl.autonomy.replay import Divergence
    from daafl.observability.run import Run


@click.command(
    epilog="""
    \b
    Examples:
      daafl replay                        the newest run under runs/
      daafl replay runs/20260102-030405-digits-s0
      daafl replay results/first --json

    The exit code is 0 if every decision comes out as recorded, 1 if one does not, and 2 if the run
    cannot be replayed.
    """
)
@click.argument("folder", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def replay(folder: str | None, *, as_json: bool) -> int:
    """Replay the decisions of a run.

    The loops are built again from the run's config.yaml, are shown what they saw, and decide again.
    RUN is a run's folder, or its name under runs/; the newest one by default.
    """
    from daafl.autonomy.lines import CLOSED, DECIDED
    from daafl.config.rebuilding import rebuilt
    from daafl.store.run_folder import load

    path = found_run(folder)
    run = load(path)
    check_replayable(run)
    _, hubs = rebuilt(run.config)
    divergence = replayed(run, hubs)
    counts = Counter(str(record.get("kind")) for record in run.journal)
    if as_json:
        document = {
            "run": run.name,
            "identical": divergence is None,
            "cycles": counts[DECIDED],
            "insights": counts[CLOSED],
            "divergence": None if divergence is None else asdict(divergence),
        }
        click.echo(json.dumps(document, indent=2))
    elif divergence is None:
        click.echo(
            f"{run.name}: {counts[DECIDED]:,} cycles and {counts[CLOSED]:,} judgements come out "
            "as recorded"
        )
    else:
        click.echo(f"{run.name}: {divergence_text(run, divergence)}")
    return int(divergence is not None)


def check_replayable(run: Run) -> None:
    """Refuse a run that lacks what a replay needs.

    Raises
    ------
    ConfigError
        Saying what it lacks.
    """
    if run.header is None:
        raise ConfigError(f"{run.name} has no journal.jsonl, so there is nothing to replay")
    if not run.config:
        raise ConfigError(
            f"{run.name} has no config.yaml: it was started from Python, so only its program knows "
            "its loops; replay it there with daafl.autonomy.journal.replay and Autonomous.hubs"
        )


def replayed(run: Run, hubs: Mapping[str, Hub]) -> Divergence | None:
    """Return where the hubs first decide differently from a run's journal, if they do.

    Raises
    ------
    JournalError
        When a line cannot be replayed.
    """
    from daafl.autonomy.replay import replay as replay_journal

    header = [] if run.header is None else [run.header]
    return replay_journal(hubs, [*header, *run.journal])


def divergence_text(run: Run, divergence: Divergence) -> str:
    """Return where a replay differs, in words, and whether another version had decided."""
    version = (run.header or {}).get("version")
    other = f" (it was run by daafl {version}, this is {__version__})"
    return (
        f"the loops decide differently at {divergence.target}, tick {divergence.tick}: "
        f"{divergence.what}{other if version not in (None, __version__) else ''}"
    )
