"""``daafl run --multirun``: one run for every combination of values, compared in a table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from daafl.config.composition import Composition, compose
from daafl.config.launching import launch, parts
from daafl.config.overrides import expanded, swept_keys
from daafl.errors import ConfigError, DaaflError
from daafl.observability.progress import progress
from daafl.observability.units import duration, number, share
from daafl.store.atomic import write_json
from daafl.store.run_folder import REPORT, ROUNDS, SUMMARY

SWEEP = "sweep.json"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Parameters
    ----------
    values
        The values that tell it from the other jobs, by key.
    composition
        Its configuration.
    output_dir
        Its folder.
    """

    values: Mapping[str, str]
    composition: Composition
    output_dir: Path

    @property
    def label(self) -> str:
        """The values in one line."""
        return " ".join(f"{key}={value}" for key, value in self.values.items())


def sweep(overrides: Sequence[str], *, folder: Path | None, as_json: bool, now: datetime) -> int:
    """Run all jobs, print a table and return the exit code: 1 if any job failed.

    Every job's configuration is checked before the first one starts. The jobs' folders lie in one,
    with the table's rows in ``sweep.json``.

    Raises
    ------
    ConfigError
        If the configuration of any job is wrong.
    """
    jobs = planned(overrides, folder=folder, now=now)
    for job in jobs:
        parts(job.composition)
    screen = sys.stderr if as_json else sys.stdout
    rows = []
    for index, job in enumerate(jobs, start=1):
        print(f"[{index}/{len(jobs)}] {job.label}", file=screen, flush=True)
        rows.append(_row(job, _failure(job, screen)))
        # After each job, so that a sweep that is interrupted leaves what it has.
        write_json(job.output_dir.parent / SWEEP, rows)
    if as_json:
        print(json.dumps(rows, indent=2))
    Console(file=screen, soft_wrap=True).print(_table(rows))
    for line in over_seeds(rows):
        print(line, file=screen)
    return int(any(row["error"] for row in rows))


def planned(overrides: Sequence[str], *, folder: Path | None, now: datetime) -> list[Job]:
    """Return the jobs of a sweep, in order.

    Raises
    ------
    ConfigError
        If a configuration is wrong, or a job's folder already holds a run.
    """
    keys = swept_keys(overrides)
    jobs: list[Job] = []
    compositions = [(texts, compose(texts, folder=folder)) for texts in expanded(overrides)]
    base = _base(compositions[0][1], now)
    for index, (texts, composition) in enumerate(compositions):
        chosen = dict(text.split("=", maxsplit=1) for text in texts if "=" in text)
        values = {key: chosen[key] for key in keys} or {"job": str(index)}
        slug = re.sub(r"[^A-Za-z0-9._=-]+", "-", ",".join(f"{k}={v}" for k, v in values.items()))
        output_dir = base / f"{index}-{slug[:80]}"
        if (output_dir / ROUNDS).exists():
            raise ConfigError(f"output_dir {output_dir} already holds a run; choose another folder")
        jobs.append(Job(values, composition, output_dir))
    return jobs


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for every setting that was run with several seeds: median and lowest accuracy.

    Examples
    --------
    >>> rows = [{"values": {"seed": s}, "summary": {"final_accuracy": a}}
    ...         for s, a in (("0", 0.9), ("1", 0.8), ("2", 0.95))]
    >>> over_seeds(rows)
    ['all: accuracy median 0.9000, lowest 0.8000 over 3 seeds']
    """
    settings: dict[str, list[float]] = {}
    for row in rows:
        accuracy = (row["summary"] or {}).get("final_accuracy")
        if "seed" in row["values"] and accuracy is not None:
            rest = " ".join(f"{k}={v}" for k, v in row["values"].items() if k != "seed")
            settings.setdefault(rest or "all", []).append(accuracy)
    return [
        f"{name}: accuracy median {share(median(found))}, lowest {share(min(found))} "
        f"over {len(found)} seeds"
        for name, found in settings.items()
        if len(found) > 1
    ]


def _base(composition: Composition, now: datetime) -> Path:
    chosen = composition.root.output_dir
    if chosen is not None:
        return Path(chosen)
    return Path("runs") / f"{now:%Y%m%d-%H%M%S}-{composition.name}-sweep"


def _failure(job: Job, screen: Any) -> str | None:
    """Run a job; return why it failed, or ``None``."""
    watcher = progress("quiet", report=job.output_dir / REPORT, output=screen)
    try:
        launch(
            job.composition,
            parts(job.composition),
            output_dir=job.output_dir,
            progress=watcher,
        )
    except DaaflError as error:
        print(f"daafl: {job.label}: {error}", file=sys.stderr)
        return str(error)
    return None


def _row(job: Job, error: str | None) -> dict[str, Any]:
    path = job.output_dir / SUMMARY
    return {
        "values": dict(job.values),
        "output_dir": str(job.output_dir),
        "error": error,
        "summary": json.loads(path.read_text(encoding="utf-8")) if path.exists() else None,
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for key in rows[0]["values"]:
        table.add_column(key)
    for name in ("status", "rounds", "accuracy", "best", "loss", "time"):
        table.add_column(name, justify="left" if name == "status" else "right")
    for row in rows:
        found = row["summary"] or {}
        table.add_row(
            *row["values"].values(),
            found.get("status", "failed"),
            str(found.get("rounds", 0)),
            share(found.get("final_accuracy")),
            share(found.get("best_accuracy")),
            number(found.get("final_loss"), 4),
            duration(found.get("seconds", 0.0)),
        )
    return table
