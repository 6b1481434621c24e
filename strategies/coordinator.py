"""One step after another, each under the plan in force.

::

    plan -> select -> assign -> Exchange.begin -> Mailbox ====> nodes
                                                    <====  updates
    Exchange.receive (validate) -> buffer -> screen -> damping -> ServerOptimizer.combine
      -> vote -> adopt on the branch -> facts -> hubs -> journal -> (restore) -> next plan

The coordinator decides nothing. It measures, lets the loops reason, and acts on what is written in
the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from daafl.errors import DaaflError, FederationError
from daafl.learning.layout import Layout
from daafl.learning.update import Update
from daafl.observability.events import Flag, Observer, StepRecord, Vote
from daafl.store.unbroken import unbroken
from daafl.strategies.aggregation import weighted_mean
from daafl.strategies.asking import federated_evaluation, probe
from daafl.strategies.branch import Branch
from daafl.strategies.collecting import NONFINITE_MODEL, Collector, Tally
from daafl.strategies.liveness import Liveness
from daafl.strategies.mailbox import Mailbox
from daafl.strategies.monitor import StepFacts, cosine, norm, reported_losses
from daafl.strategies.pacing import Pacing
from daafl.strategies.private import PrivateOptimizer
from daafl.strategies.probing import PROBE_RATES
from daafl.strategies.quality import SCREENED_OUT, Kept, QualityControl
from daafl.strategies.reflecting import Reflector
from daafl.strategies.registered import RegisteredRoster
from daafl.strategies.roster import Roster
from daafl.strategies.schedule import Schedule

Kind = Literal["probe", "train"]


@dataclass(frozen=True)
class CoordinatorState:
    """What a coordinator carries from step to step, apart from the branch and the loops.

    Parameters
    ----------
    step
        Steps done.
    liveness
        What the latest steps came to.
    was_restored
        Whether the loops are still to hear of a restore.
    first_loss
        First finite loss of the run.
    share, factor
        Share of the updates out that steps combine, and the product of what the optimiser was
        scaled by.
    """

    step: int
    liveness: Liveness
    was_restored: bool
    first_loss: float | None
    share: float
    factor: float


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
    quality
        Screens updates and asks committees.
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
        roster: Roster | RegisteredRoster,
        collector: Collector,
        reflector: Reflector,
        quality: QualityControl,
        observers: Sequence[Observer],
    ) -> None:
        self._schedule = schedule
        self._layout = layout
        self.branch = branch
        self._mailbox = mailbox
        self._roster = roster
        self._collector = collector
        self._reflector = reflector
        self._quality = quality
        self._observers = observers
        self._liveness = Liveness()
        self._was_restored = False
        self._flags: tuple[Flag, ...] = ()
        self._vote: Vote | None = None
        self._first_loss: float | None = None
        self._share = self._factor = 1.0
        self.step = 0

    def open(self) -> None:
        """Hold the first version and let the loops see the federation before the first step."""
        self.branch.members = self._roster.nodes
        self._rescale()
        self.branch.mark()
        self._quality.open(self.branch)
        self._reflector.reflect(
            self.branch,
            StepFacts(version=self.branch.version, num_nodes=len(self.branch.members)),
        )

    def state(self) -> CoordinatorState:
        """Return what decides later steps, apart from the branch and the loops."""
        return CoordinatorState(
            step=self.step,
            liveness=self._liveness,
            was_restored=self._was_restored,
            first_loss=self._first_loss,
            share=self._share,
            factor=self._factor,
        )

    def load(self, state: CoordinatorState) -> None:
        """Go on from an earlier `state` instead of opening; the branch has been loaded before."""
        self.step, self._liveness = state.step, state.liveness
        self._was_restored, self._first_loss = state.was_restored, state.first_loss
        self._share, self._factor = state.share, state.factor
        if state.factor != 1.0:
            self.branch.optimizer.scale(state.factor)

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
        self._liveness = self._liveness.after(record)
        self._end_for(self._liveness.fault(len(self._roster)))
        return record

    def _observed(self, kind: Kind, act: Callable[[Tally], StepFacts]) -> StepRecord:
        """Act, measure, reflect, and tell the observers."""
        branch, mailbox = self.branch, self._mailbox
        wall_s, start_s = time.perf_counter(), mailbox.clock.now_s()
        up, down = mailbox.bytes_up, mailbox.bytes_down
        knobs = {**self._reflector.plan.values, **branch.plan.values}
        tally = self._collector.tally = Tally()
        self._flags, self._vote = (), None
        facts = act(tally)
        end_s = mailbox.clock.now_s()
        metrics = self._evaluated(tally) if kind == "train" else {}
        troubled = self._collector.troubled(branch)
        quarantined = tuple(sorted(self._collector.quarantined(branch) - troubled.keys()))
        facts = replace(
            facts,
            step=self.step,
            version=branch.version,
            lr=branch.plan.number("lr"),
            evaluation_loss=metrics.get("loss"),
            accuracy=metrics.get("accuracy"),
            round_seconds=end_s - start_s if kind == "train" else None,
            num_rejected=tally.num_refused,
            num_failures=tally.failures.total(),
            nonfinite_fraction=tally.nonfinite_fraction,
            num_nodes=len(branch.members),
            bytes_up=mailbox.bytes_up - up,
            bytes_down=mailbox.bytes_down - down,
            restored=self._was_restored,
            troubled_nodes=tuple(troubled),
            troubles=tuple(troubled.values()),
            num_quarantined=len(quarantined),
        )
        seen = facts if self._private is None else self._private.public(facts)
        reflection = self._reflector.reflect(branch, seen)
        if reflection.restored is not None:
            self._collector.abandon(branch)
        restored = reflection.restored
        if restored is None and self._vote is not None and self._vote.outcome == "rejected":
            restored = self._vote.accepted
        # The loops are to hear of a restore together with the training that followed it.
        was_restored = self._was_restored and kind == "probe"
        self._was_restored = was_restored or restored is not None
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
            restored=restored,
            flags=self._flags,
            vote=self._vote,
            quarantined=quarantined,
        )
        with unbroken():
            for observer in self._observers:
                observer.stepped(record)
        return record

    @property
    def _pacing(self) -> Pacing:
        return Pacing.of(self._reflector.plan)

    @property
    def _private(self) -> PrivateOptimizer | None:
        optimizer = self.branch.optimizer
        return optimizer if isinstance(optimizer, PrivateOptimizer) else None

    def exhausted(self) -> str | None:
        """Return why there can be no further step, as a spent budget; ``None`` if there can."""
        if self._private is not None:
            return self._private.exhausted()
        return self._collector.exhausted(self.branch)

    def _probe(self, tally: Tally) -> StepFacts:
        if self._private is not None:
            return StepFacts()  # nodes would report losses without noise
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
        collected = self._collector.collect(branch, pacing)
        num_senders = sum(len(item.update.senders) for item in collected)
        facts = StepFacts(pace=min(num_senders / pacing.out(len(branch.members)), 1.0))
        kept = self._quality.screen(branch, collected, facts)
        self._flags = kept.flags
        if kept.flags:
            tally.rejected[SCREENED_OUT] += len(kept.flags)
        if self._private is not None:
            # Nobody was drawn, or nobody answered, is not told either: the step is noise then.
            update = self._private.released(
                self._collector.spool.passing(kept.updates),
                step=f"{branch.name}:{self.step}",
                version=branch.version,
            )
            kept = replace(kept, updates=[update], norms=())
        facts = self._with_losses(kept.facts, kept.updates)
        if not kept.updates:
            return facts
        mean, total = weighted_mean(self._collector.spool.passing(kept.updates))
        direction = self._quality.direction(mean)
        facts = replace(
            facts,
            num_updates=sum(len(update.senders) for update in kept.updates),
            num_examples=total,
            staleness=branch.version - min(update.version for update in kept.updates),
            cosine=cosine(branch.direction, direction),
            update_norm=norm(self._layout.trained(mean)),
            mean_client_norm=_mean_norm(kept),
        )
        if self._private is not None:
            facts = replace(facts, num_updates=num_senders, num_examples=0.0)
        if not self._combine(kept.updates):
            tally.rejected[NONFINITE_MODEL] += 1
            if self._private is not None:
                self._collector.abandon(branch)  # late updates are of users drawn for this step
            return facts
        branch.direction = direction
        self._collector.abandon_stale(branch)
        contributors = frozenset(sender for item in collected for sender in item.update.senders)
        return self._voted(facts, contributors, tally)

    def _with_losses(self, facts: StepFacts, updates: Sequence[Update]) -> StepFacts:
        report = reported_losses(updates)
        if self._first_loss is None:
            self._first_loss = report.loss
        return replace(
            facts,
            loss=report.loss,
            first_loss=self._first_loss,
            trimmed_loss=report.trimmed,
            loss_mad=report.mad,
            loss_version=report.version,
        )

    def _voted(self, facts: StepFacts, contributors: frozenset[int], tally: Tally) -> StepFacts:
        """Let a committee vote if it is time; a rejected model is given up."""
        branch = self.branch
        self._vote = vote = self._quality.vote(
            branch,
            self.step,
            contributors,
            tally=tally,
            timeout_s=self._pacing.reply_timeout_s,
        )
        if vote is None:
            return facts
        if vote.outcome == "rejected":
            self._reflector.give_up(branch, vote.accepted)
            self._collector.abandon(branch)
        num_votes = vote.in_favour + vote.against
        return replace(
            facts,
            vote_outcome=vote.outcome,
            vote_share=vote.in_favour / num_votes if num_votes else None,
        )

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
            factor = share / self._share
            self.branch.optimizer.scale(factor)
            self._factor *= factor
            self._share = share

    def check_learned(self) -> None:
        """Refuse to call a run complete in which not one update could be used.

        Raises
        ------
        FederationError
            With the reasons of the last step.
        """
        self._end_for(self._liveness.final_fault(self.step))

    def _end_for(self, fault: str | None) -> None:
        if fault is None:
            return
        reasons = ", ".join(self._liveness.reasons or ()) or "nothing came in"
        failure = self._mailbox.last_failure
        said = f"; the last failure was {failure}" if failure else ""
        raise FederationError(
            f"{fault} (in step {self.step}: {reasons}); {len(self._roster)} nodes are known{said}"
        )


def _mean_norm(kept: Kept) -> float | None:
    """Return the mean length of single updates; ``None`` if there are only sums."""
    is_summed = any(len(update.senders) > 1 for update in kept.updates)
    return None if is_summed or not kept.norms else float(np.mean(kept.norms))
