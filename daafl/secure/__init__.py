"""Masked sums, identities and the audit log: pure, without Flower, torch or a network."""

from daafl.secure.graph import Degree, Policy, chosen
from daafl.secure.header import Header, HeaderSum
from daafl.secure.hidden import Secret
from daafl.secure.identity import Identity, Statement
from daafl.secure.protocol import Node
from daafl.secure.quantisation import Quantiser
from daafl.secure.roster import Roster, SignedRoster
from daafl.secure.server import Advertisements
from daafl.secure.terms import Terms
from daafl.secure.unmasking import MaskedSum

__all__ = [
    "Advertisements",
    "Degree",
    "Header",
    "HeaderSum",
    "Identity",
    "MaskedSum",
    "Node",
    "Policy",
    "Quantiser",
    "Roster",
    "Secret",
    "SignedRoster",
    "Statement",
    "Terms",
    "chosen",
]
