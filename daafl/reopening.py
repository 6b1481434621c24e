"""The folder of a run whose process has ended, made ready to go on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from daafl.errors import ConfigError
from daafl.store.checkpoint import Checkpoint, Checkpoints
from daafl.store.run_folder import CHECKPOINTS, CONFIG, REPORT, ROUNDS, RunFolder, summary_of
from daafl.strategies.playing import history_of

MODEL: Final = "model.npz"

log: Final = logging.getLogger(__name__)


def is_complete(path: Path) -> bool:
    """Return whether the run in a folder has nothing left to do: model and report are written.

    Raises
    ------
    StoreError
        If its summary is damaged.
    """
    outcome = summary_of(path)
    is_written = (path / CHECKPOINTS / MODEL).exists() and (path / REPORT).exists()
    return outcome is not None and outcome.status == "completed" and is_written


def check_resumable(path: Path) -> None:
    """Refuse a folder without a run, and a run that is complete.

    Raises
    ------
    ConfigError
        Saying which it is.
    """
    if not (path / ROUNDS).is_file():
        raise ConfigError(f"{path} holds no run to resume: it has no {ROUNDS}")
    if is_complete(path):
        raise ConfigError(f"the run in {path} is complete: there is nothing to resume")


def last_checkpoint(path: Path) -> Checkpoint | None:
    """Return the checkpoint to go on from; ``None`` if the run had not written one yet.

    Raises
    ------
    ConfigError
        As `check_resumable` does.
    StoreError
        If none of its checkpoints can be used.
    """
    check_resumable(path)
    checkpoint = Checkpoints(path / CHECKPOINTS).latest()
    for note in checkpoint.notes if checkpoint is not None else ():
        log.warning("%s", note)
    return checkpoint


def reopened(path: Path, checkpoint: Checkpoint | None) -> RunFolder:
    """Return the folder of a run that goes on; without a checkpoint the run begins anew in it.

    Raises
    ------
    ConfigError, StoreError
        As `RunFolder` does.
    """
    if checkpoint is not None:
        return RunFolder.reopen(path, rounds_bytes=history_of(checkpoint).rounds_bytes or 0)
    config = path / CONFIG
    text = config.read_text(encoding="utf-8") if config.exists() else ""
    return RunFolder(path, config=text, overwrite=True)
