"""The table of which part runs in which regime, as it stands in the documentation.

``python -m daafl.strategies.compatibility`` prints it; a test holds the documentation against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from daafl.loops import default_loops
from daafl.strategies.capabilities import CAPABILITIES, REFUSED
from daafl.strategies.fedexp import FedExP
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.regime import (
    Regime,
    Requirement,
    loop_requirement,
    optimizer_requirement,
)
from daafl.strategies.robust import (
    Bucketing,
    CentredClipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    MultiKrum,
    TrimmedMean,
)
from daafl.strategies.summed_exchange import REQUIREMENTS

OPTIMIZERS: Final[tuple[type[ServerOptimizer], ...]] = (
    FedExP,
    CoordinateMedian,
    TrimmedMean,
    GeometricMedian,
    CentredClipping,
    Krum,
    MultiKrum,
    Bucketing,
)
"""daafl's own server optimisers."""

REGIMES: Final[Mapping[str, Regime]] = MappingProxyType(
    {
        "plain, synchronous": Regime(individuals=True, losses="per_node", synchronous=True),
        "plain, buffered": Regime(individuals=True, losses="per_node", synchronous=False),
        "three groups": Regime(
            individuals=False, losses="per_group", synchronous=True, group_size=8, cohort=24
        ),
        "group sums": Regime(individuals=False, losses="per_group", synchronous=True),
        "sums without losses": Regime(individuals=False, losses="none", synchronous=True),
    }
)
"""The regimes there are, from the most open to the most closed."""


@dataclass(frozen=True)
class Part:
    """A part of a federation and what it needs."""

    kind: str
    name: str
    requirement: Requirement


def parts() -> Iterator[Part]:
    """Yield every server optimiser and every loop that comes with daafl."""
    for strategy, capability in CAPABILITIES.items():
        requirement = Requirement(
            individuals=capability.needs == "individuals", takes_groups=capability.takes_groups
        )
        yield Part("optimizer", strategy.__name__, requirement)
    flower_names = {strategy.__name__ for strategy in CAPABILITIES}
    for own in OPTIMIZERS:
        name = own.__name__
        if name in flower_names:
            name = f"daafl.strategies.{name}"
        yield Part("optimizer", name, optimizer_requirement(own))
    for loop in default_loops():
        yield Part("loop", loop.policy.name, loop_requirement(loop))


def table() -> str:
    """Return the table in Markdown, with the reasons and the refused strategies below it."""
    lines = [
        "| part | kind | " + " | ".join(REGIMES) + " |",
        "|---|---|" + "---|" * len(REGIMES),
    ]
    reasons: dict[str, None] = {}
    for part in parts():
        cells = []
        for regime in REGIMES.values():
            reason = part.requirement.lacking(regime)
            cells.append("yes" if reason is None else "no")
            if reason is not None:
                reasons[f"* {part.name}: {reason}."] = None
        lines.append(f"| `{part.name}` | {part.kind} | " + " | ".join(cells) + " |")
    refused = [f"* {kind.__name__} {reason}." for kind, reason in REFUSED.items()]
    summed = [f"* {need}" for need in REQUIREMENTS]
    return "\n".join(
        [
            *lines,
            "",
            *reasons,
            "",
            "The exchange `summed` makes the regime of group sums. A run needs for it",
            "",
            *(f"{need};" for need in summed[:-1]),
            f"{summed[-1]}.",
            "",
            "Never:",
            "",
            *refused,
            "",
        ]
    )


if __name__ == "__main__":
    print(table())
