import math
from dataclasses import replace

import numpy as np
import pytest

from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Plan
from daafl.autonomy.records import Decision
from daafl.loops import Hypergradient, LearningRateObservation, learning_rate
from daafl.loops.learning_rate import LR, NAME, PROBE

RATES = tuple(float(rate) for rate in np.geomspace(1e-3, 3.0, 8))
BEST = 5  # RATES[5] = 0.305


class Federation:
    """The loop in its hub, fed by hand; versions and the plan move as in a real run."""

    def __init__(self, **parameters: float) -> None:
        self.hub = Hub((learning_rate(**parameters),), {LR.name: LR, PROBE.name: PROBE})
        self.state, self.plan = self.hub.init(), Plan.of((LR, PROBE))
        self.step = self.version = 0

    def see(self, **facts: object) -> Decision:
        seen = LearningRateObservation(
            step=self.step, version=self.version, lr=float(self.plan["lr"]), **facts
        )
        cycle = self.hub.cycle(self.state, {NAME: seen}, self.plan)
        self.state, self.plan = cycle.state, cycle.plan
        self.restored = cycle.restore
        return next(d for d in cycle.decisions if d.loop == NAME)

    def train(self, loss: float | None, cosine: float | None = None, **facts: object) -> Decision:
        self.step += 1
        decision = self.see(loss=loss, loss_version=self.version, cosine=cosine, **facts)
        self.version += 2 if self.restored is not None else 1
        return decision

    def probe(self, best: int = BEST) -> Decision:
        self.see()
        losses = tuple(abs(index - best) - 2.0 for index in range(len(RATES)))
        return self.see(probe_rates=RATES, probe_log_losses=losses)

    @property
    def lr(self) -> float:
        return float(self.plan["lr"])


@pytest.fixture
def federation() -> Federation:
    made = Federation()
    made.probe()
    return made


def test_it_asks_for_a_probe_first_and_starts_one_grid_step_below_the_best() -> None:
    federation = Federation()
    assert federation.see().action == "probe"
    assert federation.plan["probe"] == 1
    losses = tuple(abs(index - BEST) - 2.0 for index in range(len(RATES)))
    decision = federation.see(probe_rates=RATES, probe_log_losses=losses)
    assert decision.action == "start_from_probe"
    assert federation.plan["probe"] == 0
    assert federation.lr == pytest.approx(RATES[BEST - 1])


def test_without_answers_it_goes_on_with_the_rate_there_is() -> None:
    federation = Federation()
    for _ in range(3):
        federation.see()
    assert federation.plan["probe"] == 0
    federation.train(1.0)
    federation.train(0.9, cosine=0.35)
    assert federation.lr == pytest.approx(0.1 * math.exp(0.6 * 0.5))


def test_the_law_by_hand_up_down_and_at_its_setpoint(federation: Federation) -> None:
    for cosine, factor in ((0.1, math.exp(0.15)), (-0.15, 1.0), (-0.65, math.exp(-0.3))):
        before = federation.lr
        federation.train(1.0, cosine=cosine)
        assert federation.lr == pytest.approx(before * factor)


def test_pace_slows_the_law_of_buffered_federations(federation: Federation) -> None:
    before = federation.lr
    federation.train(1.0, cosine=0.35, pace=0.3)
    assert federation.lr == pytest.approx(before * math.exp(0.6 * 0.3 * 0.5))


def test_the_cap_holds_and_grows_by_a_twentieth_per_unit_of_agreement(
    federation: Federation,
) -> None:
    federation.train(2.0, cosine=1.0)
    federation.train(1.8, cosine=1.0)
    # Twice 0.6 * 1.15 lifts 0.097 to 0.385, but only the second step starts above half the cap.
    assert federation.lr == pytest.approx(RATES[BEST] * math.exp(0.05))
    for step in range(60):
        federation.train(1.7 * 0.97**step, cosine=1.0)
    assert federation.lr == pytest.approx(3.1 * RATES[BEST])


def test_nothing_improving_far_from_a_good_loss_cuts_the_cap(federation: Federation) -> None:
    actions = [federation.train(2.0, cosine=0.3).action for _ in range(10)]
    assert "cut_cap" in actions
    assert federation.lr < RATES[BEST]


