"""How benchmarks report: tables for people, a JSON file for everybody else.

Every benchmark is a script with ``--quick`` for a short run. It collects `Figure` objects, each
with the bar it is held against, and raw rows, and hands them to `Benchmark.finish`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
PACKAGES: Final = ("daafl", "flwr", "numpy", "scipy", "torch", "ray")

_LOG_WIDTH: Final = 120  # characters a line may have where there is no terminal to ask

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One measured number and the bar it is held against.

    Parameters
    ----------
    name, unit
        What was measured; the unit is ``""`` for a plain number and ``"x"`` for a ratio.
    value
        The measurement: the median where it was repeated.
    bar
        What must hold: a number, or with its direction such as ``">= 4"``; ``None`` for a figure
        that is only shown.
    holds
        Whether it does; ``None`` without a bar.
    spread
        Smallest and largest of what the value sums up; ``None`` if there was one measurement.
    """

    name: str
    value: float
    unit: str
    bar: float | str | None = None
    holds: bool | None = None
    spread: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        values: Sequence[float],
        unit: str,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Self:
        """Return the figure of repeated measurements, by their median.

        Examples
        --------
        >>> Figure.of("speed-up", [5.0, 4.0, 7.0], "x", at_least=4)
        Figure(name='speed-up', value=5.0, unit='x', bar='>= 4', holds=True, spread=(4.0, 7.0))
        """
        value = statistics.median(values)
        spread = (min(values), max(values)) if len(values) > 1 else None
        if at_least is not None:
            return cls(name, value, unit, f">= {at_least:g}", value >= at_least, spread)
        if at_most is not None:
            return cls(name, value, unit, f"<= {at_most:g}", value <= at_most, spread)
        return cls(name, value, unit, spread=spread)


@dataclass(frozen=True)
class Benchmark:
    """A run of a benchmark.

    Parameters
    ----------
    name
        Name of the script and of its file in ``benchmarks/results``.
    quick
        Whether this is a short run, whose figures are not to be quoted.
    seeds
        Seeds of what is random in it.
    """

    name: str
    quick: bool = False
    seeds: Sequence[int] = ()

    def progress(self, items: Iterable[T], *, total: int | None = None) -> Iterator[T]:
        """Yield the items, with a bar on the terminal."""
        yield from track(items, description=self.name, total=total, console=_console())

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; its first column is aligned to the left, the others to the right."""
        table = Table(title=title, title_justify="left")
        for position, column in enumerate(columns):
            table.add_column(column, justify="left" if position == 0 else "right")
        for row in rows:
            table.add_row(*row)
        _console().print(table)

    def finish(
        self,
        figures: Sequence[Figure],
        *,
        rows: Sequence[Mapping[str, Any]],
        notes: Sequence[str] = (),
    ) -> int:
        """Print the figures, write the result, and return the exit code: 1 if a bar is missed.

        A quick run never replaces a full result, and its bars do not decide the exit code.
        """
        title = f"{self.name}, quick run" if self.quick else self.name
        self.table(title, ("figure", "value", "spread", "bar", "holds"), map(_cells, figures))
        console = _console()
        for note in notes:
            console.print(note, highlight=False, markup=False)
        path = RESULTS / f"{self.name}.json"
        if self.quick and _is_full(path):
            console.print(f"{path.relative_to(ROOT)} holds a full result and was left as it is")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_json(self, figures, rows, notes), encoding="utf-8")
            console.print(f"written: {path.relative_to(ROOT)}")
        is_missed = any(figure.holds is False for figure in figures)
        return 1 if is_missed and not self.quick else 0


def machine() -> dict[str, str | int | float]:
    """Return what the machine is, as far as it explains a measurement."""
    # Lines such as "MemTotal:  24565 kB" of the Linux kernel; elsewhere memory stays unknown.
    kibibytes = _kernel_field("/proc/meminfo", "MemTotal").removesuffix("kB").strip()
    return {
        "processor": _kernel_field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(int(kibibytes) / 2**20, 1) if kibibytes else 0.0,
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit that was measured, with ``+`` if files had been changed since."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "none"
    return head + ("+" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _kernel_field(path: str, name: str) -> str:
    """Return the value of a ``name: value`` line of ``path``, or nothing."""
    file = Path(path)
    if not file.exists():
        return ""
    lines = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _json(
    benchmark: Benchmark,
    figures: Sequence[Figure],
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> str:
    result = {
        "name": benchmark.name,
        "quick": benchmark.quick,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "seeds": list(benchmark.seeds),
        "notes": list(notes),
        "figures": [asdict(figure) for figure in figures],
    }
    head = json.dumps(result, indent=1, allow_nan=False).removesuffix("\n}")
    # Raw rows may be many: a line each, without blanks.
    lines = [json.dumps(dict(row), separators=(",", ":"), allow_nan=False) for row in rows]
    return head + ',\n "rows": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def _is_full(path: Path) -> bool:
    return path.exists() and not json.loads(path.read_text(encoding="utf-8"))["quick"]


def _cells(figure: Figure) -> tuple[str, ...]:
    bar = _short(figure.bar) if isinstance(figure.bar, int | float) else figure.bar or ""
    return (
        figure.name,
        f"{_short(figure.value)} {figure.unit}".strip(),
        "" if figure.spread is None else " to ".join(map(_short, figure.spread)),
        bar,
        {None: "", True: "yes", False: "[bold red]NO[/]"}[figure.holds],
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_LOG_WIDTH)
