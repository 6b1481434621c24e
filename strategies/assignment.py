"""How much each node is asked to do: the knobs of local training, and settings of the user's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flwr.app import ConfigRecord

from daafl.autonomy.plan import Knob, Plan, Value
from daafl.errors import ConfigError
from daafl.loops.learning_rate import LR, PROBE
from daafl.messages import Assignment, Scalar
from daafl.strategies.selection import NodeFacts

_OWNER: Final = "coordinator"
LOCAL_KNOBS: Final = (
    LR,
    PROBE,
    Knob("local_steps", "steps", 10, _OWNER, "branch", 1, 100_000),
    Knob("batch_size", "examples", 16, _OWNER, "branch", 1, 100_000),
)


@dataclass(frozen=True)
class LocalTraining:
    """What a node's training starts from; loops may turn these knobs later.

    Parameters
    ----------
    lr
        Learning rate of local SGD. The learning-rate loop replaces it by what it measures.
    local_steps
        Optimisation steps per assignment.
    batch_size
        Examples per step.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    lr: float = 0.1
    local_steps: int = 10
    batch_size: int = 16

    def __post_init__(self) -> None:
        for knob in LOCAL_KNOBS:
            value = getattr(self, knob.name, knob.default)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"training.{knob.name} is {value}, but must be a finite number")
            if value != knob.clipped(value):
                raise ConfigError(
                    f"training.{knob.name} is {value!r}, but must be within "
                    f"[{knob.low:g}, {knob.high:g}] {knob.unit}"
                )

    def values(self) -> dict[str, Value]:
        """Return the plan values of the local knobs."""
        return {"lr": self.lr, "local_steps": self.local_steps, "batch_size": self.batch_size}


@dataclass(frozen=True)
class Work:
    """Local work of one node for one assignment."""

    lr: float
    local_steps: int
    batch_size: int


Assign = Callable[[NodeFacts, Plan], Work]


def same_for_all(_: NodeFacts, plan: Plan) -> Work:
    """Return the plan's own numbers, whatever the node."""
    return Work(
        lr=plan.number("lr"),
        local_steps=int(plan.number("local_steps")),
        batch_size=int(plan.number("batch_size")),
    )


def node_settings(train_config: ConfigRecord | None) -> dict[str, Scalar]:
    """Return a user's extra settings for nodes; those that knobs own are refused."""
    settings: dict[str, Scalar] = {}
    reserved = set(Assignment().to_record())
    for key, value in (train_config or {}).items():
        if key in reserved:
            raise ConfigError(
                f"train_config sets {key!r}, which the plan decides: use LocalTraining"
            )
        if not isinstance(value, bool | int | float | str):
            raise ConfigError(
                f"train_config sets {key!r} to a {type(value).__name__}, not a scalar"
            )
        settings[key] = value
    return settings
