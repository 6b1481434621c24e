"""A signed roster as a file: JSON with keys in hexadecimal, for people to read and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from daafl.errors import ConfigError, MessageError
from daafl.secure.key_files import read_public
from daafl.secure.roster import MAX_MEMBERS, Roster, SignedRoster
from daafl.store.atomic import write_json

MAX_ROSTER_FILE: Final = 1 << 27
_MEMBER: Final = {"node", "key"}


def write_roster(path: Path, signed: SignedRoster) -> None:
    """Replace the roster at ``path``, whole or not at all.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    write_json(path, roster_document(signed))


def roster_document(signed: SignedRoster) -> dict[str, Any]:
    """Return a roster as it is written to a file."""
    roster = signed.roster
    return {
        "federation": roster.federation,
        "epoch": roster.epoch,
        "server": roster.server.hex(),
        "members": [{"node": node, "key": key.hex()} for node, key in roster.members.items()],
        "revoked": sorted(key.hex() for key in roster.revoked),
        "signature": signed.signature.hex(),
    }


def read_roster(path: Path) -> SignedRoster:
    """Return the roster at ``path``; nothing says yet who signed it, see `SignedRoster.verified`.

    Raises
    ------
    ConfigError
        If it cannot be read or is no roster.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ROSTER_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return parsed_roster(data)
    except MessageError as error:
        raise ConfigError(f"{path} is no roster: {error.detail}") from None


def verified_roster(path: Path, authority: Path, *, federation: str) -> Roster:
    """Return the roster at ``path`` if the authority whose public key is given signed it.

    Raises
    ------
    ConfigError
        If one of the files cannot be read, or the roster is not the authority's or is another
        federation's.
    """
    try:
        return read_roster(path).verified(read_public(authority), federation=federation)
    except MessageError as error:
        raise ConfigError(f"{path} cannot be trusted: {error.detail}") from None


def parsed_roster(data: bytes) -> SignedRoster:
    """Return the roster in the bytes of a file.

    Raises
    ------
    MessageError
        With reason ``schema`` or ``roster``.
    """
    if len(data) > MAX_ROSTER_FILE:
        raise MessageError("schema", f"it has more than {MAX_ROSTER_FILE} bytes")
    try:
        values = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise MessageError("schema", "it is not JSON, or names a field twice") from None
    if not isinstance(values, dict):
        raise MessageError("schema", "it is not an object")
    members, revoked = values.pop("members", None), values.pop("revoked", None)
    if not isinstance(members, list) or not isinstance(revoked, list):
        raise MessageError("schema", "members and revoked must be lists")
    if len(members) > MAX_MEMBERS:
        raise MessageError("schema", f"it has more than {MAX_MEMBERS} members")
    if not all(isinstance(member, dict) and set(member) == _MEMBER for member in members):
        raise MessageError("schema", "each member must have a node and a key")
    plain = {name: values[name] for name in values if name not in ("server", "signature")}
    return SignedRoster.from_dict(
        {
            **plain,
            "server": _bytes(values.get("server")),
            "signature": _bytes(values.get("signature")),
            "nodes": [member["node"] for member in members],
            "keys": b"".join(_bytes(member["key"]) for member in members),
            "revoked": b"".join(map(_bytes, revoked)),
        }
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose names are all different."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _bytes(value: object) -> bytes:
    if type(value) is not str or not value.isascii() or value != value.lower():
        raise MessageError("schema", "keys and signature must be hexadecimal, in lower case")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise MessageError(
            "schema", "keys and signature must be hexadecimal, in lower case"
        ) from None
