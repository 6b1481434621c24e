"""The folder of a run: everything that happened, in files a person and a program can read.

=================  ===============================================================================
``config.yaml``    the resolved configuration, as given
``info.json``      `RunInfo`: task, nodes, knobs with bounds, parts that are absent and why
``rounds.jsonl``   one `StepRecord` per line, strict JSON, wall-clock fields under ``wall``
``journal.jsonl``  the decisions, written before they act (see ``autonomy.journal``)
``baseline.json``  optional `Baseline`: centralised training on the same data
``summary.json``   `RunSummary`, once the run has ended
``report.html``    the report
``checkpoints/``   restore points
=================  ===============================================================================
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

from daafl.autonomy.codec import decode, encode
from daafl.autonomy.journal import read as read_journal
from daafl.errors import CodecError, ConfigError, StoreError
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.observability.record_json import step_json, step_of, summary_json
from daafl.observability.run import Baseline, Run
from daafl.store.atomic import write_bytes, write_json
from daafl.store.folder_lock import FolderLock, check_free
from daafl.store.lines import append_line, remove, synced_size, truncate_lines

CONFIG = "config.yaml"
INFO = "info.json"
ROUNDS = "rounds.jsonl"
JOURNAL = "journal.jsonl"
BASELINE = "baseline.json"
SUMMARY = "summary.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"

_FILES = (CONFIG, INFO, ROUNDS, JOURNAL, BASELINE, SUMMARY, REPORT)

T = TypeVar("T")


def default_path(root: Path, *, task: str, seed: int, started: datetime) -> Path:
    """Return ``root/<date>-<time>-<task>-s<seed>``, with a suffix if that exists already.

    Examples
    --------
    >>> started = datetime(2026, 1, 2, 3, 4, 5)
    >>> default_path(Path("runs"), task="My digits!", seed=3, started=started).as_posix()
    'runs/20260102-030405-my-digits-s3'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", task.lower()).strip("-")[:40] or "run"
    name = f"{started:%Y%m%d-%H%M%S}-{slug}-s{seed}"
    path, suffix = root / name, 2
    while path.exists():
        path, suffix = root / f"{name}-{suffix}", suffix + 1
    return path


class RunFolder:
    """Observer that writes a run into its folder.

    Parameters
    ----------
    path
        The folder; made with its parents.
    config
        Text for ``config.yaml``; empty writes none.
    overwrite
        Whether a run that the folder already holds may be deleted.

    Raises
    ------
    ConfigError
        If the folder holds a run and ``overwrite`` is off or another process writes that run, or
        cannot be made or written.
    """

    def __init__(self, path: Path, *, config: str = "", overwrite: bool = False) -> None:
        self.path = path
        _claim(path, overwrite=overwrite)
        self._lock = _locked(self.checkpoints)
        if config:
            write_bytes(path / CONFIG, config.encode())

    @classmethod
    def reopen(cls, path: Path, *, rounds_bytes: int) -> Self:
        """Return the folder of a run that goes on from a checkpoint.

        What the stopped attempt wrote after the checkpoint is removed: lines of ``rounds.jsonl``,
        the summary and the report. Everything else stays. Stopped at any instant, it can be
        called again.

        Parameters
        ----------
        path
            The folder.
        rounds_bytes
            `rounds_bytes` when the checkpoint was made.

        Raises
        ------
        ConfigError
            If the folder holds no run, or another process still writes it.
        StoreError
            If ``rounds.jsonl`` has no line that ends there, or a file cannot be changed.
        """
        _check_run(path)
        folder = cls.__new__(cls)
        folder.path = path
        folder._lock = _locked(folder.checkpoints)
        # Without its summary the run counts as unfinished, which it is from here on.
        for name in (SUMMARY, REPORT):
            remove(path / name)
        truncate_lines(path / ROUNDS, rounds_bytes)
        return folder

    @property
    def rounds_bytes(self) -> int:
        """Size of ``rounds.jsonl`` after its last line; it is on the disk up to there."""
        return synced_size(self.path / ROUNDS)

    @property
    def journal(self) -> Path:
        """Where the journal belongs; whoever decides writes it."""
        return self.path / JOURNAL

    @property
    def checkpoints(self) -> Path:
        """The folder of restore points."""
        return self.path / CHECKPOINTS

    @property
    def report(self) -> Path:
        """Where the report belongs."""
        return self.path / REPORT

    def started(self, info: RunInfo) -> None:
        """Write ``info.json``."""
        write_json(self.path / INFO, encode(info))

    def stepped(self, record: StepRecord) -> None:
        """Append one line to ``rounds.jsonl`` and hand it to the operating system.

        Raises
        ------
        StoreError
            If the disk refuses it.
        """
        append_line(self.path / ROUNDS, json.dumps(step_json(record), allow_nan=False))

    def finished(self, summary: RunSummary) -> None:
        """Write ``summary.json``."""
        write_json(self.path / SUMMARY, summary_json(summary))

    def compare_with(self, baseline: Baseline) -> None:
        """Write ``baseline.json``, which the report draws as a line."""
        write_json(self.path / BASELINE, encode(baseline))


