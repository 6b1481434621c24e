"""The account of a decision as JSON, for programs."""

from __future__ import annotations

from daafl.autonomy.codec import JSON, encode
from daafl.observability.explanation.account import Account, Sample
from daafl.observability.explanation.checks import Check


def account_json(account: Account) -> dict[str, JSON]:
    """Return everything there is to say about a decision as a JSON object."""
    cycle, closed = account.cycle, account.closed
    return {
        "decision": account.name,
        "target": cycle.target,
        "number": account.decision.number,
        "tick": cycle.tick,
        "step": cycle.step,
        "loop": account.decision.loop,
        "result": account.outcome.result,
        "seen": {
            reading.name: {
                "value": encode(reading.value),
                "text": reading.text,
                "meaning": reading.meaning,
            }
            for reading in account.seen
        },
        "decided": encode(account.decision),
        "asked": encode(account.asked),
        "restored": cycle.restored,
        "notes": list(account.notes),
        "insight": encode(account.insight),
        "judged": None if closed is None else {"tick": closed.tick, "step": closed.step},
        "metric": [_sample(sample) for sample in account.metric],
        "checks": {
            "made": sum(check.is_made for check in account.checks),
            "mismatches": [check_json(check) for check in account.mismatches],
            "not_made": sorted({check.why for check in account.checks if not check.is_made}),
        },
    }


def check_json(check: Check) -> dict[str, JSON]:
    """Return a check as a JSON object."""
    return {
        "what": check.what,
        "recorded": encode(check.recorded),
        "recomputed": encode(check.recomputed),
    }


def _sample(sample: Sample) -> dict[str, JSON]:
    return {"tick": sample.tick, "step": sample.step, "value": sample.value}
