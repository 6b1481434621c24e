"""CKKS, for the one case in which it may be used: when nobody but key holders sees the result.

Decrypting CKKS gives an approximate value whose error depends on the secret key; whoever sees the
ciphertext and its decryption can solve for the key (Li & Micciancio 2021, "On the security of
homomorphic encryption on approximate numbers"). A coordinator that applies the sum to its model
sees both. BFV decrypts exactly and gives away nothing but the sum.

These functions are for nodes that keep the result to themselves, and for parts that authenticated
nodes sent: unlike those of BFV, their bytes are read as TenSEAL wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError, DataError, MessageError
from daafl.secure.he.library import tenseal

Scheme = Literal["bfv", "ckks"]

DEGREE: Final = 8192
COEFFICIENT_BITS: Final = (60, 60)
SCALE_BITS: Final = 40
MAX_BYTES_PER_VALUE: Final = 33
MAX_FIXED_BYTES: Final = 1 << 18


def check_scheme(scheme: str, *, server_sees_aggregate: bool) -> None:
    """Refuse a scheme under which the server could find the key.

    Raises
    ------
    ConfigError
        For CKKS where the server sees the decrypted sum, and for a scheme that is not known.
    """
    if scheme not in ("bfv", "ckks"):
        raise ConfigError(f"the scheme is {scheme!r}; it must be 'bfv' or 'ckks'")
    if scheme == "ckks" and server_sees_aggregate:
        raise ConfigError(
            "scheme 'ckks' is refused: the coordinator sees the decrypted sum, and from a CKKS "
            "ciphertext and its approximate decryption the secret key can be computed (Li & "
            "Micciancio 2021); use scheme 'bfv', which decrypts exactly"
        )


def new_context() -> Any:
    """Return a TenSEAL context with a secret key, of 128 bits of security."""
    library = tenseal()
    made = library.context(
        library.SCHEME_TYPE.CKKS,
        poly_modulus_degree=DEGREE,
        coeff_mod_bit_sizes=list(COEFFICIENT_BITS),
        encryption_type=library.ENCRYPTION_TYPE.SYMMETRIC,
    )
    made.global_scale = 2**SCALE_BITS
    return made


def public_context(context: Any) -> Any:
    """Return what adds and cannot decrypt."""
    return tenseal().context_from(
        context.serialize(
            save_secret_key=False,
            save_public_key=False,
            save_galois_keys=False,
            save_relin_keys=False,
        )
    )


def encrypted(context: Any, vector: npt.NDArray[np.floating[Any]]) -> bytes:
    """Return a vector of finite numbers encrypted, 32 bytes for each."""
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        raise DataError("a vector to encrypt must have one dimension and finite values")
    return bytes(tenseal().ckks_vector(context, vector.tolist()).serialize())


def summed(public: Any, parts: Sequence[bytes], length: int) -> bytes:
    """Return the sum of encrypted vectors, still encrypted; the server's part.

    Raises
    ------
    MessageError
        With reason ``ciphertext`` if one is no encrypted vector of that length.
    """
    total = None
    for part in parts:
        if len(part) > length * MAX_BYTES_PER_VALUE + MAX_FIXED_BYTES:
            raise MessageError("ciphertext", f"{len(part)} bytes are too many for {length} values")
        one = _read(public, part, length)
        total = one if total is None else total + one
    if total is None:
        raise DataError("a sum of no ciphertexts")
    return bytes(total.serialize())


def decrypted(context: Any, data: bytes, length: int) -> npt.NDArray[np.float64]:
    """Return what is encrypted, with an error of about 1e-9; for holders of the key only."""
    return np.asarray(_read(context, data, length).decrypt(), np.float64)


def _read(context: Any, data: bytes, length: int) -> Any:
    try:
        vector = tenseal().ckks_vector_from(context, data)
        size = vector.size()
    except (RuntimeError, ValueError, IndexError, MemoryError):
        raise MessageError("ciphertext", "TenSEAL cannot read an encrypted vector") from None
    if size != length:
        raise MessageError("ciphertext", f"an encrypted vector has {size} values, not {length}")
    return vector
