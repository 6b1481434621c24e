"""The quality loop: how strict screening is, and how often and how clearly committees must agree.

Observes the scores that screening gave to updates, the nodes under suspicion, and the committees'
verdicts. Owns the threshold of screening, the clip of norms, the steps between votes, and the
share in favour that adopts a model. Screening and voting are on exactly when these knobs are
there.

Threshold
    Adaptive conformal inference (Gibbs and Candes 2021, equation 2): the threshold is the
    ``1 - alpha`` quantile of the scores of nodes in good standing over the last 20 steps, and
    ``alpha`` moves up by 2 % of how far their share of flagged updates is below the aim of 3 %.
Attackers
    Their share is estimated as suspects over known nodes, with the 90 % upper bound of its Beta
    posterior under a uniform prior.
Votes
    The steps between them double after five adopted models in a row. A rejection, a return to an
    older model or a new suspect sets them to one. The share in favour that adopts a model is
    ``(1 + share) / 2``, between one half and two thirds.
States
    ``healthy`` without suspects; ``suspicious`` with some; ``overrun`` when the bound on their
    share is above 0.4, beyond which statistics of the majority prove nothing.
Judgement
    An alert expects the suspects to stay suspects: an honest node clears itself on parole. After an
    alert that did not hold, a node must stay under suspicion for longer before it is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args

from daafl.autonomy.guards import bounds
from daafl.autonomy.plan import Change, Knob, Plan
from daafl.autonomy.policy import Loop
from daafl.autonomy.records import ALERT, Decision, Effect, Insight, Request, judged, unchanged
from daafl.errors import ConfigError

NAME: Final = "quality"
THRESHOLD: Final = "screen_threshold"
CLIP: Final = "clip_factor"
EVERY: Final = "validation_every"
CONSENSUS: Final = "consensus_threshold"

KNOBS: Final = (
    Knob(
        THRESHOLD,
        "robust sd",
        3.5,
        NAME,
        "branch",
        2.5,
        8.0,
        description="score above which an update is left out",
    ),
    Knob(
        CLIP,
        "medians",
        1.5,
        NAME,
        "branch",
        1.0,
        10.0,
        description="longest update, in medians of the step's",
    ),
    Knob(EVERY, "steps", 1, NAME, "branch", 1, 8, description="steps from one vote to the next"),
    Knob(
        CONSENSUS,
        "share",
        0.5,
        NAME,
        "branch",
        0.5,
        2 / 3,
        description="share in favour that adopts a model",
    ),
)

WINDOW: Final = 20  # steps whose scores say what is usual
MIN_SCORES: Final = 30  # below so many the threshold stays
RATE: Final = 0.02
ALPHAS: Final = (0.002, 0.2)
DEADBAND: Final = 0.25  # moves of the threshold that are not worth a decision
OVERRUN: Final = 0.4  # bound on the share of suspects from which they are too many,
OVERRUN_ENDS: Final = 0.35  # and below which they no longer are
REQUEST_TICKS: Final = 10
ENHANCE: Final = "enhance_quality_control"
RELAX: Final = "relax_quality_control"
MAX_CAUTION: Final = 5
CLEARED: Final = "cleared_fraction"
CONSENSUS_STEP: Final = 0.01

Label = Literal["healthy", "suspicious", "overrun"]
ScreeningForm = Literal["auto", "individual"]
Move: TypeAlias = tuple[Change, str]
"""A knob's move and why."""


