"""Bytes that must not show up in logs, errors, run folders or reports."""

import hmac
from typing import Final, NoReturn

SEED_BYTES: Final = 32


class Secret:
    """Bytes that are shown, pickled and copied by nobody; `reveal` is the one way to them.

    Parameters
    ----------
    value
        What is kept.

    Examples
    --------
    >>> key = Secret(bytes(32))
    >>> key
    Secret(hidden)
    >>> f"{key}"
    'Secret(hidden)'
    """

    __slots__ = ("__value",)

    def __init__(self, value: bytes) -> None:
        self.__value = bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes; a caller keeps them no longer than the computation needs."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        """Compare in a time that does not depend on where two secrets differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied, whoever asks."""
        raise TypeError("a secret stays in memory: it cannot be pickled or copied")
