"""What a run tells those who watch it: progress bars, run folders, dashboards.

Events are plain data. An observer never changes a run; one that fails is a bug of the observer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from daafl.autonomy.plan import Knob, Value
from daafl.autonomy.records import Decision, Insight

Status = Literal["completed", "failed", "stopped"]
Outcome = Literal["adopted", "rejected", "no_quorum"]


@dataclass(frozen=True)
class RunInfo:
    """What is known when a run starts.

    ``knobs`` are all knobs of the run with unit and bounds; ``absent`` maps the name of a part
    that cannot run in this regime to the sentence that says why. ``attackers`` are the nodes that
    a simulation makes hostile; ``None`` where nobody can know. ``resumed_after`` is the step after
    which an earlier attempt at the run was taken up again; ``None`` for a run in one go.
    ``trainer`` says how simulated nodes are trained together, and why; empty where each trains by
    itself. ``guarantees`` says in sentences what is protected, from whom, and what is not.
    """

    task: str
    strategy: str
    num_nodes: int
    num_rounds: int
    num_parameters: int
    seed: int
    knobs: tuple[Knob, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    attackers: tuple[int, ...] | None = None
    resumed_after: int | None = None
    trainer: str = ""
    guarantees: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flag:
    """An update that screening left out of a step.

    Parameters
    ----------
    node
        Its sender.
    score
        How far it is from the others, in robust standard deviations; larger is more suspicious.
    signal
        Which measure was the largest, in a word.
    is_suspect
        Whether the node's record over several steps speaks against it, not this update alone.
    sentence
        Why, with the numbers.
    group
        Members of the sum that was left out, where only sums are seen: it speaks against none of
        them alone, and ``node`` is none of them. Empty for one node's update.
    """

    node: int
    score: float
    signal: str
    is_suspect: bool
    sentence: str
    group: tuple[int, ...] = ()


@dataclass(frozen=True)
class Vote:
    """A committee's verdict on a branch's candidate.

    Parameters
    ----------
    version, accepted
        The candidate, and the accepted version that it was compared with.
    seated, in_favour, against
        Nodes that were asked, and how they voted; the rest was silent or refused.
    threshold
        Share in favour, of those who voted, from which the candidate is adopted.
    outcome
        ``no_quorum`` if too few answered, which leaves the candidate in place for now.
    """

    version: int
    accepted: int
    seated: int
    in_favour: int
    against: int
    threshold: float
    outcome: Outcome


@dataclass(frozen=True)
class StepRecord:
    """One step of one branch, as written to ``rounds.jsonl``.

    Parameters
    ----------
    kind
        ``probe`` for a step that only tried learning rates, else ``train``.
    step
        Counts the steps of the run from 1; a probe has the number of the step it precedes.
    branch, version
        The branch and the version of its model after the step.
    clock_s
        Time at the end of the step: virtual seconds in simulation, else seconds since start.
    seconds
        Duration of the step on that clock.
    wall_seconds
        Real seconds the step took; exempt from determinism.
    train_loss
        Robust mean of the losses that nodes report for the model they received; ``None`` if
        nobody reported a finite one.
    metrics
        Evaluation of the model after the step (``loss``, ``accuracy`` ...); empty when this
        step was not evaluated.
    knobs
        The plan under which the step ran.
    num_updates, num_examples
        Updates that were combined and the examples behind them.
    rejected, failures
        Updates refused by reason, and messages that failed by reason.
    staleness
        Largest number of versions an update of this step was behind.
    bytes_up, bytes_down
        Bytes of message payload from and to the nodes in this step.
    decisions
        What the loops decided after the step, acting decisions only.
    insights
        What became of earlier decisions.
    restored
        Version of the restore point the branch returned to; ``None`` if it went on.
    flags
        Updates that screening left out.
    vote
        What a committee said about the step's model; ``None`` if none was asked.
    quarantined
        Nodes that got no assignment in this step because of what they did before.
    """

    kind: Literal["train", "probe"]
    step: int
    branch: str
    version: int
    clock_s: float
    seconds: float
    wall_seconds: float
    train_loss: float | None
    metrics: Mapping[str, float]
    knobs: Mapping[str, Value]
    num_updates: int
    num_examples: float
    rejected: Mapping[str, int]
    failures: Mapping[str, int]
    staleness: int
    bytes_up: int
    bytes_down: int
    decisions: tuple[Decision, ...]
    insights: tuple[Insight, ...]
    restored: int | None
    flags: tuple[Flag, ...] = ()
    vote: Vote | None = None
    quarantined: tuple[int, ...] = ()


@dataclass(frozen=True)
class PrivacySpent:
    """What a run has cost in privacy, read from its ledgers.

    Parameters
    ----------
    unit
        Who or what is protected: ``example``, ``node`` or ``user``.
    epsilon_spent, epsilon_median
        Largest and median epsilon of the accounts; both the same where there is one.
    delta
        Its delta.
    accounts, nodes_spent_out
        Accounts that have spent something, and nodes that took no further part because of it.
    unreadable
        Ledgers that are damaged, so that nobody knows what was spent from them.
    """

    unit: str
    epsilon_spent: float
    epsilon_median: float
    delta: float
    accounts: int
    nodes_spent_out: int
    unreadable: int = 0


@dataclass(frozen=True)
class RunSummary:
    """How a run ended; the keys of ``summary.json``.

    ``None`` means not measured: no evaluation data, or no privacy accounting.
    """

    status: Status
    reason: str
    rounds: int
    final_accuracy: float | None
    final_loss: float | None
    best_accuracy: float | None
    seconds: float
    virtual_seconds: float | None
    bytes_up: int
    bytes_down: int
    epsilon: float | None
    delta: float | None
    decisions: int
    rollbacks: int
    alarms: int
    flagged_nodes: tuple[int, ...]
    nodes: int
    seed: int
    version: str

    privacy: PrivacySpent | None = None


class Observer(Protocol):
    """Watches a run."""

    def started(self, info: RunInfo) -> None:
        """Take note that the run starts."""

    def stepped(self, record: StepRecord) -> None:
        """Take note of a finished step."""

    def finished(self, summary: RunSummary) -> None:
        """Take note that the run has ended, in whatever way."""