@dataclass(frozen=True)
class QualityObservation:
    """What the loop reads.

    Parameters
    ----------
    num_screened, num_flagged
        Updates that screening looked at in the step, and those it left out.
    suspects, num_known
        Nodes under suspicion, and the number of nodes with a record.
    trusted_scores, num_trusted_flagged
        Scores of the updates of nodes in good standing, and how many of them were left out.
    vote_outcome, vote_share
        What a committee decided, and the share in favour; empty and ``None`` without a vote.
    restored
        Whether the branch returned to an older model before the step.
    pace
        Updates combined over assignments out; below 1 in buffered federations.
    """

    num_screened: int = 0
    num_flagged: int = 0
    suspects: tuple[int, ...] = ()
    num_known: int = 0
    trusted_scores: tuple[float, ...] = ()
    num_trusted_flagged: int = 0
    vote_outcome: str = ""
    vote_share: float | None = None
    restored: bool = False
    pace: float = 1.0

    @property
    def num_trusted(self) -> int:
        """Updates of nodes in good standing; of many updates not all scores are told."""
        num_others = self.num_flagged - self.num_trusted_flagged
        return max(len(self.trusted_scores), self.num_screened - max(num_others, 0))

    @property
    def share(self) -> float:
        """Estimated share of attackers: suspects over known nodes."""
        return len(self.suspects) / max(self.num_known, len(self.suspects), 1)

    @property
    def share_bound(self) -> float:
        """90 % upper bound of the share."""
        num_suspects = len(self.suspects)
        return upper_bound(num_suspects, max(self.num_known - num_suspects, 0))

    @property
    def estimate(self) -> str:
        """The share in words."""
        return (
            f"{len(self.suspects)} of {max(self.num_known, len(self.suspects))} nodes are suspects "
            f"(share {self.share:.2f}, at most {self.share_bound:.2f})"
        )


@dataclass(frozen=True)
class QualityState:
    """What the loop remembers.

    Parameters
    ----------
    alpha
        Share of trusted scores that the threshold leaves above it.
    scores
        Trusted scores of the last steps, oldest first.
    under
        Steps for which each suspect has been one.
    fresh, named
        Suspects to name now, and all that an alert has named.
    caution
        Steps for which a node must have been a suspect before it is named, less one.
    quiet
        Adopted models in a row.
    alarm
        Why the last step calls for votes at once; empty if it does not.
    is_overrun, has_crossed
        Whether the bound on the share of suspects is too high, and whether it just became so.
    is_asking, asking_left
        Whether to ask for a larger quorum now, and the steps for which the last request holds.
    """

    alpha: float
    scores: tuple[tuple[float, ...], ...] = ()
    under: Mapping[str, int] = field(default_factory=dict)
    fresh: tuple[int, ...] = ()
    named: tuple[int, ...] = ()
    caution: int = 0
    quiet: int = 0
    alarm: str = ""
    is_overrun: bool = False
    has_crossed: bool = False
    is_asking: bool = False
    asking_left: int = 0


