"""The report in plain text, for terminals and logs."""

from __future__ import annotations

from daafl.observability.outcomes import RESULTS, action_text, tally
from daafl.observability.remarks import nodes_text
from daafl.observability.report.facts import STATUS_WORDS, status
from daafl.observability.run import Run
from daafl.observability.screened import screened_of
from daafl.observability.totals import totals
from daafl.observability.units import duration, number, plural, share, size


def describe(run: Run) -> str:
    """Return a few lines that sum a run up, notable decisions included."""
    figures, info = totals(run), run.info
    ended = run.summary.reason if run.summary else "no summary was written"
    counts = tally(figures.decisions)
    judged = ", ".join(f"{counts[result]} {result}" for result in RESULTS if counts[result])
    lines = [
        f"{run.name}: {STATUS_WORDS[status(run)]}" + (f" ({ended})" if ended else ""),
        f"  task       {info.task}, {plural(info.num_nodes, 'node')}, {info.strategy}",
        *([f"  trainer    {info.trainer}"] if info.trainer else []),
        f"  rounds     {figures.rounds:,} of {info.num_rounds:,}",
        f"  accuracy   {share(figures.accuracy)}, best {share(figures.best_accuracy)}",
        f"  loss       {number(figures.loss, 4)}",
        f"  time       {duration(figures.wall_seconds)}, {duration(figures.clock_s)} on its clock",
        f"  traffic    {size(figures.bytes_up)} from nodes, {size(figures.bytes_down)} to nodes",
        f"  decisions  {len(figures.decisions):,}" + (f": {judged}" if judged else ""),
        f"  rollbacks  {figures.rollbacks:,}, alarms {figures.alarms:,}",
    ]
    if any(step.flags for step in run.rounds):
        found = screened_of(run)
        suspected = f", suspected: {nodes_text(found.suspects)}" if found.suspects else ""
        what = plural(found.num_flags, "update")
        if found.num_groups:
            what = f"{plural(found.num_groups, 'sum')} of groups"
        lines.append(f"  left out   {what}{suspected}")
    if figures.gap is not None:
        points = f"{abs(100 * figures.gap):.1f} points {'below' if figures.gap >= 0 else 'above'}"
        lines.insert(4, f"  gap        {points} centralised training")
    lines += [f"  note       {note}" for note in run.notes]
    notable = [outcome for outcome in figures.decisions if not outcome.is_routine]
    lines += [
        f"    step {o.step:>5,}  {o.decision.loop}: {action_text(o.decision)}"
        f" ({o.decision.reason}) -> {o.result}"
        for o in notable
    ]
    return "\n".join(lines)
