"""Signatures under updates that travel in the clear: what is signed, by nodes and for checking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

from daafl.errors import MessageError
from daafl.messages import ENVELOPE, Envelope
from daafl.secure.encoding import digest, encoded
from daafl.secure.identity import Identity, Statement

Record = ArrayRecord | ConfigRecord | MetricRecord


@dataclass(frozen=True)
class Signer:
    """Who must have signed an update, and for which model.

    Parameters
    ----------
    public
        Ed25519 public key that the roster has for the node.
    model_hash
        SHA-256 of the packed model that was sent.
    """

    public: bytes
    model_hash: bytes = field(repr=False)

    def check(self, envelope: Envelope, content: Mapping[str, Record]) -> None:
        """Return if the envelope holds this signer's signature under itself and the content.

        Raises
        ------
        MessageError
            With reason ``signature`` otherwise; an update without one is no better.
        """
        if envelope.signature is None:
            raise MessageError("signature", f"node {envelope.node} did not sign its update")
        statement_of(envelope, self.model_hash, content).check(self.public, envelope.signature)


def signature(
    identity: Identity, envelope: Envelope, model_hash: bytes, content: Mapping[str, Record]
) -> bytes:
    """Return a node's signature under its update; `Signer.check` is its other side.

    Parameters
    ----------
    identity
        The node's key.
    envelope
        Its envelope, without signature.
    model_hash
        SHA-256 of the packed model that it trained.
    content
        The records of its reply.
    """
    return statement_of(envelope, model_hash, content).sign(identity)


def statement_of(envelope: Envelope, model_hash: bytes, content: Mapping[str, Record]) -> Statement:
    """Return what a signature says: round, model, plan, sender and everything that is sent."""
    return Statement(
        federation=envelope.federation,
        branch=envelope.branch,
        round=envelope.base_version,
        node=envelope.node,
        sequence=envelope.sequence,
        model_hash=model_hash,
        plan_hash=digest("plan", envelope.plan_hash),
        content_hash=_content_hash(envelope, content),
    )


def _content_hash(envelope: Envelope, content: Mapping[str, Record]) -> bytes:
    names = sorted(content.keys() - {ENVELOPE})
    total = sha256(
        encoded("content", envelope.codec or "", envelope.privacy_claim or "", len(names))
    )
    for name in names:
        record = content[name]
        total.update(encoded("record", name, len(record)))
        for key, value in record.items():
            if isinstance(value, Array):
                data = value.data
                total.update(encoded("array", key, value.dtype, repr(value.shape), value.stype))
                total.update(len(data).to_bytes(8, "big"))
                total.update(data)
            else:
                total.update(encoded("value", key, type(value).__name__, repr(value)))
    return total.digest()
