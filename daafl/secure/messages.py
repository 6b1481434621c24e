"""The nine messages of one masked sum, each with its strict plain form.

=================  ==========  ==============================================================
message            direction   what it holds
=================  ==========  ==============================================================
`Advertisement`    to server   two fresh X25519 public keys, signed
`Cohort`           to all      everybody's advertisement
`SealedShares`     to server   per neighbour a box with a share of both secrets
`Delivery`         to each     who shared, and the boxes meant for this node
`MaskedInput`      to server   the masked vector, signed
`Survivors`        to each     whose vectors arrived, and its neighbours' signatures on theirs
`Confirmation`     to server   a signature under the list of survivors
`Confirmations`    to all      those signatures
`Revelation`       to server   per neighbour one share: of the seed, or of the key
=================  ==========  ==============================================================

``to_dict`` gives integers, bytes and lists of integers only, as Flower's ``ConfigRecord`` holds
them; ``from_dict`` accepts nothing else and raises `MessageError` with reason ``schema``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self, get_type_hints

import numpy as np

from daafl.secure.fields import Fields
from daafl.secure.identity import SIGNATURE_BYTES
from daafl.secure.masks import KEY_BYTES, Words
from daafl.secure.shamir import SHARE_BYTES

TAG_BYTES: Final = 16
BOX_BYTES: Final = 2 * SHARE_BYTES + TAG_BYTES
HASH_BYTES: Final = 32

Rows = tuple[bytes, ...]
Nodes = tuple[int, ...]
Plain = dict[str, int | bytes | list[int]]


class _Plain:
    """A message whose fields are nodes, lists of nodes, bytes, rows of bytes or one vector."""

    def to_dict(self) -> Plain:
        """Return plain values."""
        values: Plain = {}
        for entry in fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            if "width" in entry.metadata:
                value = b"".join(value)
            elif isinstance(value, np.ndarray):
                value = value.astype("<u4").tobytes()
            elif isinstance(value, tuple):
                value = list(value)
            values[entry.name] = value
        return values

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Return what `to_dict` described."""
        source = Fields.of(values, cls.__name__)
        types = get_type_hints(cls, vars(sys.modules[__name__]))
        read: dict[str, Any] = {}
        for entry in fields(cls):  # type: ignore[arg-type]
            name, extra = entry.name, entry.metadata
            if "width" in extra:
                count = len(read[extra["per"]]) if extra["per"] else None
                read[name] = source.rows(name, extra["width"], count)
            elif "length" in extra:
                read[name] = source.data(name, extra["length"])
            elif types[name] is int:
                read[name] = source.integer(name)
            elif types[name] == Nodes:
                read[name] = source.nodes(name)
            else:
                read[name] = source.words(name)
        source.end()
        return cls(**read)


@dataclass(frozen=True)
class Advertisement(_Plain):
    """A node's two fresh public keys: for masks, and for the boxes that shares travel in."""

    node: int
    mask_key: bytes = field(repr=False, metadata={"length": KEY_BYTES})
    share_key: bytes = field(repr=False, metadata={"length": KEY_BYTES})
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class Cohort(_Plain):
    """Everybody's advertisement, by ascending node."""

    nodes: Nodes
    mask_keys: Rows = field(repr=False, metadata={"width": KEY_BYTES, "per": "nodes"})
    share_keys: Rows = field(repr=False, metadata={"width": KEY_BYTES, "per": "nodes"})
    signatures: Rows = field(repr=False, metadata={"width": SIGNATURE_BYTES, "per": "nodes"})

    def advertisements(self) -> tuple[Advertisement, ...]:
        """Return them one by one."""
        rows = zip(self.nodes, self.mask_keys, self.share_keys, self.signatures, strict=True)
        return tuple(Advertisement(*row) for row in rows)


@dataclass(frozen=True)
class SealedShares(_Plain):
    """A box for each neighbour, by ascending node, and a commitment to the seed that is shared."""

    node: int
    commitment: bytes = field(repr=False, metadata={"length": HASH_BYTES})
    boxes: Rows = field(repr=False, metadata={"width": BOX_BYTES, "per": ""})
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class Delivery(_Plain):
    """Who shared, and the boxes from those of them that are neighbours, by ascending node."""

    participants: Nodes
    boxes: Rows = field(repr=False, metadata={"width": BOX_BYTES, "per": ""})


@dataclass(frozen=True)
class MaskedInput(_Plain):
    """A node's masked vector for a list of participants; whose boxes did not open is reported."""

    node: int
    participants: bytes = field(repr=False, metadata={"length": HASH_BYTES})
    unreadable: Nodes
    words: Words = field(repr=False)
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class Survivors(_Plain):
    """Whose vectors arrived, and what the receiver's neighbours among them signed."""

    nodes: Nodes
    inputs: Rows = field(repr=False, metadata={"width": HASH_BYTES, "per": ""})
    signatures: Rows = field(repr=False, metadata={"width": SIGNATURE_BYTES, "per": ""})


@dataclass(frozen=True)
class Confirmation(_Plain):
    """A node's signature under participants and survivors."""

    node: int
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})


@dataclass(frozen=True)
class Confirmations(_Plain):
    """Everybody's confirmation, by ascending node."""

    nodes: Nodes
    signatures: Rows = field(repr=False, metadata={"width": SIGNATURE_BYTES, "per": "nodes"})


@dataclass(frozen=True)
class Revelation(_Plain):
    """Shares of survivors' seeds and of lost nodes' keys, never both of one node."""

    node: int
    seeds_of: Nodes
    keys_of: Nodes
    seed_shares: Rows = field(repr=False, metadata={"width": SHARE_BYTES, "per": "seeds_of"})
    key_shares: Rows = field(repr=False, metadata={"width": SHARE_BYTES, "per": "keys_of"})
    signature: bytes = field(repr=False, metadata={"length": SIGNATURE_BYTES})