def summary_of(path: Path) -> RunSummary | None:
    """Return how the run in a folder ended; ``None`` if it was cut off or still goes on.

    Raises
    ------
    StoreError
        If the summary is damaged.
    """
    return _document(path / SUMMARY, RunSummary) if (path / SUMMARY).exists() else None


def load(path: Path) -> Run:
    """Return the run that a folder holds, finished or not.

    Raises
    ------
    ConfigError
        If the folder holds no run.
    StoreError, JournalError
        If a file is damaged; names the file, the line and the rule. Of ``rounds.jsonl``, a torn
        last line, which a killed run leaves, and damaged lines among good ones are left out and
        noted instead.
    """
    _check_run(path)
    steps, left_out, notes = _steps(path / ROUNDS)
    header, records = read_journal(path / JOURNAL) if (path / JOURNAL).exists() else (None, ())
    return Run(
        name=path.resolve().name,
        info=_document(path / INFO, RunInfo),
        steps=steps,
        summary=summary_of(path),
        config=_text(path / CONFIG) if (path / CONFIG).exists() else "",
        header=header,
        journal=tuple(records),
        baseline=_document(path / BASELINE, Baseline) if (path / BASELINE).exists() else None,
        notes=notes,
        left_out=left_out,
    )


def _check_run(path: Path) -> None:
    if not path.is_dir():
        raise ConfigError(f"there is no run folder {path}; give the folder that holds {ROUNDS}")
    for name in (INFO, ROUNDS):
        if not (path / name).is_file():
            raise ConfigError(f"{path} holds no run: it has no {name}")


def _locked(checkpoints: Path) -> FolderLock:
    """Return the lock that keeps a second process from writing the same run."""
    try:
        checkpoints.mkdir(exist_ok=True)
        return FolderLock(checkpoints)
    except OSError as error:
        raise ConfigError(f"output_dir {checkpoints.parent} cannot be written: {error}") from error


def _claim(path: Path, *, overwrite: bool) -> None:
    """Make the folder and an empty ``rounds.jsonl``, which is what claims it for one run."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if overwrite:
            check_free(path / CHECKPOINTS)
            _remove_run(path)
        taken = [name for name in _FILES if (path / name).exists()]
        if taken:
            raise FileExistsError(taken[0])
        # Of two runs that come this far at once, only one can make the file.
        (path / ROUNDS).open("x").close()
    except FileExistsError as error:
        what = "already holds a run" if path.is_dir() else "is not a folder"
        raise ConfigError(f"output_dir {path} {what}; choose another folder") from error
    except OSError as error:
        raise ConfigError(f"output_dir {path} cannot be written: {error.strerror}") from error


def _remove_run(path: Path) -> None:
    """Delete a run's files and nothing else; a folder without a run stays as it is."""
    if not (path / ROUNDS).exists():
        return
    for name in _FILES:
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)


def _steps(path: Path) -> tuple[tuple[StepRecord, ...], tuple[int, ...], tuple[str, ...]]:
    """Return the steps, the numbers of the lines left out, and a note for each of them.

    Raises
    ------
    StoreError
        If no line at all can be used.
    """
    lines = _text(path).split("\n")
    # A complete file ends in a newline, so what follows the last one is a torn line.
    torn = lines.pop()
    steps: list[StepRecord] = []
    errors: dict[int, StoreError] = {}
    for number, line in enumerate(lines, start=1):
        try:
            steps.append(_step(path, number, line))
        except StoreError as error:
            errors[number] = error
    if errors and not steps:
        raise next(iter(errors.values()))
    notes = [
        f"Line {number} of {ROUNDS} is damaged and left out, so its step is missing from all "
        f"figures and charts ({error.__cause__})."
        for number, error in errors.items()
    ]
    if torn:
        notes.append(f"The last line of {ROUNDS} was cut off and left out.")
    return tuple(steps), tuple(errors), tuple(notes)


def _step(path: Path, number: int, line: str) -> StepRecord:
    try:
        return step_of(_object(json.loads(line)))
    except (ValueError, CodecError) as error:
        raise StoreError(f"{path}, line {number} is damaged: {error}") from error


def _document(path: Path, kind: type[T]) -> T:
    try:
        return decode(kind, _object(json.loads(_text(path))))
    except (ValueError, CodecError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise CodecError("it must be a JSON object")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
