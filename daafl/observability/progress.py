"""What a person sees while a run goes on, in the terminal or in a log.

====== ============================================================================================
mode   what is shown
====== ============================================================================================
live   a display that redraws itself: bar, figures, curves, the last decision and why, alarms
plain  one line per round and one per decision, for files and logs
quiet  the final lines only
json   ``summary.json`` on standard output at the end, plain lines on standard error unless quiet
auto   live when standard output is a terminal, else plain
====== ============================================================================================

Estimates of the time left come from the records, so no observer reads a clock.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

from daafl.errors import ConfigError
from daafl.observability.events import Observer, RunInfo, RunSummary, StepRecord
from daafl.observability.live import LiveProgress
from daafl.observability.plain import PlainProgress
from daafl.observability.record_json import summary_json

Mode = Literal["auto", "live", "plain", "quiet", "json"]
MODES: tuple[Mode, ...] = ("auto", "live", "plain", "quiet", "json")


def progress(
    mode: Mode = "auto", *, report: Path | None = None, output: TextIO | None = None
) -> Observer:
    """Return the observer that shows a run.

    Parameters
    ----------
    mode
        One of `MODES`.
    report
        Where the report will be, for the final lines.
    output
        Where to write instead of standard output.

    Raises
    ------
    ConfigError
        For an unknown mode.
    """
    stream = output if output is not None else sys.stdout
    if mode == "auto":
        mode = "live" if stream.isatty() and _draws_blocks(stream) else "plain"
    if mode == "live":
        return WhileItLasts(LiveProgress(stream, report=report))
    if mode == "plain":
        return WhileItLasts(PlainProgress(stream, report=report))
    if mode == "quiet":
        return WhileItLasts(QuietProgress(stream, report=report))
    if mode == "json":
        return JsonProgress(stream, report=report)
    raise ConfigError(f"progress={mode!r} is not known; choose one of {', '.join(MODES)}")


def _draws_blocks(stream: TextIO) -> bool:
    """Return whether the stream takes the characters that small curves are made of."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"


class WhileItLasts:
    """Observer that shows a run until nobody can read it any more.

    A closed pipe or a full disk behind standard output ends what is shown, never the training.

    Parameters
    ----------
    shown
        What shows the run.
    """

    def __init__(self, shown: Observer) -> None:
        self.shown = shown
        self._is_open = True

    def started(self, info: RunInfo) -> None:
        """Pass the start on."""
        self._pass_on(lambda: self.shown.started(info))

    def stepped(self, record: StepRecord) -> None:
        """Pass a step on."""
        self._pass_on(lambda: self.shown.stepped(record))

    def finished(self, summary: RunSummary) -> None:
        """Pass the end on."""
        self._pass_on(lambda: self.shown.finished(summary))

    def _pass_on(self, tell: Callable[[], None]) -> None:
        if not self._is_open:
            return
        try:
            tell()
        except (OSError, ValueError):  # broken pipe, no space, or a stream that was closed
            self._is_open = False


class QuietProgress:
    """Observer that says only how the run ended."""

    def __init__(self, output: TextIO, *, report: Path | None = None) -> None:
        self._lines = PlainProgress(output, report=report)

    def started(self, info: RunInfo) -> None:
        """Say nothing."""

    def stepped(self, record: StepRecord) -> None:
        """Say nothing."""

    def finished(self, summary: RunSummary) -> None:
        """Print the final lines."""
        self._lines.finished(summary)


class JsonProgress:
    """Observer that prints the summary as one JSON document, and the rest on standard error.

    Parameters
    ----------
    output
        Where the document goes.
    report
        Where the report will be.
    is_quiet
        Whether to say only how the run ended, besides the document.
    """

    def __init__(
        self, output: TextIO, *, report: Path | None = None, is_quiet: bool = False
    ) -> None:
        self._output = output
        shown = QuietProgress if is_quiet else PlainProgress
        self._lines: Observer = WhileItLasts(shown(sys.stderr, report=report))

    def started(self, info: RunInfo) -> None:
        """Print the header on standard error."""
        self._lines.started(info)

    def stepped(self, record: StepRecord) -> None:
        """Print the step on standard error."""
        self._lines.stepped(record)

    def finished(self, summary: RunSummary) -> None:
        """Print the summary."""
        self._lines.finished(summary)
        print(json.dumps(summary_json(summary), indent=2), file=self._output, flush=True)
