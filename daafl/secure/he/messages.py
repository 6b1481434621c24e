"""The eight messages of a key and of one encrypted sum, each with its strict plain form.

=================  ==========  ==============================================================
message            direction   what it holds
=================  ==========  ==============================================================
`KeyAdvertisement` to server   a fresh X25519 public key, signed
`KeyCohort`        to dealer   everybody's advertisement
`DealtKeys`        to server   per member a box with the key, each box signed
`KeyBox`           to each     the box for this node, and who holds the key
`EncryptedInput`   to server   the node's ciphertexts, signed
`SumList`          to each     whose ciphertexts were added up
`SumToDecrypt`     to some     the sum's ciphertexts, and signatures under that list
`DecryptedSum`     to server   the sum in the clear, signed
=================  ==========  ==============================================================

A signature under the list is a `daafl.secure.messages.Confirmation`. Plain forms are those of
`daafl.secure.messages`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from daafl.secure.he.scheme import KEY_BLOB_BYTES
from daafl.secure.identity import SIGNATURE_BYTES
from daafl.secure.masks import KEY_BYTES, Words
from daafl.secure.messages import TAG_BYTES, Nodes, Rows, _Plain

KEY_BOX_BYTES: Final = KEY_BLOB_BYTES + TAG_BYTES


@dataclass(frozen=True)
class KeyAdvertisement(_Plain):
    """A node's fresh public key for the box that a group's key travels in."""

    node: int
    key: bytes = field(repr=False, metadata={"length": KEY_BYTES})
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class KeyCohort(_Plain):
    """Everybody's advertisement, by ascending node, for the one who deals."""

    nodes: Nodes
    keys: Rows = field(repr=False, metadata={"width": KEY_BYTES, "per": "nodes"})
    signatures: Rows = field(repr=False, metadata={"width": SIGNATURE_BYTES, "per": "nodes"})

    def advertisements(self) -> tuple[KeyAdvertisement, ...]:
        """Return them one by one."""
        rows = zip(self.nodes, self.keys, self.signatures, strict=True)
        return tuple(KeyAdvertisement(*row) for row in rows)


@dataclass(frozen=True)
class DealtKeys(_Plain):
    """A box with the group's key for every member, by ascending node, the dealer included."""

    node: int
    nodes: Nodes
    boxes: Rows = field(repr=False, metadata={"width": KEY_BOX_BYTES, "per": "nodes"})
    signatures: Rows = field(repr=False, metadata={"width": SIGNATURE_BYTES, "per": "nodes"})


@dataclass(frozen=True)
class KeyBox(_Plain):
    """The box for one member, with the dealer's advertisement and the list of members."""

    dealer: int
    dealer_key: bytes = field(repr=False, metadata={"length": KEY_BYTES})
    dealer_signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})
    members: Nodes
    box: bytes = field(repr=False, metadata={"length": KEY_BOX_BYTES})
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class EncryptedInput(_Plain):
    """A node's ciphertexts one after another, and the words that are not encrypted."""

    node: int
    ciphertexts: bytes = field(repr=False, metadata={"length": None})
    clear: Words = field(repr=False)
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class SumList(_Plain):
    """Whose ciphertexts were added up."""

    nodes: Nodes


@dataclass(frozen=True)
class SumToDecrypt(_Plain):
    """The sum's ciphertexts, and who signed the list of those in it."""

    ciphertexts: bytes = field(repr=False, metadata={"length": None})
    confirmed: Nodes
    signatures: Rows = field(repr=False, metadata={"width": SIGNATURE_BYTES, "per": "confirmed"})


@dataclass(frozen=True)
class DecryptedSum(_Plain):
    """The sum of the encrypted words, by one who decrypted it."""

    node: int
    words: Words = field(repr=False)
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})
