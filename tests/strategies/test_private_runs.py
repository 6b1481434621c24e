"""Whole runs with user-level privacy: who is drawn, what is paid, what loops see, how they end."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg, FedAvgM

from daafl.errors import ConfigError, StoreError
from daafl.loops import default_loops
from daafl.observability.events import StepRecord
from daafl.privacy.budget import FEDERATION
from daafl.privacy.ledger import FILE, Ledger
from daafl.privacy.user_level import UserPrivacy
from daafl.secure.settings import MaskedSums
from daafl.store.checkpoint import Checkpoints
from daafl.strategies import Autonomous, FlowerOptimizer, Override, Pacing, Settings
from daafl.strategies.private_run import mechanism_of, private_parts
from daafl.strategies.robust import CoordinateMedian
from daafl.strategies.selection import uniform

Federate = Callable[..., Any]
MakeApp = Callable[..., Any]

NUM_NODES = 12
COHORT = Pacing(concurrency=4, quorum=4)
# Little noise, .005 * 2 / 4 in a step, so that it can be told by hand what was added: each node
# adds 1 to three weights, and one more or less makes .25.
CLEAR = UserPrivacy(
    epsilon=1e12,
    noise_multiplier=0.005,
    bound=2.0,
    clipping="fixed",
    num_users=NUM_NODES,
    rng="seeded",
)


@pytest.fixture
def private(federate: Federate, tmp_path: Path) -> Federate:
    """Return a runner of federations of 12 users, 4 of them in a step on average."""

    def run(privacy: UserPrivacy = CLEAR, **options: Any) -> Any:
        given = {
            "num_nodes": NUM_NODES,
            "pacing": COHORT,
            "ledgers": tmp_path / "privacy",
            **options,
        }
        return federate(FedAvg(), privacy=privacy, **given)

    return run


def paid(tmp_path: Path) -> int:
    """Return the steps in the federation's ledger."""
    ledger = Ledger(tmp_path / "privacy" / FEDERATION, must_exist=True)
    return sum(release.steps for release in ledger.spent(FEDERATION))


def test_all_who_were_drawn_count_and_the_sum_is_divided_by_those_expected(
    private: Federate, tmp_path: Path
) -> None:
    run = private(num_rounds=25)
    sizes = [step.num_updates for step in run.steps]
    # Sizes are binomial with mean 4 and deviation 1.63: some above, some below the quorum of 4.
    assert max(sizes) > 4 > min(sizes)
    assert run.weights == pytest.approx([sum(sizes) / 4.0] * 3, abs=0.12)
    assert paid(tmp_path) == 25
    assert {step.rejected.get("surplus", 0) for step in run.steps} == {0}


def test_a_step_in_which_nobody_was_drawn_is_a_step_of_noise(private: Federate) -> None:
    # A coin of 1/12 for each of 12: nobody comes in .35 of the steps, never in 40 with 3e-8.
    pacing = Pacing(concurrency=1, quorum=1)
    run = private(replace(CLEAR, noise_multiplier=0.05), num_rounds=40, pacing=pacing)
    empty = [step for step in run.steps if step.num_updates == 0]
    assert empty
    assert [step.version for step in run.steps] == list(range(1, 41))


def test_nobody_takes_the_place_of_a_node_that_fails(
    private: Federate, make_app: MakeApp, tmp_path: Path
) -> None:
    faults = {0: "raise", 1: "nan"}
    run = private(num_rounds=12, app=make_app(faults), loops=default_loops())
    whole = private(num_rounds=12, ledgers=tmp_path / "whole")
    for step, same in zip(run.steps, whole.steps, strict=True):
        lost = sum(step.failures.values()) + sum(step.rejected.values())
        assert step.num_updates + lost == same.num_updates
    assert sum(step.num_updates for step in run.steps) < sum(s.num_updates for s in whole.steps)


