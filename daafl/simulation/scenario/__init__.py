"""Faults, attackers and drift on a schedule: what a scenario file describes."""

from daafl.simulation.scenario.attackers import Attackers
from daafl.simulation.scenario.drifting import Drifting
from daafl.simulation.scenario.drifts import ConceptDrift, LabelDrift
from daafl.simulation.scenario.events import (
    Bandwidth,
    Churn,
    Crash,
    Duplication,
    Event,
    LateReplies,
    LinkCut,
    MessageLoss,
    Partition,
    Reordering,
    Stragglers,
)
from daafl.simulation.scenario.faulty import Faulty
from daafl.simulation.scenario.reading import read_scenario, scenario_of
from daafl.simulation.scenario.scenario import Scenario
from daafl.simulation.scenario.scheduled import Scheduled
from daafl.simulation.scenario.staging import Staged, staged

__all__ = [
    "Attackers",
    "Bandwidth",
    "Churn",
    "ConceptDrift",
    "Crash",
    "Drifting",
    "Duplication",
    "Event",
    "Faulty",
    "LabelDrift",
    "LateReplies",
    "LinkCut",
    "MessageLoss",
    "Partition",
    "Reordering",
    "Scenario",
    "Scheduled",
    "Staged",
    "Stragglers",
    "read_scenario",
    "scenario_of",
    "staged",
]
