"""``daafl report``: writes a run's report again and says what is in it."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from daafl.errors import ConfigError

RUNS: Final = Path("runs")
_ROUNDS: Final = "rounds.jsonl"


def run_folders(root: Path = RUNS) -> list[Path]:
    """Return the folders below ``root`` that hold a run, newest last; sweeps' jobs included."""
    found = [*root.glob(f"*/{_ROUNDS}"), *root.glob(f"*/*/{_ROUNDS}")]
    return sorted((file.parent for file in found), key=lambda path: path.parts)


def complete_run(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the runs whose folder may be meant."""
    names = map(str, run_folders())
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(
    epilog="""
    \b
    Examples:
      daafl report                        the newest run under runs/
      daafl report runs/20260102-030405-digits-s0 --open
      daafl report results/first --json
    """
)
@click.argument("folder", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.option("--open", "is_opened", is_flag=True, help="Open the report in a browser.")
@click.option("--text", "as_text", is_flag=True, help="Print the run in a few lines.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json on standard output.")
def report(folder: str | None, *, is_opened: bool, as_text: bool, as_json: bool) -> None:
    """Write the report of a run again.

    RUN is a run's folder, or its name under runs/; the newest one by default. A run that was cut
    off has a report too.
    """
    if as_text and as_json:
        raise click.UsageError("--text and --json exclude each other.")
    from daafl.observability.record_json import summary_json
    from daafl.observability.report import describe, write_report
    from daafl.store.run_folder import REPORT, load

    path = found_run(folder)
    loaded = load(path)
    page = path / REPORT
    try:
        write_report(loaded, page)
    except OSError as error:
        raise ConfigError(f"{page} cannot be written: {error.strerror}") from error
    if as_json:
        if loaded.summary is None:
            raise ConfigError(f"{path} has no summary: the run was cut off or still goes on")
        click.echo(json.dumps(summary_json(loaded.summary), indent=2))
    elif as_text:
        click.echo(describe(loaded))
    else:
        click.echo(f"report: {page}")
    if is_opened:
        webbrowser.open(page.resolve().as_uri())


def found_run(folder: str | None) -> Path:
    """Return the folder of the run that is meant: a folder, a name under ``runs/``, or the newest.

    Raises
    ------
    ConfigError
        When nothing is named and there is no run.
    """
    if folder is None:
        folders = run_folders()
        if not folders:
            raise ConfigError(f"there is no run under {RUNS}/; name a run's folder")
        return folders[-1]
    path = Path(folder)
    return path if path.is_dir() or not (RUNS / folder).is_dir() else RUNS / folder