def test_a_deadline_closes_a_step_with_whoever_has_answered(
    private: Federate, make_app: MakeApp
) -> None:
    pacing = Pacing(concurrency=4, quorum=4, deadline_s=2.0)
    run = private(num_rounds=10, pacing=pacing, app=make_app({0: "slow", 1: "slow"}))
    assert all(step.seconds <= 2.0 for step in run.steps)
    assert run.weights == pytest.approx([sum(s.num_updates for s in run.steps) / 4] * 3, abs=0.12)


def test_the_run_ends_when_the_budget_is_spent_and_says_so(
    private: Federate, tmp_path: Path
) -> None:
    # At z = 1 without credit: epsilon 4.38 for one step, 6.7 for two, 8.6 for three.
    privacy = replace(CLEAR, epsilon=7.0, noise_multiplier=1.0, rng="secret")
    run = private(privacy, num_rounds=9, pacing=Pacing(concurrency=12, quorum=12))
    assert run.summary.status == "completed"
    assert run.summary.reason == (
        "the privacy budget (epsilon=7, delta=1e-05) is spent after 2 steps"
    )
    assert run.summary.rounds == 2 == paid(tmp_path)
    assert 4.4 < run.summary.epsilon <= 7.0
    assert run.summary.delta == 1e-5


def test_noise_fitted_to_the_rounds_lasts_for_all_of_them(
    private: Federate, tmp_path: Path
) -> None:
    run = private(replace(CLEAR, epsilon=3.0, noise_multiplier=None, rng="secret"), num_rounds=6)
    assert run.summary.reason == "all 6 rounds done"
    assert paid(tmp_path) == 6
    assert 2.97 < run.summary.epsilon <= 3.0


def test_seeded_runs_repeat_and_claim_nothing(private: Federate, tmp_path: Path) -> None:
    privacy = replace(CLEAR, noise_multiplier=0.5)
    runs = [
        private(privacy, ledgers=tmp_path / name, workers=n) for name, n in (("a", 0), ("b", 2))
    ]
    assert runs[0].weights == runs[1].weights
    assert runs[0].summary.epsilon is None


def test_secret_runs_do_not_repeat(private: Federate, tmp_path: Path) -> None:
    privacy = replace(CLEAR, noise_multiplier=0.5, rng="secret")
    runs = [private(privacy, ledgers=tmp_path / name) for name in ("a", "b")]
    assert runs[0].weights != runs[1].weights


def test_loops_without_losses_stand_down_and_say_why(private: Federate) -> None:
    run = private(loops=default_loops())
    assert set(run.watcher.info.absent) == {"health", "learning_rate", "quality"}
    assert "user-level privacy shows only their noised mean" in run.watcher.info.absent["quality"]
    assert all(step.train_loss is None for step in run.steps)


def test_loops_run_on_noised_losses_and_nodes_are_never_probed(private: Federate) -> None:
    run = private(replace(CLEAR, loss_bound=60.0), loops=default_loops(), num_rounds=5)
    assert set(run.watcher.info.absent) == {"quality"}
    losses = [step.train_loss for step in run.steps]
    assert all(0.0 <= loss <= 60.0 for loss in losses)
    assert all(probe.bytes_up == 0 for probe in run.watcher.probes)


class _EndedError(BaseException):
    """The process has ended."""


