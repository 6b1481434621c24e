"""The account of a decision in words, and the list of all decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import sqrt

from daafl.autonomy.records import Effect, Insight
from daafl.observability.explanation.account import Account
from daafl.observability.explanation.checks import Check
from daafl.observability.outcomes import RESULTS, action_text, tally
from daafl.observability.units import number, plural

RESULT_WORDS = {
    "better": "better than expected",
    "confirmed": "as expected",
    "worse": "worse than expected",
    "pending": "no judgement yet",
    "unjudged": "not judged",
}


def headline(account: Account) -> str:
    """Return which decision it is, whose, and when it was taken."""
    step = account.cycle.step
    when = f"after step {step:,}" if step is not None else "before the first step"
    loop = account.decision.loop.replace("_", " ")
    return f"Decision {account.name}, {loop}, {when} (tick {account.cycle.tick})"


def decided(account: Account) -> list[str]:
    """Return what was decided, each part in a line."""
    decision, asked = account.decision, account.asked
    lines = [action_text(decision)]
    lines += [
        f"{request.knob}: {request.reason} ({request.level}, for {plural(request.ticks, 'tick')})"
        for request in decision.requests
    ]
    if asked is not None and action_text(asked) != action_text(decision):
        lines.append(f"the loop had wanted: {action_text(asked)}")
    applied = account.cycle.restored
    if decision.restore is not None and applied is not None and applied != decision.restore:
        lines.append(f"version {applied} was the nearest one kept")
    if decision.confidence != 1.0:
        lines.append(f"confidence {number(decision.confidence)}")
    lines += [f"costs {name} {number(cost)} per cycle" for name, cost in decision.costs.items()]
    return [*lines, *account.notes]


def expected(account: Account) -> list[str]:
    """Return what was expected, with every number that it will be judged by."""
    effect = account.decision.expect
    if effect is None:
        return ["nothing: this decision is not judged on its own"]
    when = f"after {plural(effect.horizon, 'cycle')}"
    if account.due is not None:
        when += f" (step {account.due:,})"
    return [
        f"without it, {effect.metric} was forecast at {number(effect.baseline, 4)} {when}",
        f"with it, at {number(effect.baseline - effect.mean, 4)}: {_improvement(effect)}",
        f"spread {number(spread(effect))} = sqrt(sd_mean {number(effect.sd_mean)}^2 + "
        f"sd {number(effect.sd)}^2 / {effect.horizon})",
    ]


def happened(account: Account) -> list[str]:
    """Return what came of it, with the judgement computed again."""
    effect, insight = account.decision.expect, account.insight
    if effect is None:
        return [f"{RESULT_WORDS['unjudged']}"]
    if insight is None:
        return ["no judgement is recorded: the run ended before, or the metric was not measured"]
    metric = number(effect.baseline - insight.actual, 4)
    step = account.closed.step if account.closed is not None else None
    when = f"after step {step:,} " if step is not None else ""
    return [
        f"{insight.verdict}: {when}{effect.metric} was {metric}",
        f"improvement {number(effect.baseline, 4)} - {_term(metric)} = {number(insight.actual)}",
        f"z = ({number(insight.actual)} - {_term(number(effect.mean))}) / {number(spread(effect))}"
        f" = {number(insight.z)}; reward {number(insight.reward)}",
        insight.sentence,
    ]


def spread(effect: Effect) -> float:
    """Return the standard deviation by which the improvement may miss its expectation."""
    return sqrt(effect.sd_mean**2 + effect.sd**2 / effect.horizon)


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Return how many numbers were computed again, those that differ, and those left out."""
    made = [check for check in checks if check.is_made]
    wrong = [check for check in made if not check.agrees]
    left = Counter(check.why for check in checks if not check.is_made)
    agree = "all as recorded" if not wrong else f"{len(wrong):,} not as recorded:"
    return [
        f"{plural(len(made), 'value')} computed again, {agree}",
        *(mismatch_text(check) for check in wrong),
        *(f"{plural(count, 'value')} not computed: {why}" for why, count in left.items()),
    ]


def mismatch_text(check: Check) -> str:
    """Return where record and computation differ."""
    return f"{check.what}: recorded {check.recorded}, computed {check.recomputed}"


def result_text(account: Account) -> str:
    """Return what came of a decision in a few words."""
    insight: Insight | None = account.insight
    if insight is None:
        return RESULT_WORDS[account.outcome.result]
    return f"{insight.verdict} (z {insight.z:+.1f})"


def loop_lines(found: Iterable[Account]) -> list[str]:
    """Return a line for every loop: how often it acted, how, and what came of it."""
    by_loop: dict[str, list[Account]] = {}
    for account in found:
        by_loop.setdefault(account.decision.loop, []).append(account)
    lines = []
    for loop, members in by_loop.items():
        actions = Counter(member.decision.action.replace("_", " ") for member in members)
        counts = tally(member.outcome for member in members)
        did = ", ".join(f"{count} x {action}" for action, count in actions.most_common())
        came = ", ".join(f"{counts[result]} {result}" for result in RESULTS if counts[result])
        lines.append(f"{loop}: {plural(len(members), 'decision')} ({did}); {came}")
    return lines


def _term(text: str) -> str:
    """Return a number as it stands after a minus sign."""
    return f"({text})" if text.startswith("-") else text


def _improvement(effect: Effect) -> str:
    if effect.mean == 0:
        return "the same, so that it is worse only if it does harm"
    return f"an improvement of {number(effect.mean)}"
