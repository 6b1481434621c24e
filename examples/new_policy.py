"""A loop of your own: more local steps once the loss is low. Run it: python new_policy.py."""

from dataclasses import dataclass

import daafl
from daafl.autonomy.guards import bounds, cooldown
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import Decision, Insight, unchanged
from daafl.learning.tasks.tabular import BreastCancer
from daafl.loops import default_loops


@dataclass(frozen=True)
class Seen:
    """What it observes: any fields of `daafl.strategies.monitor.StepFacts`."""

    loss: float | None = None


@dataclass(frozen=True)
class Diligence:
    """The policy: pure methods, no clock, no input or output."""

    name = "diligence"
    observation = Seen
    state = Seen  # what it remembers: the last loss there was
    knobs = (Knob("local_steps", "steps", 10, "diligence", "branch", low=1, high=40),)

    def init(self) -> Seen:
        """Remember nothing yet."""
        return Seen()

    def observe(self, state: Seen, seen: Seen) -> Seen:
        """Remember the loss, if there was one."""
        return seen if seen.loss is not None else state

    def reason(self, state: Seen, seen: Seen, plan: Plan) -> Decision:
        """Decide about the next step, in data: the host does what the decision says."""
        steps = int(plan["local_steps"])
        if state.loss is None or state.loss > 0.2:
            return unchanged(self.name, "busy", "the loss is still high")
        change = Change("local_steps", steps, steps + 5)
        return Decision(self.name, "work_more", "slow", f"loss {state.loss:.2f}", (change,))

    def reflect(self, decision: Decision, before: Seen, after: Seen) -> Insight | None:
        """Judge nothing: the decision names no expected effect."""
        return None

    def adapt(self, state: Seen, insight: Insight) -> Seen:
        """Learn nothing."""
        return state


guards = (bounds(), cooldown("local_steps", 3))
diligence = Loop(Diligence(), "cost", "coordinator", "branch", guards=guards)
result = daafl.run(BreastCancer(), loops=[*default_loops(), diligence], num_nodes=10, num_rounds=20)
print(f"accuracy {result.summary.final_accuracy:.3f} after {result.summary.decisions} decisions")