class _EndAfter:
    """Ends the process when a step has been done, before its checkpoint is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, info: object) -> None: ...

    def stepped(self, record: StepRecord) -> None:
        if record.step == self.step:
            raise _EndedError

    def finished(self, summary: object) -> None: ...


def _again(private: Federate, privacy: UserPrivacy, tmp_path: Path, **options: Any) -> Any:
    folder = tmp_path / "checkpoints"
    with pytest.raises(_EndedError):
        private(privacy, num_rounds=6, checkpoints=folder, observers=[_EndAfter(4)], **options)
    checkpoint = Checkpoints(folder).latest()
    assert checkpoint is not None and checkpoint.step == 3
    start = {"resume_from": checkpoint}
    return private(privacy, num_rounds=6, checkpoints=folder, start=start, **options)


def test_a_seeded_run_that_goes_on_ends_as_one_in_one_go(private: Federate, tmp_path: Path) -> None:
    # The bound moves in every step, so that a wrong one would show.
    privacy = replace(CLEAR, noise_multiplier=0.5, clipping="adaptive", bound=1.0)
    whole = private(privacy, num_rounds=6, ledgers=tmp_path / "whole")
    again = _again(private, privacy, tmp_path)
    assert again.weights == whole.weights
    assert paid(tmp_path) == 6


def test_a_step_that_is_done_again_is_paid_again(private: Federate, tmp_path: Path) -> None:
    # Fitted to six steps; the fourth was paid for twice, so the last one cannot be.
    privacy = replace(CLEAR, epsilon=3.0, noise_multiplier=None, rng="secret")
    again = _again(private, privacy, tmp_path)
    assert paid(tmp_path) == 6
    assert again.summary.rounds == 5
    assert "is spent after 6 steps" in again.summary.reason
    assert again.summary.epsilon <= 3.0


def test_a_run_whose_ledger_is_lost_does_not_go_on(private: Federate, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    private(num_rounds=2, checkpoints=folder)
    (tmp_path / "privacy" / FEDERATION / FILE).unlink()
    with pytest.raises(StoreError, match="missing"):
        start = {"resume_from": Checkpoints(folder).latest()}
        private(num_rounds=2, checkpoints=folder, start=start)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pacing": Pacing(4, 2, max_staleness=3, refill="reply")}, "stale"),
        ({"pacing": Pacing(5, 4)}, "quorum is 4 of 5"),
        ({"strategy": CoordinateMedian()}, "each node's own update"),
        ({"exchange": "summed"}, "nobody has clipped"),
        ({"secure": MaskedSums(), "privacy": replace(CLEAR, loss_bound=4.0)}, "loss_bound"),
        ({"overrides": [Override(step=2, knob="concurrency", value=8)]}, "concurrency"),
    ],
)
def test_what_would_break_the_guarantee_is_refused(options: dict[str, Any], said: str) -> None:
    given = {"strategy": FedAvg(), "pacing": COHORT, "privacy": CLEAR, "loops": (), **options}
    with pytest.raises(ConfigError, match=said):
        Autonomous(given.pop("strategy"), **given)


def test_evaluation_by_nodes_is_refused(private: Federate) -> None:
    with pytest.raises(ConfigError, match="released without noise"):
        private(settings=Settings(evaluate_every=1))


def test_a_run_without_a_ledger_or_a_number_of_users_is_refused(private: Federate) -> None:
    with pytest.raises(ConfigError, match="ledger"):
        private(ledgers=None)
    with pytest.raises(ConfigError, match="num_users"):
        private(replace(CLEAR, num_users=None))


def test_seeded_noise_is_refused_where_nodes_are_real(tmp_path: Path) -> None:
    mechanism = mechanism_of(CLEAR, select=uniform, pacing=COHORT, num_rounds=3)
    with pytest.raises(ConfigError, match="simulations only"):
        private_parts(
            FlowerOptimizer(FedAvgM()),
            mechanism,
            select=uniform,
            seed=0,
            folder=tmp_path,
            is_simulated=False,
            is_resumed=False,
        )


def test_credit_for_sampling_is_given_to_independent_coins_only() -> None:
    def first_four(candidates: Any, count: int, rng: np.random.Generator) -> list[int]:
        return [facts.node for facts in candidates[:4]]

    coins = mechanism_of(CLEAR, select=uniform, pacing=COHORT, num_rounds=3)
    assert (coins.release.sampling, coins.release.credited_rate) == ("poisson", 4 / 12)
    own = mechanism_of(CLEAR, select=first_four, pacing=COHORT, num_rounds=3)
    assert (own.release.sampling, own.release.credited_rate) == ("fixed_size", 1.0)
    assert (own.reach, coins.reach) == (2, 1)
