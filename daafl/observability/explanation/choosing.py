"""Which decisions somebody asks about, by number and by loop."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from daafl.errors import ConfigError
from daafl.observability.explanation.account import Account


def chosen(
    found: Sequence[Account], *, decision: str | None = None, loop: str | None = None
) -> tuple[Account, ...]:
    """Return the decisions of a loop, or the one with a number.

    Parameters
    ----------
    found
        All decisions of the run.
    decision
        ``12``, or ``main:12`` where the federation and a branch both have a twelfth.
    loop
        Name of a loop; ``None`` for any.

    Raises
    ------
    ConfigError
        When there is none, or more than one with that number; says which there are.
    """
    if loop is not None:
        loops = sorted({account.decision.loop for account in found})
        if loop not in loops:
            raise ConfigError(f"no loop {loop} decided anything; {_known(loop, loops)}")
        found = [account for account in found if account.decision.loop == loop]
    if decision is None:
        return tuple(found)
    target, _, digits = decision.rpartition(":")
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"decision {decision!r} is no number of a decision; write 12, or main:12")
    number = int(digits)
    matching = [account for account in found if account.decision.number == number]
    if target:
        matching = [account for account in matching if account.cycle.target == target]
    if not matching:
        raise ConfigError(f"there is no decision {decision}{_there_are(found)}")
    if len(matching) > 1:
        names = " or ".join(account.name for account in matching)
        raise ConfigError(f"decision {decision} is not the only one with its number: write {names}")
    return tuple(matching)


def _known(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"these did: {', '.join(names) or 'none'}"


def _there_are(found: Sequence[Account]) -> str:
    numbers: dict[str, list[int]] = {}
    for account in found:
        numbers.setdefault(account.cycle.target, []).append(account.decision.number or 0)
    ranges = [f"{target}:{min(held)} to {max(held)}" for target, held in numbers.items()]
    return f"; there are {' and '.join(ranges)}" if ranges else "; nothing was decided"
