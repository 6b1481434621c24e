"""What a loop's policy offers its hub, and how a loop is declared.

A policy is a frozen dataclass of parameters with five pure methods. It has no clock, no randomness,
no input or output: time and everything else come in with the observation, and what it remembers
goes out with its state, which survives JSON both ways.

A complete policy, which halves ``lr`` when the loss rises::

    @dataclass(frozen=True)
    class Seen:
        loss: float | None

    @dataclass(frozen=True)
    class Memory:
        last: float | None = None
        is_rising: bool = False

    @dataclass(frozen=True)
    class Halving:
        name = "halving"
        observation = Seen
        state = Memory
        knobs = (Knob("lr", "1", 0.1, "halving", "branch", low=1e-4, high=3.0),)

        def init(self):
            return Memory()

        def observe(self, state, seen):
            if seen.loss is None:
                return state
            return Memory(seen.loss, state.last is not None and seen.loss > state.last)

        def reason(self, state, seen, plan):
            if not state.is_rising:
                return unchanged(self.name, "stable", "the loss is not rising")
            lr = plan["lr"]
            effect = Effect("loss", baseline=state.last, mean=0.1, sd=0.1, horizon=3)
            return Decision(self.name, "halve", "rising", f"the loss rose to {state.last:.3g}",
                            (Change("lr", lr, lr / 2),), expect=effect)

        def reflect(self, decision, before, after):
            return judged(decision, after.loss)

        def adapt(self, state, insight):
            return state
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from daafl.autonomy.guards import Guard
from daafl.autonomy.plan import Knob, Plan, Scope
from daafl.autonomy.records import Decision, Insight, Level

ObservationT = TypeVar("ObservationT")
StateT = TypeVar("StateT")


class Policy(Protocol[ObservationT, StateT]):
    """Reason, reflect and adapt of one loop.

    Attributes
    ----------
    name
        The loop's name, unique in its hub, in snake_case.
    observation, state
        Frozen dataclasses of what it sees in a cycle, and of what it remembers.
    knobs
        The knobs it owns.
    """

    @property
    def name(self) -> str:
        """The loop's name."""

    @property
    def observation(self) -> type[ObservationT]:
        """Type of what it sees in a cycle."""

    @property
    def state(self) -> type[StateT]:
        """Type of what it remembers."""

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Knobs it owns."""

    def init(self) -> StateT:
        """Return the state before the first cycle."""

    def observe(self, state: StateT, observation: ObservationT) -> StateT:
        """Return the state after taking in an observation."""

    def reason(self, state: StateT, observation: ObservationT, plan: Plan) -> Decision:
        """Decide what to do next under `plan`; called after `observe`."""

    def reflect(
        self, decision: Decision, before: ObservationT, after: ObservationT
    ) -> Insight | None:
        """Return what became of a decision, from the observations before and after its effect.

        ``None`` when it cannot be told, for example because the metric is missing. Called for
        decisions with an expectation, when their horizon has passed.
        """

    def adapt(self, state: StateT, insight: Insight) -> StateT:
        """Return the state after learning from what became of an own decision."""


@runtime_checkable
class Restoring(Protocol):
    """A policy that may ask to return to an older model.

    The host keeps what it names, or models a few versions older: each costs memory and disk.
    """

    def wanted_versions(self, state: Any) -> frozenset[int]:
        """Return the model versions that a later decision may restore."""


@dataclass(frozen=True)
class Loop:
    """A policy and its place in the federation.

    Parameters
    ----------
    policy
        Its reasoning.
    level
        How strong its reasons are; its requests are never stronger.
    component
        Part of the federation it belongs to: ``coordinator``, ``quality``, ``resources`` ...
    scope
        What one instance of it runs over.
    depends_on
        Loops that reason before it, and whose decisions it sees in the plan.
    influences
        Knobs and metrics it may move, besides its own knobs; it may request no other knob.
    guards
        Applied in this order to everything it decides.
    laws
        Actions of continuous laws; these run every cycle and are never banned for having failed.
    """

    policy: Policy[Any, Any]
    level: Level
    component: str
    scope: Scope
    depends_on: tuple[str, ...] = ()
    influences: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()
    laws: tuple[str, ...] = ()
