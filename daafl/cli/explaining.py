"""``daafl explain``: what a run's loops saw, decided and expected, and what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from daafl.cli.replaying import check_replayable, divergence_text, replayed
from daafl.cli.reporting import complete_run, found_run
from daafl.errors import ConfigError, DaaflError, JournalError

if TYPE_CHECKING:
    from daafl.autonomy.policy import Loop
    from daafl.observability.run import Run


def _complete_loop(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(loop) for loop in _names(context, "loop") if loop.startswith(incomplete)]


def _complete_decision(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(n) for n in _names(context, "decision") if n.startswith(incomplete)]


@click.command(
    epilog="""
    \b
    Examples:
      daafl explain                          all decisions of the newest run under runs/
      daafl explain runs/first --decision 12        one of them, in words and as a plot
      daafl explain runs/first --decision main:12   where others have a twelfth as well
      daafl explain --loop learning_rate     the decisions of one loop
      daafl explain --html why.html          all of them on a page, with a chart each

    Decisions are numbered per target: `federation` for loops over the whole federation, else the
    branch, which is `main` unless a run has several. A number alone will do while only one target
    has it.

    The exit code is 0 if every number comes out as recorded, 1 if one does not, and 2 if there is
    no such run or decision.
    """
)
@click.argument("folder", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.option(
    "--decision",
    metavar="[TARGET:]N",
    shell_complete=_complete_decision,
    help="Explain one decision in full, with a plot.",
)
@click.option("--loop", metavar="NAME", shell_complete=_complete_loop, help="One loop's decisions.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page with charts.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def explain(
    folder: str | None,
    *,
    decision: str | None,
    loop: str | None,
    page: Path | None,
    as_json: bool,
) -> int:
    """Explain the decisions of a run.

    What was seen, decided and expected, and what happened: every number is computed again from
    the journal, and compared with what it says. RUN is a run's folder, or its name under runs/; the
    newest one by default.
    """
    from daafl.observability import explanation
    from daafl.store.run_folder import load

    path = found_run(folder)
    run = load(path)
    if run.header is None:
        raise ConfigError(f"{path} has no journal.jsonl, so no decision can be explained")
    again = _decided_again(run)
    everything = explanation.accounts(
        run, {known.policy.name: known.policy for known in again.loops}
    )
    chosen = explanation.chosen(everything, decision=decision, loop=loop)
    if page is not None:
        notes = [*run.notes, again.sentence]
        _write(page, explanation.explanation_html(run.name, chosen, notes))
    is_wrong = again.differs or any(account.mismatches for account in chosen)
    if as_json:
        document = {
            "run": run.name,
            "replay": {"identical": again.identical, "sentence": again.sentence},
            "notes": list(run.notes),
            "decisions": [explanation.account_json(account) for account in chosen],
        }
        click.echo(json.dumps(document, indent=2, allow_nan=False))
        return int(is_wrong)
    console = _console()
    is_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    if decision is not None:
        lines = explanation.in_full(chosen[0], width=console.width, is_ascii=is_ascii)
    else:
        lines = explanation.listed(chosen, num_steps=len(run.rounds))
    for line in lines:
        console.print(line)
    for note in [*run.notes, again.sentence]:
        console.print(note, style="bold red" if again.differs else "dim")
    if page is not None:
        console.print(f"page: {page}")
    elif decision is None and chosen:
        shown = next((a for a in chosen if a.insight is not None), chosen[0])
        console.print(f"`daafl explain {path} --decision {shown.name}` tells one in full")
    return int(is_wrong)


@dataclass(frozen=True)
class _Again:
    """What came of letting a run's loops decide again.

    Parameters
    ----------
    loops
        As far as they are known.
    identical
        Whether they decide the same; ``None`` if they cannot be asked.
    sentence
        The same in words.
    """

    loops: tuple[Loop, ...]
    identical: bool | None
    sentence: str

    @property
    def differs(self) -> bool:
        """Whether a loop decides differently."""
        return self.identical is False


def _decided_again(run: Run) -> _Again:
    """Let the loops decide again, so that forecasts and decisions are computed anew as well."""
    from daafl.loops import default_loops

    try:
        check_replayable(run)
        from daafl.config.rebuilding import rebuilt

        loops, hubs = rebuilt(run.config)
    except ConfigError as error:
        return _Again(default_loops(), None, f"not replayed: {error}")
    try:
        divergence = replayed(run, hubs)
    except JournalError as error:
        return _Again(loops, False, f"the replay stopped: {error}")
    if divergence is not None:
        return _Again(loops, False, divergence_text(run, divergence))
    return _Again(
        loops, True, "replayed: from what they saw, the loops forecast and decide the same again"
    )


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{page} cannot be written: {error.strerror}") from error


def _console() -> Any:
    from rich.console import Console

    return Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _names(context: click.Context, field: str) -> list[str]:
    """Return the names in a run's journal that complete an option; none if it cannot be read."""
    from daafl.autonomy.journal import read
    from daafl.store.run_folder import JOURNAL

    try:
        records = read(found_run(context.params.get("folder")) / JOURNAL).records
    except (DaaflError, OSError):
        return []
    found: dict[str, None] = {}
    for record in records:
        for decision in record.get("decisions", ()):
            if isinstance(decision, Mapping) and decision.get("number") is not None:
                name = f"{record.get('target')}:{decision['number']}"
                found[str(decision.get("loop")) if field == "loop" else name] = None
    return list(found)
