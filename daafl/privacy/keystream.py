"""Random words for privacy: an AES-256-CTR keystream under a key that nobody else knows.

The stream is the encryption of zeros (NIST SP 800-38A), read as little-endian ``uint64``; every
trainer, in whatever language, gets the same words from the same key. The key comes from the
operating system. In a simulation it may come from a seed instead, so that runs can be repeated; who
knows the seed can take the noise off again, and a report claims no privacy then.
"""

import hashlib
import os
import threading
from typing import Any, Final, NoReturn, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from daafl.errors import ConfigError

Words: TypeAlias = npt.NDArray[np.uint64]

KEY_BYTES: Final = 32
BLOCK_WORDS: Final = 1 << 14
"""Words made at a time: 128 KiB, which stay in a core's cache while they are used."""

_ZEROS: Final = bytes(8 * BLOCK_WORDS)


class Keystream:
    """An endless stream of uniform words; use `fresh`, or `seeded` in a simulation.

    A process that is forked from the one that made the stream goes on with a key of its own, since
    the same noise in two updates would cancel out in their difference. A seeded stream is refused
    there. Several threads may draw from one stream; none gets words that another one got.

    Examples
    --------
    >>> Keystream.fresh()
    Keystream(secret)
    >>> Keystream.seeded(7).words(3).shape
    (3,)
    """

    def __init__(self, key: bytes, *, is_secret: bool) -> None:
        self.is_secret = is_secret
        """Whether nobody can know the words, so that noise from them protects."""
        self._lock = threading.Lock()
        self._start(key)

    @classmethod
    def fresh(cls) -> Self:
        """Return a stream under a key from the operating system."""
        return cls(os.urandom(KEY_BYTES), is_secret=True)

    @classmethod
    def seeded(cls, *seed: int | str) -> Self:
        """Return the stream of a seed, such as ``(run seed, "noise", node, version)``."""
        text = repr(("daafl simulated noise", *seed)).encode()
        return cls(hashlib.sha256(text).digest(), is_secret=False)

    def words(self, count: int) -> Words:
        """Return the next ``count`` words."""
        words = np.empty(count, "<u8")
        self.fill(words)
        return words

    def fill(self, words: Words) -> None:
        """Overwrite a contiguous array with the next words."""
        with self._lock:
            if os.getpid() != self._process:
                self._leave_parent()
            target = words.data.cast("B")
            for start in range(0, len(target), len(_ZEROS)):
                part = target[start : start + len(_ZEROS)]
                self._cipher.update_into(_ZEROS[: len(part)], part)

    def _start(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a keystream needs a key of {KEY_BYTES} bytes, not {len(key)}")
        self._process = os.getpid()
        cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16)))
        self._cipher: CipherContext = cipher.encryptor()

    def _leave_parent(self) -> None:
        if not self.is_secret:
            raise RuntimeError(
                "a seeded keystream went into a forked process, where it would repeat its words; "
                "make one there, from a seed of its own"
            )
        self._start(os.urandom(KEY_BYTES))

    def __repr__(self) -> str:
        return f"Keystream({'secret' if self.is_secret else 'seeded'})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the copy would repeat the words."""
        raise TypeError("a keystream cannot be pickled or copied; make a fresh one there")


def keystream_for(rng: str, *seed: int | str, is_simulated: bool) -> Keystream:
    """Return the stream that the setting ``rng`` asks for.

    Parameters
    ----------
    rng
        ``secret``, or ``seeded`` in a simulation.
    seed
        Seed and what tells this stream from others of the run; not used by ``secret``.
    is_simulated
        Whether the nodes are simulated, so that their data needs no protection from this run.

    Raises
    ------
    ConfigError
        If ``rng`` is something else, or ``seeded`` outside a simulation.
    """
    if rng == "secret":
        return Keystream.fresh()
    if rng != "seeded":
        raise ConfigError(f"rng={rng!r} is not known; it must be 'secret' or 'seeded'")
    if not is_simulated:
        raise ConfigError(
            "rng=seeded is for simulations only: who knows the seed can subtract the noise; "
            "use rng=secret"
        )
    return Keystream.seeded(*seed)


def poisson_sample(count: int, rate: float, keystream: Keystream) -> npt.NDArray[np.int64]:
    """Return which of ``count`` examples are in a sample that each joins with probability ``rate``.

    Each decision is independent of all others, which is what subsampling credit rests on; the size
    of the sample varies, and may be 0. Probabilities are multiples of ``2**-64``, rounded down.

    Examples
    --------
    >>> poisson_sample(4, 1.0, Keystream.fresh()).tolist()
    [0, 1, 2, 3]
    """
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"a sampling rate must be in (0, 1], not {rate}")
    if rate == 1.0:
        return np.arange(count)
    threshold = np.uint64(int(rate * 2.0**64))
    chosen: npt.NDArray[Any] = np.flatnonzero(keystream.words(count) < threshold)
    return chosen
