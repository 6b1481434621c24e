"""Writes that a signal does not break off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

# What asks a program to end; a terminal that closes is known on POSIX systems only.
_ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def unbroken() -> Iterator[None]:
    """Let signals that Python turns into exceptions wait until the block has ended.

    Outside the main thread there is nothing to do: Python raises them in the main thread.

    Examples
    --------
    >>> with unbroken():
    ...     pass  # Ctrl-C here takes effect after the block
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        waiting.append(number)

    with ExitStack() as stack:
        for number in _ENDING:
            handler = signal.getsignal(number)
            if callable(handler):  # else the signal ends the process at once, or does nothing
                stack.callback(signal.signal, number, handler)
                signal.signal(number, note)
        yield
    for number in waiting:
        signal.raise_signal(number)
