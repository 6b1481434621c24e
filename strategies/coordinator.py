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
from dataclasses import replace
from typing import Final, Literal, NoReturn

import numpy as np

from daafl.errors import DaaflError, FederationError
from daafl.learning.layout import Layout
from daafl.learning.update import Update
from daafl.observability.events import Observer, StepRecord
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.asking import federated_evaluation, probe
from daafl.strategies.branch import Branch
from daafl.strategies.collecting import NONFINITE_MODEL, Collector, Tally
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.monitor import StepFacts, cosine, norm, reported_losses
from daafl.strategies.pacing import Pacing
from daafl.strategies.probing import PROBE_RATES
from daafl.strategies.reflecting import Reflector
from daafl.strategies.roster import Roster
from daafl.strategies.schedule import Schedule

SILENT_STEPS: Final = 3  # steps in a row without any reply after which a run has failed,
MANY_FAILURES: Final = 20  # if so many messages failed in them, or as many as there are nodes
IDLE_STEPS: Final = 10  # steps in a row without a new model after which a run has failed

Kind = Literal["probe", "train"]


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
        self._silent_steps = self._failures = self._idle_steps = 0
        self._was_restored = False
        self._first_loss: float | None = None
        self._has_learned = False
        self._last: StepRecord | None = None
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
            If too few nodes are left, or nothing of use has come from them for several steps.
        """
        self.step += 1
        self._apply_overrides()
        self._roster.refresh()
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
            lr=branch.plan.number("lr"),
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
        if reflection.restored is not None:
            self._collector.abandon(branch)
        # The loops are to hear of a restore together with the training that followed it.
        was_restored = self._was_restored and kind == "probe"
        self._was_restored = was_restored or reflection.restored is not None
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

    @property
    def _pacing(self) -> Pacing:
        return Pacing.of(self._reflector.plan)

    def _probe(self, tally: Tally) -> StepFacts:
        losses = probe(
            self.branch,
            self._collector,
            self._mailbox,
            tally,
            reply_timeout_s=self._pacing.reply_timeout_s,
        )
        rates = PROBE_RATES if losses is not None else None
        return StepFacts(probe_rates=rates, probe_log_losses=losses)

    def _train(self, tally: Tally) -> StepFacts:
        branch = self.branch
        pacing = self._pacing
        updates = self._collector.collect(branch, pacing)
        report = reported_losses(updates)
        if self._first_loss is None:
            self._first_loss = report.loss
        facts = StepFacts(
            loss=report.loss,
            first_loss=self._first_loss,
            trimmed_loss=report.trimmed,
            loss_mad=report.mad,
            loss_version=report.version,
            pace=min(len(updates) / pacing.out(len(branch.members)), 1.0),
        )
        if not updates:
            return facts
        mean, total = weighted_mean(updates)
        direction = self._layout.trained(mean)
        facts = replace(
            facts,
            num_updates=len(updates),
            num_examples=total,
            staleness=branch.version - min(update.version for update in updates),
            cosine=cosine(branch.direction, direction),
            update_norm=norm(direction),
            mean_client_norm=float(
                np.mean([norm(self._layout.trained(u.delta)) or 0.0 for u in updates])
            ),
        )
        if self._combine(updates):
            branch.direction = direction
            self._collector.abandon_stale(branch)
        else:
            tally.rejected[NONFINITE_MODEL] += 1
        return facts

    def _combine(self, updates: Sequence[Update]) -> bool:
        """Adopt the combined model, or keep the present one if it is not finite.

        Returns
        -------
        bool
            Whether there is a new model.

        Raises
        ------
        FederationError
            If the server optimiser itself fails.
        """
        branch = self.branch
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # looked at below
                packed = branch.optimizer.combine(branch.packed, updates)
        except DaaflError:
            raise
        except Exception as error:  # a user's strategy may raise anything; say which one did
            raise FederationError(
                f"the server optimiser could not combine {len(updates)} updates in step "
                f"{self.step}: {type(error).__name__}: {error}"
            ) from error
        if not np.isfinite(self._layout.vector(packed)).all():
            branch.optimizer.load(branch.points[branch.version].optimizer)
            return False
        branch.adopt(packed)
        return True

    def _evaluated(self, tally: Tally) -> Mapping[str, float]:
        """Return finite metrics of the present model, or nothing if this step has no turn."""
        every = self._schedule.evaluate_every
        is_due = every > 0 and (self.step % every == 0 or self.step == self._schedule.num_rounds)
        if not is_due:
            return {}
        if self._schedule.evaluate is None:
            return federated_evaluation(
                self.branch,
                self._collector,
                self._mailbox,
                tally,
                reply_timeout_s=self._pacing.reply_timeout_s,
            )
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
        share = self._pacing.share(len(self.branch.members))
        if share != self._share:
            self.branch.optimizer.scale(share / self._share)
            self._share = share

    def check_learned(self) -> None:
        """Refuse to call a run complete in which not one update could be used.

        Raises
        ------
        FederationError
            With the reasons of the last step.
        """
        if self._last is not None and not self._has_learned:
            self._fail(f"no update could be used in any of {self.step} steps", self._last)

    def _check_alive(self, record: StepRecord) -> None:
        has_model = record.num_updates > 0 and NONFINITE_MODEL not in record.rejected
        has_replies = record.num_updates > 0 or bool(record.rejected)
        self._has_learned |= has_model
        self._last = record
        self._idle_steps = 0 if has_model else self._idle_steps + 1
        self._silent_steps = 0 if has_replies else self._silent_steps + 1
        self._failures = 0 if has_replies else self._failures + sum(record.failures.values())
        # Three small cohorts in a row may well be of the few nodes that fail.
        has_tried = self._failures >= min(len(self._roster), MANY_FAILURES)
        if self._silent_steps >= SILENT_STEPS and has_tried:
            what = f"no node has sent an update for {self._silent_steps} steps"
        elif self._idle_steps >= IDLE_STEPS:
            what = f"no update could be used for {IDLE_STEPS} steps"
        else:
            return
        self._fail(what, record)

    def _fail(self, what: str, record: StepRecord) -> NoReturn:
        reasons = [f"{k}: {n}" for k, n in (*record.failures.items(), *record.rejected.items())]
        failure = self._mailbox.last_failure
        said = f"; the last failure was {failure}" if failure else ""
        raise FederationError(
            f"{what} (in step {self.step}: {', '.join(reasons) or 'nothing came in'}); "
            f"{len(self._roster)} nodes are known{said}"
        )
