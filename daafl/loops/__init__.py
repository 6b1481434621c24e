"""The loops: one file each, with what it observes, the knobs it turns, and its policies."""

from daafl.autonomy.policy import Loop
from daafl.loops.health import CusumAlarms, HealthObservation, health
from daafl.loops.learning_rate import (
    Hypergradient,
    LearningRateObservation,
    learning_rate,
)
from daafl.loops.quality import QualityObservation, Vigilance, quality

__all__ = [
    "CusumAlarms",
    "HealthObservation",
    "Hypergradient",
    "LearningRateObservation",
    "QualityObservation",
    "Vigilance",
    "default_loops",
    "health",
    "learning_rate",
    "quality",
]


def default_loops() -> tuple[Loop, ...]:
    """Return the loops of a federation that runs itself."""
    return (health(), learning_rate(), quality())
