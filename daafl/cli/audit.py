"""``daafl audit``: says whether an audit log is as it was written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daafl.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from daafl.secure.audit import Head


@click.group()
def audit() -> None:
    """Verify the audit log of a federation."""


@audit.command(
    epilog="""
    \b
    Examples:
      daafl audit verify runs/first/audit.jsonl
      daafl audit verify audit.jsonl --head 12:9f2c...    a head that was noted elsewhere

    The exit code is 0 if the log is whole, 1 if it is not, and 2 if it cannot be read.
    """
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--head",
    metavar="LINES:HASH",
    help="Where the log ended earlier; it must still contain that.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(path: Path, *, head: str | None, as_json: bool) -> int:
    """Verify that no line of an audit log was changed, removed, inserted or moved.

    FILE may also be the folder of a run.

    Lines that were cut off at the end show only against a head noted elsewhere: give it with
    --head, as a verification printed it.
    """
    from daafl.secure.audit import AuditError
    from daafl.secure.audit import verify as verified
    from daafl.secure.trail import AUDIT

    path = path / AUDIT if path.is_dir() else path
    expected = None if head is None else _head(head)
    found, broken = None, None
    try:
        found = verified(path, expected)
    except AuditError as error:
        broken = error
    except StoreError as error:
        raise ConfigError(str(error)) from None
    if as_json:
        document = {
            "file": str(path),
            "whole": broken is None,
            "lines": None if found is None else found.count,
            "head": None if found is None else f"{found.count}:{found.hash}",
            "broken_line": None if broken is None else broken.line,
            "problem": None if broken is None else broken.problem,
        }
        click.echo(json.dumps(document, indent=2))
    elif found is not None:
        lines = f"{found.count:,} line{'' if found.count == 1 else 's'}"
        click.echo(f"{path}: {lines}, none changed; it ends at {found.count}:{found.hash}")
    else:
        click.echo(f"{path}: {broken}")
    return int(broken is not None)


def _head(text: str) -> Head:
    from daafl.secure.audit import Head

    match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
    if match is None:
        raise ConfigError(f"--head {text!r} is not LINES:HASH, as `daafl audit verify` prints it")
    return Head(int(match[1]), match[2])
