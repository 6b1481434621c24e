"""``daafl keys``: identities, and the roster that says which of them belong to a federation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daafl.errors import ConfigError, MessageError

if TYPE_CHECKING:
    from daafl.secure.identity import Identity
    from daafl.secure.roster import Roster, SignedRoster
    from daafl.store.folder_lock import FolderLock

_FILE = click.Path(path_type=Path, dir_okay=False)
_AUTHORITY = click.option(
    "--authority",
    "authority_path",
    metavar="KEY",
    type=_FILE,
    required=True,
    help="Private key of the federation's authority.",
)


@click.group(
    epilog="""
    \b
    A federation with two nodes:
      daafl keys authority authority        the one who says who belongs to it
      daafl keys new server
      daafl keys new node-0
      daafl keys new node-1
      daafl keys roster roster.json --federation mine --server server.pub --authority authority
      daafl keys certify roster.json node-0.pub --node 0 --authority authority
      daafl keys certify roster.json node-1.pub --node 1 --authority authority
      daafl keys check roster.json --authority-key authority.pub
    """
)
def keys() -> None:
    """Make, certify, revoke and list the identities of a federation.

    Private keys stay in their files and are never shown. The authority's is kept away from the
    server: a server that could sign rosters would enrol nodes of its own.
    """


@keys.command("new")
@click.argument("path", type=_FILE)
def new(path: Path) -> None:
    """Make an identity: a private key in PATH, for its owner only, and PATH.pub beside it."""
    _make(path, "keep it where it is, and give the public key to the authority")


@keys.command("authority")
@click.argument("path", type=_FILE)
def authority(path: Path) -> None:
    """Make a federation's authority: a private key in PATH, and PATH.pub for every node."""
    _make(path, "keep it off the server, and give the public key to every node")


@keys.command("roster")
@click.argument("path", metavar="ROSTER", type=_FILE)
@click.option("--federation", required=True, help="Name of the federation.")
@click.option(
    "--server", "server_path", metavar="PUBLIC-KEY-FILE", type=_FILE, required=True,
    help="Public key of the server that aggregates.",
)  # fmt: skip
@_AUTHORITY
def roster(path: Path, *, federation: str, server_path: Path, authority_path: Path) -> None:
    """Begin a roster, with no node in it."""
    from daafl.secure.key_files import read_identity, read_public
    from daafl.secure.roster import Roster

    if path.exists():
        raise ConfigError(f"{path} is there already; change it with certify and revoke")
    signer = read_identity(authority_path)
    try:
        first = Roster(federation, 1, read_public(server_path), {})
    except MessageError as error:
        raise ConfigError(error.detail) from None
    _sign(path, signer, first)


@keys.command("certify")
@click.argument("path", metavar="ROSTER", type=_FILE)
@click.argument("public_path", metavar="PUBLIC-KEY-FILE", type=_FILE)
@click.option("--node", type=click.IntRange(0, (1 << 63) - 1), required=True, help="Its number.")
@_AUTHORITY
def certify(path: Path, public_path: Path, *, node: int, authority_path: Path) -> None:
    """Enter a node's public key into a roster.

    A key that the node had before is revoked.
    """
    from daafl.secure.key_files import read_public

    lock = _locked(path)
    signer, present = _own(path, authority_path)
    public = read_public(public_path)
    if present.members.get(node) == public:
        raise ConfigError(f"node {node} has this key in {path} already")
    try:
        changed = present.enrolled(node, public)
    except MessageError as error:
        raise ConfigError(error.detail) from None
    _sign(path, signer, changed)
    del lock


@keys.command("revoke")
@click.argument("path", metavar="ROSTER", type=_FILE)
@click.argument("node", type=click.IntRange(0, (1 << 63) - 1))
@_AUTHORITY
def revoke(path: Path, node: int, *, authority_path: Path) -> None:
    """Take a node out of a roster; its key can never come back."""
    lock = _locked(path)
    signer, present = _own(path, authority_path)
    try:
        changed = present.without(node)
    except MessageError as error:
        raise ConfigError(error.detail) from None
    _sign(path, signer, changed)
    del lock


