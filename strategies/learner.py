"""Carries what became of decisions into the knowledge that later runs start from."""

from __future__ import annotations

from daafl.autonomy.knowledge import Knowledge
from daafl.observability.events import RunInfo, RunSummary, StepRecord


class Learner:
    """Adds every insight of a run to a knowledge base; an `Observer`.

    Parameters
    ----------
    knowledge
        Open knowledge base.
    run
        Identity of the run: learning the same decision twice changes nothing.
    """

    def __init__(self, knowledge: Knowledge, run: str) -> None:
        self._knowledge = knowledge
        self._run = run

    def started(self, info: RunInfo) -> None:
        """Do nothing: there is nothing to learn yet."""

    def stepped(self, record: StepRecord) -> None:
        """Learn from the decisions whose effect has become known."""
        for insight in record.insights:
            self._knowledge.learn(self._run, insight)

    def finished(self, summary: RunSummary) -> None:
        """Do nothing: everything was learned when it became known."""
