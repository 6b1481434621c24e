"""Who a node is: an Ed25519 key (RFC 8032), and what its signature under an update says.

A signature covers everything that gives an update its meaning: federation, branch, round, the model
it started from, the plan in force, the node, its sequence number and the content. An update signed
for one of them verifies for no other. The coordinator takes no update twice or out of order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from daafl.errors import MessageError
from daafl.secure.encoding import encoded
from daafl.secure.hidden import SEED_BYTES, Secret

PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
HASH_BYTES: Final = 32
MAX_NODE: Final = 1 << 63
MAX_NAME: Final = 256


class Identity:
    """The long-lived signing key of a node, of a server or of a federation's authority.

    Parameters
    ----------
    key
        32-byte Ed25519 private key.

    Examples
    --------
    >>> identity = Identity.new()
    >>> is_signed_by(identity.public, b"hello", identity.sign(b"hello"))
    True
    """

    __slots__ = ("_key", "public")

    def __init__(self, key: Secret) -> None:
        if len(key.reveal()) != SEED_BYTES:
            raise ValueError(f"an identity's key must have {SEED_BYTES} bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(key.reveal())
        self.public: Final = self._key.public_key().public_bytes_raw()

    @classmethod
    def new(cls) -> Identity:
        """Return an identity that nobody had before."""
        return cls(Secret(Ed25519PrivateKey.generate().private_bytes_raw()))

    def sign(self, content: bytes) -> bytes:
        """Return the 64-byte signature of ``content``."""
        return self._key.sign(content)

    def secret(self) -> Secret:
        """Return the private key, to be stored where only its owner reads."""
        return Secret(self._key.private_bytes_raw())

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()[:16]}...)"


def is_name(value: object) -> bool:
    """Return whether ``value`` can name a federation or a branch: short, and printable."""
    return type(value) is str and 0 < len(value) <= MAX_NAME and value.isprintable()


def is_signed_by(public: bytes, content: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is the one of the owner of ``public`` under ``content``."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Statement:
    """What a node says about an update by signing it.

    Parameters
    ----------
    federation, branch
        Names of the federation and of the model's branch.
    round, sequence
        Version of the model that was sent, and the node's own count of updates.
    node
        Logical number of the node.
    model_hash, plan_hash, content_hash
        SHA-256 of the model, of the plan in force and of the update's bytes.
    """

    federation: str
    branch: str
    round: int
    node: int
    sequence: int
    model_hash: bytes = field(repr=False)
    plan_hash: bytes = field(repr=False)
    content_hash: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what a signature cannot cover, since it may come from the network."""
        for name in ("federation", "branch"):
            if not is_name(getattr(self, name)):
                raise MessageError("statement", f"{name} must have 1 to {MAX_NAME} characters")
        for name in ("round", "node", "sequence"):
            number = getattr(self, name)
            if type(number) is not int or not 0 <= number < MAX_NODE:
                raise MessageError("statement", f"{name} must be an integer, 0 to below 2**63")
        for name in ("model_hash", "plan_hash", "content_hash"):
            value = getattr(self, name)
            if type(value) is not bytes or len(value) != HASH_BYTES:
                raise MessageError("statement", f"{name} must have {HASH_BYTES} bytes")

    def content(self) -> bytes:
        """Return the bytes that are signed."""
        return encoded("update", *(getattr(self, entry.name) for entry in fields(self)))

    def sign(self, identity: Identity) -> bytes:
        """Return the signature of ``identity`` under this statement."""
        return identity.sign(self.content())

    def check(self, public: bytes, signature: bytes) -> None:
        """Return if the owner of ``public`` signed exactly this.

        Raises
        ------
        MessageError
            With reason ``signature`` otherwise.
        """
        if not is_signed_by(public, self.content(), signature):
            raise MessageError(
                "signature",
                f"node {self.node} did not sign this update for round {self.round}, this model, "
                "plan and content",
            )