@keys.command("list")
@click.argument("path", metavar="ROSTER", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the roster as JSON.")
def list_keys(path: Path, *, as_json: bool) -> None:
    """List the nodes of a roster with their public keys; whose signature it has is not checked."""
    from daafl.secure.roster_files import read_roster, roster_document

    signed = read_roster(path)
    if as_json:
        click.echo(json.dumps(roster_document(signed), indent=2))
        return
    found = signed.roster
    click.echo(_what(found))
    for name, key in [("server", found.server), *found.members.items()]:
        click.echo(f"{name:>8}  {key.hex()}")
    for key in sorted(found.revoked):
        click.echo(f" revoked  {key.hex()}")


@keys.command(
    "check",
    epilog="The exit code is 0 if it is, 1 if it is not, and 2 if a file cannot be used.",
)
@click.argument("path", metavar="ROSTER", type=_FILE)
@click.option(
    "--authority-key", "authority_path", metavar="PUBLIC-KEY-FILE", type=_FILE, required=True,
    help="Public key of the federation's authority, as this node was given it.",
)  # fmt: skip
@click.option("--federation", help="Name it must have; any by default.")
@click.option("--min-epoch", type=click.IntRange(1), default=1, help="Newest epoch seen so far.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(
    path: Path, *, authority_path: Path, federation: str | None, min_epoch: int, as_json: bool
) -> int:
    """Say whether a roster is signed by the authority, and not older than one seen before."""
    from daafl.secure.key_files import read_public
    from daafl.secure.roster_files import read_roster

    signed, public = read_roster(path), read_public(authority_path)
    found, problem = signed.roster, None
    try:
        signed.verified(public, federation=federation or found.federation, min_epoch=min_epoch)
    except MessageError as error:
        problem = error.detail
    if as_json:
        document = {
            "roster": str(path),
            "valid": problem is None,
            "federation": found.federation,
            "epoch": found.epoch,
            "nodes": len(found.members),
            "problem": problem,
        }
        click.echo(json.dumps(document, indent=2))
    elif problem is None:
        click.echo(f"{path}: {_what(found)}, signed by this authority")
    else:
        click.echo(f"{path}: not to be used: {problem}")
    return int(problem is not None)


def _locked(path: Path) -> FolderLock:
    """Keep other commands from changing rosters in this folder, until what is returned is gone."""
    from daafl.store.folder_lock import FolderLock

    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}")
    return FolderLock(path.parent)


def _make(path: Path, advice: str) -> None:
    from daafl.secure.identity import Identity
    from daafl.secure.key_files import write_identity

    identity = Identity.new()
    public_path = write_identity(path, identity)
    click.echo(f"private key in {path}: {advice}")
    click.echo(f"public key in {public_path}: {identity.public.hex()}")


def _own(path: Path, authority_path: Path) -> tuple[Identity, Roster]:
    """Return the authority and a roster that it signed before; nobody else's is changed."""
    from daafl.secure.key_files import read_identity
    from daafl.secure.roster_files import read_roster

    signer = read_identity(authority_path)
    signed: SignedRoster = read_roster(path)
    try:
        return signer, signed.verified(signer.public, federation=signed.roster.federation)
    except MessageError as error:
        raise ConfigError(f"{path} is not changed: {error.detail}") from None


def _sign(path: Path, signer: Identity, changed: Roster) -> None:
    from daafl.secure.roster import SignedRoster
    from daafl.secure.roster_files import write_roster

    write_roster(path, SignedRoster.by(signer, changed))
    click.echo(f"{path}: {_what(changed)}")


def _what(roster: Roster) -> str:
    num = len(roster.members)
    return f"epoch {roster.epoch} of {roster.federation}, {num} node{'' if num == 1 else 's'}"
