"""How a transcript begins, the same for prover and verifier."""

from __future__ import annotations

from daafl.errors import MessageError
from daafl.secure.proof.messages import Commitment
from daafl.secure.proof.projection import SEED_BYTES
from daafl.secure.proof.statement import Statement
from daafl.secure.proof.transcript import Transcript


def begun(statement: Statement, commitment: Commitment, seed: bytes) -> Transcript:
    """Return a transcript that holds the statement, the commitment and the seed.

    Raises
    ------
    MessageError
        With reason ``seed`` if it is not 32 bytes.
    """
    if type(seed) is not bytes or len(seed) != SEED_BYTES:
        raise MessageError("seed", f"the seed of projections must be {SEED_BYTES} bytes")
    transcript = Transcript(*statement.claim.values(), *statement.context.values())
    transcript.absorb("commitment", commitment.to_bytes())
    transcript.absorb("seed", seed)
    return transcript
