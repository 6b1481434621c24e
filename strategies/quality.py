"""Quality control of a step: which updates are combined, and whether a committee adopts the model.

Both are on exactly when the branch's plan holds the knobs of the quality loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from daafl.learning.layout import Vector
from daafl.learning.update import Update
from daafl.loops.group_quality import BOUND
from daafl.messages import COHORT_NODE, WITHIN_CLIP
from daafl.observability.events import Flag, Vote
from daafl.strategies.branch import Branch, Buffered
from daafl.strategies.collecting import Tally
from daafl.strategies.consensus import Committee
from daafl.strategies.group_screening import (
    GroupSum,
    GroupVerdict,
    member_norm,
    screened_groups,
    within_clip,
)
from daafl.strategies.monitor import StepFacts
from daafl.strategies.screening import Evidence, Examiner, Verdict, screened

SCREENED_OUT: Final = "screened_out"  # how a step's counts call the updates left out


@dataclass(frozen=True)
class Kept:
    """What screening leaves of a step's updates.

    Parameters
    ----------
    updates
        Those to combine, in the order given, with their damping and capped weight.
    norms
        Length of each, before damping.
    flags
        Those left out.
    facts
        What the loops are told, as fields of `StepFacts`.
    """

    updates: Sequence[Update]
    norms: Sequence[float]
    flags: tuple[Flag, ...]
    facts: StepFacts


class QualityControl:
    """Screens updates and asks committees.

    Parameters
    ----------
    examiner
        Takes down the evidence of updates.
    committee
        Votes on models; ``None`` where nobody may be asked.
    """

    def __init__(self, examiner: Examiner, committee: Committee | None) -> None:
        self.examiner = examiner
        self._committee = committee

    def open(self, branch: Branch) -> None:
        """Take the first model as accepted, if committees are to vote on later ones."""
        votes = self._committee is not None and "validation_every" in branch.plan
        branch.accepted = branch.version if votes else None

    def screen(self, branch: Branch, collected: Sequence[Buffered], facts: StepFacts) -> Kept:
        """Return the updates to combine; the branch's records of its members move on."""
        evidence = [self._evidence(item) for item in collected]
        norms = [item.norm for item in evidence]
        updates = [item.update for item in collected]
        if "screen_threshold" not in branch.plan or not updates:
            return Kept(updates, norms, (), facts)
        if BOUND in branch.plan:
            return _of_groups(branch, updates, evidence, facts)
        screening = screened(
            branch.standing,
            [
                (update.senders[0], update.num_examples, found)
                for update, found in zip(updates, evidence, strict=True)
            ],
            threshold=branch.plan.number("screen_threshold"),
            clip_factor=branch.plan.number("clip_factor"),
            reference=branch.direction,
        )
        branch.standing = screening.standing
        verdicts = screening.verdicts
        chosen = [index for index, verdict in enumerate(verdicts) if verdict.is_kept]
        flags = tuple(_flag(verdict) for verdict in verdicts if not verdict.is_kept)
        return Kept(
            updates=[_treated(updates[index], verdicts[index]) for index in chosen],
            norms=[norms[index] for index in chosen],
            flags=flags,
            facts=replace(
                facts,
                num_screened=len(verdicts),
                num_flagged=len(flags),
                flagged_nodes=tuple(flag.node for flag in flags),
                suspects=screening.standing.suspects,
                num_known=screening.standing.num_known,
                trusted_scores=screening.trusted_scores,
                num_trusted_flagged=screening.num_trusted_flagged,
            ),
        )

    def direction(self, mean: Vector) -> Vector | None:
        """Return the unit sketch of a mean update, in half precision; ``None`` if it has no length.

        It is all that is kept of a step's direction: half a model at most, and for large models a
        few thousand numbers.
        """
        found = self.examiner.evidence(mean)
        if not 0 < found.norm < np.inf:
            return None
        return (found.sketch / np.float32(found.norm)).astype(np.float16)

    def vote(
        self,
        branch: Branch,
        step: int,
        contributors: frozenset[int],
        *,
        tally: Tally,
        timeout_s: float,
    ) -> Vote | None:
        """Ask a committee about the branch's model if this step has its turn.

        An adopted model becomes the one to return to, and so does one that nobody could be asked
        about: then screening is all there is, and an ever older model would be no better choice.
        """
        accepted = branch.accepted
        if self._committee is None or accepted is None or accepted == branch.version:
            return None
        if step % int(branch.plan.number("validation_every")):
            return None
        vote = self._committee.vote(
            branch,
            branch.packed,
            branch.points[accepted].packed,
            accepted_version=accepted,
            excluded=contributors.union(branch.standing.suspects),
            threshold=branch.plan.number("consensus_threshold"),
            tally=tally,
            reply_timeout_s=timeout_s,
        )
        if vote is None or vote.outcome == "adopted":
            branch.accepted = branch.version
        return vote

    def _evidence(self, item: Buffered) -> Evidence:
        return item.evidence or self.examiner.evidence(item.update.delta)


def _of_groups(
    branch: Branch, updates: Sequence[Update], evidence: Sequence[Evidence], facts: StepFacts
) -> Kept:
    """Return what screening leaves of sums of groups; no node's record moves."""
    groups = [
        GroupSum(update.senders, update.num_examples, found, update.metrics.get(WITHIN_CLIP))
        for update, found in zip(updates, evidence, strict=True)
    ]
    verdicts = screened_groups(
        groups,
        threshold=branch.plan.number("screen_threshold"),
        clip_factor=branch.plan.number("clip_factor"),
    )
    flags = tuple(
        Flag(COHORT_NODE, verdict.score, "distance", False, verdict.sentence, verdict.nodes)
        for verdict in verdicts
        if not verdict.is_kept
    )
    chosen = [index for index, verdict in enumerate(verdicts) if verdict.is_kept]
    return Kept(
        updates=[_treated(updates[index], verdicts[index]) for index in chosen],
        norms=[evidence[index].norm for index in chosen],
        flags=flags,
        facts=replace(
            facts,
            num_screened=len(verdicts),
            num_flagged=len(flags),
            num_groups=len(verdicts),
            trusted_scores=tuple(sorted(verdict.score for verdict in verdicts)),
            num_trusted_flagged=len(flags),
            clip_bound=branch.plan.number(BOUND),
            within_clip=within_clip(groups),
            member_norm=member_norm(groups),
        ),
    )


def _treated(update: Update, verdict: Verdict | GroupVerdict) -> Update:
    """Return the update with its clip and its capped weight; untouched if neither applies."""
    if verdict.damping == 1.0 and verdict.num_examples == update.num_examples:
        return update
    received = update.received if verdict.damping == 1.0 else None
    return replace(
        update,
        damping=update.damping * verdict.damping,
        num_examples=verdict.num_examples,
        received=received,
    )


def _flag(verdict: Verdict) -> Flag:
    return Flag(
        node=verdict.node,
        score=verdict.score,
        signal=verdict.signal,
        is_suspect=verdict.is_suspect,
        sentence=verdict.sentence,
    )
