"""Identities as files: the private key for its owner alone, the public key for everybody.

Both are PEM (RFC 7468): PKCS #8 and SubjectPublicKeyInfo with Ed25519 (RFC 8410), as other tools
write and read them. A private key is written once, readable by its owner only, and never replaced.
No error here holds anything of a key.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from daafl.errors import ConfigError, StoreError
from daafl.secure.hidden import Secret
from daafl.secure.identity import Identity
from daafl.store.atomic import sync_folder

MAX_KEY_FILE: Final = 1 << 14
PUBLIC_SUFFIX: Final = ".pub"
_OTHERS: Final = 0o077


def write_identity(path: Path, identity: Identity) -> Path:
    """Write a private key to ``path`` and its public key beside it; return where that one is.

    Raises
    ------
    ConfigError
        If one of the two files is there already.
    StoreError
        If they cannot be written.
    """
    if not path.name:
        raise ConfigError("a key needs the name of a file; write where it is to be")
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for taken in (path, public_path):
        if os.path.lexists(taken):
            raise ConfigError(f"{taken} is there already; a key is never overwritten, name another")
    private = Ed25519PrivateKey.from_private_bytes(identity.secret().reveal())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, pem, 0o600)
        _write_new(public_path, public, 0o644)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{error.filename or path} cannot be written ({error.strerror}); check the folder"
        ) from None
    return public_path


def read_identity(path: Path) -> Identity:
    """Return the identity in a private key file.

    Raises
    ------
    ConfigError
        If it cannot be read, is open to others than its owner, or holds no Ed25519 private key.
    """
    data, mode = _read(path)
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds no Ed25519 private key; make one with `daafl keys new`")
    if os.name == "posix" and mode & _OTHERS:
        raise ConfigError(
            f"{path} can be read by others than its owner; `chmod 600 {path}`, and make a new key "
            "if somebody may have read it"
        )
    return Identity(Secret(key.private_bytes_raw()))


def read_public(path: Path) -> bytes:
    """Return the 32 bytes of the public key in a file.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds no Ed25519 public key.
    """
    data, _ = _read(path)
    if b"PRIVATE KEY" in data:
        raise ConfigError(f"{path} is a private key, which goes nowhere; give its {PUBLIC_SUFFIX}")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} holds no Ed25519 public key in PEM")
    return key.public_bytes_raw()


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not exist yet; it has its permissions before its content."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> tuple[bytes, int]:
    """Return the bytes and the permissions of a small regular file."""
    try:
        # Without waiting: a pipe has no writer yet, perhaps never.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path} is no regular file")
            data = file.read(MAX_KEY_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_KEY_FILE:
        raise ConfigError(f"{path} has more than {MAX_KEY_FILE} bytes, so it is no key")
    return data, mode
