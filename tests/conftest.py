"""Ends the program at any of its writes, from within."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

WRITES = ("write", "fsync", "replace", "unlink", "chmod", "mkdir", "rmdir")


class KilledError(BaseException):
    """The program was killed: nothing catches it, and nothing is written after it."""


class Writes:
    """Counts what reaches the disk; from number ``last`` on nothing does."""

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self.last = last

    def before(self) -> None:
        """Count a write, unless it comes too late."""
        if self.last is not None and self.count >= self.last:
            raise KilledError
        self.count += 1


KillAfter = Callable[[int | None], AbstractContextManager[Writes]]


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> KillAfter:
    """Return a context in which the program dies after so many writes; ``None`` only counts."""

    @contextmanager
    def armed(last: int | None) -> Iterator[Writes]:
        writes = Writes(last)

        def counted(write: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*args: Any, **options: Any) -> Any:
                writes.before()
                return write(*args, **options)

            return counting

        with monkeypatch.context() as patch:
            for name in WRITES:
                patch.setattr(os, name, counted(getattr(os, name)))
            yield writes

    return armed


@pytest.fixture
def killed() -> type[BaseException]:
    """What a program that was killed leaves with."""
    return KilledError