@dataclass(frozen=True)
class Vigilance:
    """The policy.

    Parameters
    ----------
    false_positives
        Share of honest updates that screening may leave out.
    quiet_votes
        Adopted models in a row after which votes become half as frequent.
    patience
        Steps after which an alert is judged, and for which an overrun holds the learning rate.
    screening
        ``individual`` for each node's own update or nothing; ``auto`` takes sums of groups where
        only those are seen.
    """

    false_positives: float = 0.03
    quiet_votes: int = 5
    patience: int = 5
    screening: ScreeningForm = "auto"

    name = NAME
    observation = QualityObservation
    state = QualityState
    knobs: tuple[Knob, ...] = field(default=KNOBS, init=False)

    def init(self) -> QualityState:
        """Return the state before the first observation."""
        return QualityState(alpha=self.false_positives)

    def observe(self, state: QualityState, observation: QualityObservation) -> QualityState:
        """Return the state with the step's scores, suspects and vote taken in."""
        under = {str(node): state.under.get(str(node), 0) + 1 for node in observation.suspects}
        named = tuple(node for node in state.named if str(node) in under)
        fresh = tuple(
            node
            for node in observation.suspects
            if node not in named and under[str(node)] > state.caution
        )
        alarm = _alarm(observation, num_new=len(under.keys() - state.under.keys()))
        limit = OVERRUN_ENDS if state.is_overrun else OVERRUN
        is_overrun = bool(under) and observation.share_bound > limit
        asking_left = max(state.asking_left - 1, 0)
        is_asking = observation.pace < 1 and bool(under) and (asking_left == 0 or len(fresh) > 0)
        return replace(
            state,
            alpha=self._alpha(state, observation),
            scores=(*state.scores, observation.trusted_scores)[-WINDOW:],
            under=under,
            fresh=fresh,
            named=(*named, *fresh),
            quiet=0 if alarm else state.quiet + (observation.vote_outcome == "adopted"),
            alarm=alarm,
            is_overrun=is_overrun,
            has_crossed=is_overrun and not state.is_overrun,
            is_asking=is_asking,
            asking_left=REQUEST_TICKS if is_asking else asking_left,
        )

    def reason(self, state: QualityState, observation: QualityObservation, plan: Plan) -> Decision:
        """Return the moves of its knobs, with an alert if suspects are to be named."""
        label = self.label(state)
        moves = self.moves(state, observation, plan)
        changes = tuple(change for change, _ in filter(None, moves))
        sentences = [why for _, why in filter(None, moves)]
        requests = self._requests(state, observation)
        sentences += [f"{request.knob} {request.reason}" for request in requests]
        estimate = observation.estimate
        if state.fresh or state.has_crossed:
            named = f"new suspects {_listed(state.fresh)}" if state.fresh else "too many suspects"
            return Decision(
                NAME,
                ALERT,
                label,
                "; ".join([f"{named}: {estimate}", *sentences]),
                changes=changes,
                requests=requests,
                # Of honest nodes all would be cleared on parole; of these at most two in five.
                expect=Effect(CLEARED, 1.0, 0.8, 0.2 * math.sqrt(self.patience), self.patience),
            )
        if not changes and not requests:
            return unchanged(NAME, label, f"screening stays as it is: {estimate}")
        is_stricter = bool(requests) or any(map(_is_stricter, changes))
        action = ENHANCE if is_stricter else RELAX
        return Decision(NAME, action, label, "; ".join(sentences), changes, requests)

    def moves(
        self, state: QualityState, observation: QualityObservation, plan: Plan
    ) -> tuple[Move | None, ...]:
        """Return the moves of its knobs, each with why; ``None`` where one stays."""
        return (
            self._threshold(state, plan),
            self._every(state, observation, plan),
            _consensus(observation, plan),
        )

    def reflect(
        self, decision: Decision, before: QualityObservation, after: QualityObservation
    ) -> Insight | None:
        """Return how many of the suspects of the time have cleared themselves."""
        if decision.expect is None or not before.suspects:
            return None
        num_cleared = len(set(before.suspects) - set(after.suspects))
        insight = judged(decision, num_cleared / len(before.suspects))
        sentence = f"{num_cleared} of {len(before.suspects)} suspects have cleared themselves"
        return replace(insight, sentence=f"{sentence}: {insight.verdict}")

    def adapt(self, state: QualityState, insight: Insight) -> QualityState:
        """Return the state, slower to name suspects after naming some that cleared themselves."""
        step = 1 if insight.verdict == "worse" else -1
        return replace(state, caution=min(max(state.caution + step, 0), MAX_CAUTION))

    def label(self, state: QualityState) -> Label:
        """Return the situation in a word."""
        if state.is_overrun:
            return "overrun"
        return "suspicious" if state.under else "healthy"

    def _alpha(self, state: QualityState, observation: QualityObservation) -> float:
        if not observation.trusted_scores:
            return state.alpha
        share = min(observation.num_trusted_flagged / observation.num_trusted, 1.0)
        return min(max(state.alpha + RATE * (self.false_positives - share), ALPHAS[0]), ALPHAS[1])

    def _threshold(self, state: QualityState, plan: Plan) -> Move | None:
        """Return the move to the quantile of trusted scores, if it is worth a decision."""
        known = sorted(score for scores in state.scores for score in scores)
        if len(known) < MIN_SCORES:
            return None
        place = math.ceil((1 - state.alpha) * (len(known) + 1)) - 1
        low, high = _bounds(THRESHOLD, self.knobs)
        old = plan.number(THRESHOLD)
        new = round(min(max(known[min(place, len(known) - 1)], low), high), 2)
        if abs(new - old) <= DEADBAND:
            return None
        why = (
            f"{THRESHOLD} {old:.2f} -> {new:.2f}: beyond it are {state.alpha:.1%} of the "
            f"{len(known)} latest scores of nodes in good standing"
        )
        return Change(THRESHOLD, plan[THRESHOLD], new), why

    def _every(
        self, state: QualityState, observation: QualityObservation, plan: Plan
    ) -> Move | None:
        """Return the move to votes at once on an alarm, or to half as many after quiet ones."""
        old = int(plan.number(EVERY))
        was_adopted = observation.vote_outcome == "adopted"
        if state.alarm:
            new, why = 1, state.alarm
        elif was_adopted and state.quiet > 0 and state.quiet % self.quiet_votes == 0:
            new, why = min(2 * old, int(_bounds(EVERY)[1])), f"{state.quiet} models in a row passed"
        else:
            return None
        return (
            (Change(EVERY, plan[EVERY], new), f"{EVERY} {old} -> {new}: {why}")
            if new != old
            else None
        )

    def _requests(
        self, state: QualityState, observation: QualityObservation
    ) -> tuple[Request, ...]:
        requests = []
        if state.is_asking:
            share = min(observation.share_bound, OVERRUN)
            # 2f + 3 updates of which a share f / K is hostile: K = 2 share K + 3.
            low = math.ceil(3 / (1 - 2 * share))
            why = f"of at least {low}: with a share of {share:.2f} hostile, most are then honest"
            requests.append(Request("quorum", "integrity", NAME, why, low=low, ticks=REQUEST_TICKS))
        if state.has_crossed:
            why = f"is held for {self.patience} steps: the bound is above {OVERRUN}"
            requests.append(Request("lr", "integrity", NAME, why, ticks=self.patience))
        return tuple(requests)


