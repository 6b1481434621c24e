"""``daafl list``: what can be chosen, and the runs there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from daafl.cli.reporting import RUNS, run_folders
from daafl.config.groups import default_options, option_groups
from daafl.errors import ConfigError
from daafl.nearest import suggestion

_RUNS = "runs"


def _complete_name(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(n) for n in [*option_groups(), _RUNS] if n.startswith(incomplete)]


@click.command(
    "list",
    epilog="""
    \b
    Examples:
      daafl list              all groups, * marks what is chosen by default
      daafl list strategy     one group
      daafl list runs         the runs in the folder runs/
    """,
)
@click.argument("name", metavar="[GROUP|runs]", required=False, shell_complete=_complete_name)
@click.option("--config-dir", type=click.Path(path_type=Path), help="Folder of your own groups.")
def list_choices(name: str | None, *, config_dir: Path | None) -> None:
    """List the groups with their options, or the runs there are."""
    if name == _RUNS:
        for line in run_lines(RUNS):
            click.echo(line)
        return
    groups, chosen = option_groups(config_dir), default_options()
    if name is not None and name not in groups:
        raise ConfigError(f"there is no group {name}; {suggestion(name, [*groups, _RUNS])}")
    width = max(len(option.name) for options in groups.values() for option in options)
    for group in [name] if name is not None else groups:
        click.secho(f"{group}=...", bold=True)
        for option in groups[group]:
            mark = "*" if chosen.get(group) == option.name else " "
            click.echo(f" {mark} {option.name:<{width}}  {option.description}")


def run_lines(root: Path) -> list[str]:
    """Return a line for every run below ``root``, oldest first."""
    folders = run_folders(root)
    if not folders:
        return [f"there is no run under {root}/"]
    width = max(len(str(folder)) for folder in folders)
    return [f"{folder!s:<{width}}  {_brief(folder)}" for folder in folders]


def _brief(folder: Path) -> str:
    summary, info = _document(folder / "summary.json"), _document(folder / "info.json")
    accuracy = summary.get("final_accuracy")
    figures = f"accuracy {accuracy:.3f}" if isinstance(accuracy, float) else "accuracy unknown"
    status = str(summary.get("status", "unfinished"))
    rounds = summary.get("rounds", "?")
    return f"{status:<10}  {figures}  {rounds} rounds  {info.get('strategy', '')}".rstrip()


def _document(path: Path) -> Mapping[str, Any]:
    """Return a JSON object; an empty one if there is none, as in a run that goes on."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
