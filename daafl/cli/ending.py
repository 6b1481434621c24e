"""How a run on the command line ends before its time, and what it says then."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from daafl.errors import DaaflError


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal; the run ends as with Ctrl-C."""


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end a run in order, with a complete folder."""

    def terminate(_: int, __: FrameType | None) -> None:
        raise Terminated

    # Under nohup a closed terminal is to be ignored, and is.
    minded = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.signal(number, terminate) for number in minded]
    try:
        yield
    finally:
        for number, handler in zip(minded, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def telling_how_to_go_on(folder: Path) -> Iterator[None]:
    """Say on standard error which command goes on with a run that does not complete."""
    try:
        yield
    except (KeyboardInterrupt, DaaflError):
        if _has_checkpoint(folder):
            print(f"go on with: daafl resume {folder}", file=sys.stderr)
        raise


def _has_checkpoint(folder: Path) -> bool:
    from daafl.store.checkpoint import Checkpoints
    from daafl.store.run_folder import CHECKPOINTS

    with suppress(DaaflError):
        return Checkpoints(folder / CHECKPOINTS).latest() is not None
    return False
