"""Going on with a run that was started from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daafl import federation
from daafl.config.composition import stored
from daafl.config.launching import launch, parts
from daafl.errors import ConfigError
from daafl.federation import RunResult
from daafl.learning.task import Task
from daafl.observability.events import Observer
from daafl.observability.progress import Mode
from daafl.reopening import check_resumable
from daafl.store.run_folder import CONFIG


def resume(
    path: Path | str,
    task: Task | None = None,
    *,
    progress: Mode | Observer = "auto",
    **arguments: Any,
) -> RunResult:
    """Go on with a simulated run whose process has ended; the end is that of a run in one go.

    Parameters
    ----------
    path
        The run's folder.
    task
        What it trains; ``None`` for a run started from a configuration, which its folder holds.
    progress
        What to show.
    arguments
        With a task, the other arguments of `daafl.run`, as the run was started with them.

    Raises
    ------
    ConfigError
        If there is no such run, if it is complete, or if the arguments are not the run's.
    StoreError
        If none of its checkpoints can be used.
    DataError, FederationError
        As `daafl.run` does.

    Examples
    --------
    ::

        daafl.resume("runs/20260102-030405-digits-s0")
        daafl.resume("runs/mine", MyTask(), num_nodes=30, num_rounds=60)
    """
    folder = Path(path)
    if task is not None:
        return federation.resume(folder, task, progress=progress, **arguments)
    if arguments:
        raise ConfigError(
            f"{next(iter(arguments))} is given without the task: give both, or neither for a run "
            f"whose folder holds a {CONFIG}"
        )
    check_resumable(folder)
    file = folder / CONFIG
    if not file.is_file():
        raise ConfigError(
            f"{folder} has no {CONFIG}: the run was started from Python; go on with it there, by "
            f'daafl.resume("{folder}", task, ...) with the arguments it was started with'
        )
    composition = stored(file.read_text(encoding="utf-8"))
    return launch(
        composition, parts(composition), output_dir=folder, progress=progress, resume=True
    )
