"""Experimental and unaudited: proofs that a hidden update is within a norm bound.

`docs/norm-proof.md` has the protocol, what it rests on and what it does not show. The library of
the curve (``pip install 'daafl[proofs]'``) loads on first use.
"""

from daafl.secure.proof.binding import check_sum
from daafl.secure.proof.commitments import Committed, commit
from daafl.secure.proof.group import ORDER
from daafl.secure.proof.messages import Commitment, Proof
from daafl.secure.proof.phases import Commitments, Proofs
from daafl.secure.proof.prover import prove
from daafl.secure.proof.scale import centred, centred_sum, claim_for, quantiser_for
from daafl.secure.proof.statement import Claim, Context, Statement
from daafl.secure.proof.verifier import verify

__all__ = [
    "ORDER",
    "Claim",
    "Commitment",
    "Commitments",
    "Committed",
    "Context",
    "Proof",
    "Proofs",
    "Statement",
    "centred",
    "centred_sum",
    "check_sum",
    "claim_for",
    "commit",
    "prove",
    "quantiser_for",
    "verify",
]
