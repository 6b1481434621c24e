"""Homomorphic sums: updates added up under encryption, exactly. TenSEAL loads on first use."""

from daafl.secure.he.dealing import HeldKey, KeyMember, Rotation
from daafl.secure.he.key_server import KeyAdvertisements
from daafl.secure.he.node import SumNode
from daafl.secure.he.packing import Packing
from daafl.secure.he.selective import Selection
from daafl.secure.he.server import EncryptedSum, Inputs
from daafl.secure.he.terms import EpochTerms, KeyGroup, SumTerms

__all__ = [
    "EncryptedSum",
    "EpochTerms",
    "HeldKey",
    "Inputs",
    "KeyAdvertisements",
    "KeyGroup",
    "KeyMember",
    "Packing",
    "Rotation",
    "Selection",
    "SumNode",
    "SumTerms",
]
