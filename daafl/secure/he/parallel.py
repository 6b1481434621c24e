"""Large vectors encrypted and decrypted by several processes.

TenSEAL holds Python's global lock while it works, so threads would wait for each other. Processes
are started afresh, never forked from a program with threads; the key goes to them through the pipe
of a child process and nowhere else.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Final

import numpy as np

from daafl.secure.he import scheme
from daafl.secure.he.packing import Slots
from daafl.secure.hidden import Secret

MIN_PARALLEL_CHUNKS: Final = 122
"""Ciphertexts below which one process is faster: those of a million values, two per slot."""


class Cipher:
    """Encrypts and decrypts chunks under one key, by as many processes as are worth it.

    A context manager: processes start with the first large vector and end with the block.

    Parameters
    ----------
    key
        The group's key.
    plain_modulus
        As all nodes have it.
    processes
        How many may work at once; 1 for none beside this one.
    min_chunks
        Fewer ciphertexts than this are left to this process.
    """

    def __init__(
        self,
        key: scheme.HeKey,
        plain_modulus: int,
        *,
        processes: int = 1,
        min_chunks: int = MIN_PARALLEL_CHUNKS,
    ) -> None:
        self._key = key
        self._modulus = plain_modulus
        self._processes = processes
        self._min_chunks = min_chunks
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Cipher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def encrypted(self, chunks: Slots) -> list[bytes]:
        """Return a ciphertext for each chunk; see `daafl.secure.he.scheme.encrypted`."""
        if self._is_small(len(chunks)):
            return scheme.encrypted(self._key, self._modulus, chunks)
        root = self._key.root.reveal()
        shares = np.array_split(chunks, self._processes)
        jobs = [self._open().submit(_encrypted, root, self._modulus, share) for share in shares]
        return [part for job in jobs for part in job.result()]

    def decrypted(self, parts: Sequence[bytes]) -> Slots:
        """Return the slots in each ciphertext; see `daafl.secure.he.scheme.decrypted`."""
        if self._is_small(len(parts)):
            return scheme.decrypted(self._key, self._modulus, parts)
        root = self._key.root.reveal()
        cuts = np.linspace(0, len(parts), self._processes + 1).astype(int)
        jobs = [
            self._open().submit(_decrypted, root, self._modulus, parts[start:stop])
            for start, stop in itertools.pairwise(cuts)
        ]
        return np.concatenate([job.result() for job in jobs])

    def _is_small(self, count: int) -> bool:
        return self._processes < 2 or count < max(self._min_chunks, self._processes)

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._processes, mp_context=get_context("spawn"))
        return self._pool


def _encrypted(root: bytes, plain_modulus: int, chunks: Slots) -> list[bytes]:
    return scheme.encrypted(scheme.HeKey(Secret(root)), plain_modulus, chunks)


def _decrypted(root: bytes, plain_modulus: int, parts: Sequence[bytes]) -> Slots:
    return scheme.decrypted(scheme.HeKey(Secret(root)), plain_modulus, parts)