def quality(
    *,
    false_positives: float = 0.03,
    quiet_votes: int = 5,
    patience: int = 5,
    screening: ScreeningForm = "auto",
) -> Loop:
    """Return the quality loop; parameters as in `Vigilance`.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """
    limits = {
        "false_positives": (false_positives, 0.001, 0.2),
        "quiet_votes": (quiet_votes, 1, math.inf),
        "patience": (patience, 1, math.inf),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ConfigError(f"quality.{name} is {value}, but must be within [{low}, {high}]")
    if screening not in get_args(ScreeningForm):
        raise ConfigError(f"quality.screening is {screening!r}, but must be auto or individual")
    return Loop(
        policy=Vigilance(
            false_positives=false_positives,
            quiet_votes=quiet_votes,
            patience=patience,
            screening=screening,
        ),
        level="integrity",
        component="quality",
        scope="branch",
        influences=("robustness", "accuracy", "quorum", "lr"),
        guards=(bounds(),),
        laws=(ENHANCE, RELAX),
    )


def upper_bound(num_suspects: int, num_others: int) -> float:
    """Return the 90 % quantile of Beta(1 + suspects, 1 + others).

    It is the share ``p`` at which, of all nodes and one more, a binomial number is at most
    ``suspects`` with probability 0.1.

    Examples
    --------
    Without a suspect among nine nodes it is ``1 - 0.1 ** (1 / 10)``.

    >>> round(upper_bound(0, 9), 4), round(upper_bound(6, 24), 3)
    (0.2057, 0.315)
    """
    size = num_suspects + num_others + 1
    log_counts = [
        math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1)
        for k in range(num_suspects + 1)
    ]
    low, high = 0.0, 1.0
    for _ in range(24):
        p = (low + high) / 2
        log_odds, log_none = math.log(p / (1 - p)), size * math.log1p(-p)
        below = sum(math.exp(c + k * log_odds + log_none) for k, c in enumerate(log_counts))
        low, high = (p, high) if below > 0.1 else (low, p)
    return (low + high) / 2


def _alarm(observation: QualityObservation, *, num_new: int) -> str:
    reasons = {
        "a committee rejected the model": observation.vote_outcome == "rejected",
        "the branch returned to an older model": observation.restored,
        f"{num_new} more suspects": num_new > 0,
    }
    return " and ".join(reason for reason, holds in reasons.items() if holds)


def _consensus(observation: QualityObservation, plan: Plan) -> Move | None:
    low, high = _bounds(CONSENSUS)
    old = plan.number(CONSENSUS)
    new = min(max((1 + observation.share) / 2, low), high)
    if abs(new - old) < CONSENSUS_STEP:
        return None
    why = f"{CONSENSUS} {old:.2f} -> {new:.2f}: (1 + {observation.share:.2f}) / 2"
    return Change(CONSENSUS, plan[CONSENSUS], new), why


def _is_stricter(change: Change) -> bool:
    """Return whether a move leaves out more, or asks more often or for more votes.

    A bound on lengths is 0 where there is none.
    """
    grows = float(change.new) > float(change.old) > 0
    return grows if change.knob == CONSENSUS else not grows


def _bounds(name: str, knobs: Sequence[Knob] = KNOBS) -> tuple[float, float]:
    (knob,) = (knob for knob in knobs if knob.name == name)
    return float(knob.low or 0.0), float(knob.high or math.inf)


def _listed(nodes: tuple[int, ...]) -> str:
    return ", ".join(map(str, nodes))
