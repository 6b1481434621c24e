"""One step after another, each under the plan in force.

::

    plan -> select -> assign -> Exchange.begin -> Mailbox ====> nodes
                                                    <====  updates
    Exchange.receive (validate) -> buffer -> damping -> ServerOptimizer.combine
      -> adopt on the branch -> facts -> hubs -> journal -> (restore) -> next plan

The coordinator decides nothing. It measures, lets the loops reason, and acts on what is written in
the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from daafl.autonomy.plan import Value
from daafl.errors import ConfigError, DaaflError, FederationError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.observability.events import Observer, StepRecord
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.asking import federated_evaluation, probe
from daafl.strategies.branch import Branch
from daafl.strategies.collecting import Collector, Tally
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.monitor import StepFacts, cosine, norm, reported_losses
from daafl.strategies.pacing import Pacing
from daafl.strategies.probing import PROBE_RATES
from daafl.strategies.reflecting import Reflector
from daafl.strategies.roster import Roster

SILENT_STEPS: Final = 3  # steps in a row without any reply after which a run has failed

Evaluate = Callable[[int, Packed], Mapping[str, float]]
Kind = Literal["probe", "train"]


@dataclass(frozen=True)
class Override:
    """An operator's edit of the plan.

    Parameters
    ----------
    step
        Step before which the value is set, from 1.
    knob, value
        What to set; the loop that owns the knob may move it again after that step.
    reason
        Written to the journal.
    """

    step: int
    knob: str
    value: Value
    reason: str = "operator"


@dataclass(frozen=True)
class Schedule:
    """What happens when, besides training.

    ``evaluate`` is ``None`` for evaluation on the nodes; ``evaluate_every`` 0 means never.
    """

    num_rounds: int
    evaluate: Evaluate | None
    evaluate_every: int
    overrides: Sequence[Override] = ()


class Coordinator:
    """Runs the steps of a branch.

    Parameters
    ----------
    schedule
        Evaluations and operator's edits.
    layout
        Layout of the model.
    branch
        The model to train.
    mailbox, roster, collector
        How nodes are reached.
    reflector
        The loops.
    observers
        Told about every step.
    """

    def __init__(
        self,
        schedule: Schedule,
        layout: Layout,
        branch: Branch,
        *,
        mailbox: Mailbox,
        roster: Roster,
        collector: Collector,
        reflector: Reflector,
        observers: Sequence[Observer],
    ) -> None:
        self._schedule = schedule
        self._layout = layout
        self.branch = branch
        self._mailbox = mailbox
        self._roster = roster
        self._collector = collector
        self._reflector = reflector
        self._observers = observers
        self._silent_steps = 0
        self._was_restored = False
        self._share = 1.0
        self.step = 0

    def open(self) -> None:
        """Hold the first version and let the loops see the federation before the first step."""
        self.branch.members = self._roster.nodes
        self._rescale()
        self.branch.mark()
        self._reflector.reflect(
            self.branch,
            StepFacts(version=self.branch.version, num_nodes=len(self.branch.members)),
        )

    def run_step(self) -> StepRecord:
        """Run one step, with a probe before it if the plan asks for one.

        Raises
        ------
        FederationError
            If no node has answered for several steps in a row.
        """
        self.step += 1
        self._apply_overrides()
        self._roster.greet_new_nodes()
        self.branch.members = self._roster.nodes
        self._rescale()
        if self.branch.plan["probe"]:
            self._observed("probe", self._probe)
        record = self._observed("train", self._train)
        self._check_alive(record)
        return record

    def _observed(self, kind: Kind, act: Callable[[Tally], StepFacts]) -> StepRecord:
        """Act, measure, reflect, and tell the observers."""
        branch, mailbox = self.branch, self._mailbox
        wall_s, start_s = time.perf_counter(), mailbox.clock.now_s()
        up, down = mailbox.bytes_up, mailbox.bytes_down
        knobs = {**self._reflector.plan.values, **branch.plan.values}
        tally = self._collector.tally = Tally()
        facts = act(tally)
        end_s = mailbox.clock.now_s()
        metrics = self._evaluated(tally) if kind == "train" else {}
        facts = replace(
            facts,
            step=self.step,
            version=branch.version,
            lr=float(knobs["lr"]),
            evaluation_loss=metrics.get("loss"),
            accuracy=metrics.get("accuracy"),
            round_seconds=end_s - start_s if kind == "train" else None,
            num_rejected=tally.rejected.total(),
            num_failures=tally.failures.total(),
            nonfinite_fraction=tally.nonfinite_fraction,
            num_nodes=len(branch.members),
            bytes_up=mailbox.bytes_up - up,
            bytes_down=mailbox.bytes_down - down,
            restored=self._was_restored,
        )
        reflection = self._reflector.reflect(branch, facts)
        self._was_restored = reflection.restored is not None
        if self._was_restored:
            self._collector.abandon(branch)
        branch.prune(
            wanted=self._reflector.wanted_versions(branch),
            out=self._collector.versions_out(branch),
        )
        record = StepRecord(
            kind=kind,
            step=self.step,
            branch=branch.name,
            version=facts.version,
            clock_s=end_s,
            seconds=end_s - start_s,
            wall_seconds=time.perf_counter() - wall_s,
            train_loss=facts.loss,
            metrics=metrics,
            knobs=knobs,
            num_updates=facts.num_updates,
            num_examples=facts.num_examples,
            rejected=dict(tally.rejected),
            failures=dict(tally.failures),
            staleness=facts.staleness,
            bytes_up=facts.bytes_up,
            bytes_down=facts.bytes_down,
            decisions=reflection.decisions,
            insights=reflection.insights,
            restored=reflection.restored,
        )
        for observer in self._observers:
            observer.stepped(record)
        return record

    def _probe(self, tally: Tally) -> StepFacts:
        losses = probe(self.branch, self._collector, self._mailbox, tally)
        rates = PROBE_RATES if losses is not None else None
        return StepFacts(probe_rates=rates, probe_log_losses=losses)

    def _train(self, tally: Tally) -> StepFacts:
        branch = self.branch
        pacing = Pacing.of(self._reflector.plan)
        updates = self._collector.collect(branch, pacing)
        report = reported_losses(updates)
        facts = StepFacts(
            loss=report.loss,
            loss_mad=report.mad,
            loss_version=report.version,
            pace=min(len(updates) / pacing.concurrency, 1.0),
        )
        if not updates:
            return facts
        direction, total = weighted_mean(updates)
        facts = replace(
            facts,
            num_updates=len(updates),
            num_examples=total,
            staleness=branch.version - min(update.version for update in updates),
            cosine=cosine(branch.direction, direction),
            update_norm=norm(direction),
            mean_client_norm=float(np.mean([norm(u.delta) or 0.0 for u in updates])),
        )
        branch.direction = direction
        self._combine(updates, tally)
        return facts

    def _combine(self, updates: Sequence[Update], tally: Tally) -> None:
        """Adopt the combined model, or keep the present one if it is not finite.

        Raises
        ------
        FederationError
            If the server optimiser itself fails.
        """
        branch = self.branch
        try:
            packed = branch.optimizer.combine(branch.packed, updates)
        except DaaflError:
            raise
        except Exception as error:  # a user's strategy may raise anything; say which one did
            raise FederationError(
                f"the server optimiser could not combine {len(updates)} updates in step "
                f"{self.step}: {type(error).__name__}: {error}"
            ) from error
        if np.isfinite(self._layout.vector(packed)).all():
            branch.adopt(packed)
            return
        tally.rejected["nonfinite_model"] += 1
        branch.optimizer.load(branch.points[branch.version].optimizer)

    def _evaluated(self, tally: Tally) -> Mapping[str, float]:
        """Return finite metrics of the present model, or nothing if this step has no turn."""
        every = self._schedule.evaluate_every
        is_due = every > 0 and (self.step % every == 0 or self.step == self._schedule.num_rounds)
        if not is_due:
            return {}
        if self._schedule.evaluate is None:
            return federated_evaluation(self.branch, self._collector, self._mailbox, tally)
        metrics = self._schedule.evaluate(self.step, self.branch.packed)
        return {key: float(value) for key, value in metrics.items() if np.isfinite(value)}

    def _apply_overrides(self) -> None:
        for override in self._schedule.overrides:
            if override.step == self.step:
                self._reflector.override(
                    self.branch, override.knob, override.value, override.reason
                )

    def _rescale(self) -> None:
        """Tell the optimiser when steps begin to combine a smaller or larger share of updates."""
        share = Pacing.of(self._reflector.plan).share
        if share != self._share:
            self.branch.optimizer.scale(share / self._share)
            self._share = share

    def _check_alive(self, record: StepRecord) -> None:
        replies = record.num_updates + sum(record.rejected.values())
        self._silent_steps = 0 if replies else self._silent_steps + 1
        if self._silent_steps >= SILENT_STEPS:
            reasons = ", ".join(f"{k}: {n}" for k, n in record.failures.items()) or "nobody to ask"
            raise FederationError(
                f"no node has answered for {SILENT_STEPS} steps (in step {self.step} {reasons}); "
                f"{len(self._roster)} nodes are known"
            )


def check_overrides(overrides: Sequence[Override], knobs: Sequence[str]) -> None:
    """Refuse overrides of knobs that do not exist.

    Raises
    ------
    ConfigError
        Naming the knob and those there are.
    """
    for override in overrides:
        if override.knob not in knobs:
            raise ConfigError(
                f"override of {override.knob!r} before step {override.step}: there is no such "
                f"knob; choose among {', '.join(sorted(knobs))}"
            )
