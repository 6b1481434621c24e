"""TenSEAL, loaded on first use, and the contexts in which its SEAL computes."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

from daafl.errors import ConfigError
from daafl.secure.he.packing import COEFFICIENT_BITS, DEGREE


@lru_cache(maxsize=1)
def tenseal() -> Any:
    """Return TenSEAL.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return import_module("tenseal")
    except ImportError as error:
        raise ConfigError(
            "homomorphic sums need TenSEAL, which is not installed: pip install 'daafl[he]'"
        ) from error


@lru_cache(maxsize=1)
def sealapi() -> Any:
    """Return TenSEAL's bindings of SEAL, or raise as `tenseal` does."""
    tenseal()
    return import_module("tenseal.sealapi")


def parameters(plain_modulus: int) -> Any:
    """Return SEAL's BFV parameters for a plain modulus."""
    seal = sealapi()
    values = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    values.set_poly_modulus_degree(DEGREE)
    values.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [COEFFICIENT_BITS]))
    values.set_plain_modulus(plain_modulus)
    return values


def context_of(values: Any) -> Any:
    """Return the context of parameters, which SEAL finds to have 128 bits of security.

    Raises
    ------
    ConfigError
        If it does not.
    """
    seal = sealapi()
    found = seal.SEALContext(values, True, seal.SEC_LEVEL_TYPE.TC128)
    if not found.parameters_set():
        raise ConfigError(f"SEAL refuses the parameters: {found.parameters_error_message()}")
    return found


@lru_cache(maxsize=8)
def context(plain_modulus: int) -> Any:
    """Return the context that encrypts, adds and decrypts: all of it is public."""
    return context_of(parameters(plain_modulus))


@lru_cache(maxsize=1)
def coefficient_modulus() -> int:
    """Return the prime q, above every coefficient of a ciphertext."""
    return int(sealapi().CoeffModulus.Create(DEGREE, [COEFFICIENT_BITS])[0].value())