def healthy(federation: Federation, steps: int = 12) -> None:
    for step in range(steps):
        federation.train(2.0 * 0.85**step, cosine=0.0, update_norm=1.0)


def test_an_explosion_returns_to_the_oldest_good_version_at_a_third_of_the_rate(
    federation: Federation,
) -> None:
    healthy(federation)
    before, version = federation.lr, federation.version
    decision = federation.train(50.0, cosine=0.0, update_norm=1.0)
    assert decision.action == "restore"
    assert federation.restored == version - 5  # the oldest of five good versions before this one
    assert federation.lr < 0.3 * before + 1e-9
    assert "return to version" in decision.reason


def test_a_surge_returns_to_the_model_just_trained_from(federation: Federation) -> None:
    healthy(federation)
    version = federation.version
    decision = federation.train(0.25, cosine=0.0, update_norm=30.0)
    assert decision.action == "restore" and "far longer" in decision.reason
    assert federation.restored == version


@pytest.mark.parametrize(
    "facts", [{"loss": None}, {"loss": 0.3, "nonfinite_fraction": 0.9}], ids=["loss", "updates"]
)
def test_infinities_are_an_explosion(federation: Federation, facts: dict[str, float]) -> None:
    healthy(federation)
    assert federation.train(cosine=None, **facts).action == "restore"  # type: ignore[arg-type]


def test_a_ceiling_below_the_failed_rate_holds_and_relaxes(federation: Federation) -> None:
    healthy(federation)
    failed = federation.lr
    federation.train(50.0, cosine=0.0)
    rates = []
    for step in range(40):
        federation.train(0.3 * 0.95**step, cosine=1.0)
        rates.append(federation.lr)
    assert max(rates[:10]) <= 0.5 * failed * 1.01**11
    assert rates[-1] > rates[10]


def test_a_good_model_gone_bad_means_that_the_data_moved(federation: Federation) -> None:
    healthy(federation)
    before = federation.lr
    federation.train(3.0, cosine=0.0)
    assert federation.restored is not None
    decision = federation.train(3.0)  # the restored model is just as bad
    assert decision.action == "shift"
    assert federation.lr == pytest.approx(before)
    assert federation.train(2.8, cosine=0.0).action != "restore"


def test_three_restores_in_fifty_steps_are_enough(federation: Federation) -> None:
    restores = 0
    for episode in range(5):
        healthy(federation, 6)
        restores += federation.train(90.0 + episode, cosine=0.0).action == "restore"
        federation.train(0.5)
    assert restores == 3
    before = federation.lr
    federation.train(0.4, cosine=0.9)
    assert federation.lr == before


def test_reports_of_an_abandoned_model_are_not_used(federation: Federation) -> None:
    healthy(federation)
    federation.train(50.0, cosine=0.0)
    state = federation.state
    federation.step += 1
    federation.see(loss=70.0, loss_version=federation.version - 2, cosine=0.0)
    kept = federation.state.loops[NAME].memory.guard  # type: ignore[attr-defined]
    assert kept == state.loops[NAME].memory.guard  # type: ignore[attr-defined]


def test_a_later_probe_lowers_the_cap_and_never_raises_it(federation: Federation) -> None:
    healthy(federation)
    federation.probe(best=7)
    assert federation.lr == pytest.approx(RATES[BEST - 1])
    federation.probe(best=3)
    assert federation.lr == pytest.approx(RATES[2])


def test_the_host_keeps_every_version_a_restore_may_name(federation: Federation) -> None:
    healthy(federation)
    wanted = federation.hub.wanted_versions(federation.state)
    federation.train(50.0, cosine=0.0)
    assert federation.restored in wanted


def test_labels_come_from_the_same_statistics() -> None:
    policy = Hypergradient()
    state = policy.init()
    falling = replace(state, cosine=0.4, guard=replace(state.guard, slope=-0.1))
    assert policy.label(falling) == "fast_convergence"
    assert policy.label(replace(falling, cosine=-0.1)) == "slow_convergence"
    assert policy.label(replace(state, cosine=-0.3)) == "oscillation"
    assert policy.label(replace(state, flat=8)) == "plateau"
    assert policy.label(state) == "stable"
