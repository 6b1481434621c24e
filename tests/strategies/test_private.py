"""User-level privacy as an optimiser: sensitivity, noise, the clipping bound, and what is paid."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg, FedAvgM
from flwr.supercore.task_identity import TaskIdentity

from daafl import flower
from daafl.errors import BudgetError, ConfigError, FederationError, StoreError
from daafl.learning.layout import Layout
from daafl.learning.update import Update
from daafl.messages import CLIP_BOUND, TRAIN_LOSS, USERS_ALIKE, WITHIN_CLIP
from daafl.privacy.budget import FEDERATION
from daafl.privacy.clipping import AdaptiveClip
from daafl.privacy.keystream import Keystream
from daafl.privacy.ledger import Ledger
from daafl.privacy.release import Release
from daafl.privacy.user_level import UserMechanism, UserPrivacy, UserSpending
from daafl.strategies.flower_optimizer import FlowerOptimizer
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.private import PrivateOptimizer
from daafl.strategies.robust import CoordinateMedian, Krum

LAYOUT = Layout.of({"w": np.zeros(4, np.float32)})
ZEROS = LAYOUT.packed(np.zeros(4, np.float32))
LARGE = Layout.of({"w": np.zeros(20_000, np.float32)})


def update(
    *values: float, loss: float | None = None, examples: float = 1.0, node: int = 0
) -> Update:
    metrics = {} if loss is None else {TRAIN_LOSS: loss}
    return Update(np.array(values, np.float32), examples, (node,), 0, metrics)


Open = Callable[..., PrivateOptimizer]


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Flower strategies be asked outside a run."""
    for field in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, field, None)
    flower.adopt_task_identity(run_id=7)


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Return a maker of optimisers that have a model; each has a ledger of its own."""
    count = iter(range(100))

    def make(
        privacy: UserPrivacy,
        inner: ServerOptimizer | None = None,
        *,
        rate: float = 0.5,
        expected: float = 10.0,
        sampling: str = "poisson",
        layout: Layout = LAYOUT,
        members_clip: bool = False,
        rounding: float = 0.0,
        folder: Path | None = None,
    ) -> PrivateOptimizer:
        noise = privacy.noise_multiplier or 1.0
        mechanism = UserMechanism(privacy, Release(noise, 1, rate, sampling), expected)
        ledger = Ledger(folder or tmp_path / str(next(count)))
        optimizer = PrivateOptimizer(
            inner or FlowerOptimizer(FedAvg()),
            UserSpending(mechanism, ledger),
            lambda step: Keystream.fresh(),
            members_clip=members_clip,
            rounding=rounding,
        )
        optimizer.init(layout, layout.packed(np.zeros(layout.num_parameters, np.float32)))
        return optimizer

    return make


def fixed(noise: float = 1.0, bound: float = 1.0, **settings: object) -> UserPrivacy:
    return UserPrivacy(
        epsilon=1e12, noise_multiplier=noise, bound=bound, clipping="fixed", **settings
    )


def test_one_user_more_moves_the_sum_by_what_it_contributes_at_most_the_bound(opened: Open) -> None:
    optimizer = opened(fixed(bound=1.0))
    others = [update(0.3, 0.4, 0, 0), update(0, 6.0, 8.0, 0)]
    # (0, 6, 8, 0) has norm 10 and is cut to (0, .6, .8, 0).
    without = optimizer.sums(others)
    assert without.total == pytest.approx([0.3, 1.0, 0.8, 0.0], abs=1e-6)
    assert (without.num_users, without.num_within) == (2, 1)
    for values in ((100.0, 0, 0, 0), (3e38, 0, 0, 0), (0.01, 0.02, 0, 0)):
        more = optimizer.sums([*others, update(*values)]).total
        assert np.linalg.norm(more - without.total) <= 1.0 * (1 + 1e-12)
    swapped = optimizer.sums([others[0], update(0, -6.0, -8.0, 0)]).total
    assert np.linalg.norm(swapped - without.total) == pytest.approx(2.0, abs=1e-6)


def test_examples_do_not_weigh(opened: Open) -> None:
    optimizer = opened(fixed(bound=10.0))
    total = optimizer.sums([update(1, 0, 0, 0, examples=10_000), update(0, 1, 0, 0)]).total
    assert total.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_sums_are_in_double_precision(opened: Open) -> None:
    optimizer = opened(fixed(bound=2.0))
    # In single precision 1 + 2**-25 is 1; a thousand of them are 1 + 2**-15.
    updates = [update(1, 0, 0, 0), *[update(2.0**-25, 0, 0, 0)] * 1024]
    assert optimizer.sums(updates).total[0] == 1.0 + 2.0**-15


def test_noise_has_the_variance_of_the_mechanism(opened: Open) -> None:
    # Fixed clipping, no losses: z * C / expected = 2 * 3 / 10 = .6, whatever came.
    optimizer = opened(fixed(noise=2.0, bound=3.0), layout=LARGE)
    sample = optimizer.released([], step="1", version=0).delta
    # The standard error of a standard deviation from n samples is 1 / sqrt(2 n).
    assert sample.std() == pytest.approx(0.6, rel=6 / math.sqrt(2 * len(sample)))
    assert sample.mean() == pytest.approx(0.0, abs=6 * 0.6 / math.sqrt(len(sample)))


def test_a_cohort_of_fixed_size_has_twice_the_noise_and_no_credit(opened: Open) -> None:
    optimizer = opened(fixed(noise=2.0, bound=3.0), layout=LARGE, sampling="fixed_size")
    sample = optimizer.released([], step="1", version=0).delta
    assert sample.std() == pytest.approx(1.2, rel=6 / math.sqrt(2 * len(sample)))
    assert optimizer.mechanism.release.credited_rate == 1.0


def test_the_sum_is_divided_by_the_users_expected_not_by_those_who_came(opened: Open) -> None:
    # Noise of .02 * 10 / 8 = .025.
    optimizer = opened(fixed(noise=0.02, bound=10.0), expected=8.0)
    delta = optimizer.released([update(4, 0, 0, 0)] * 2, step="1", version=0).delta
    assert delta == pytest.approx([1.0, 0, 0, 0], abs=0.2)


def test_adaptive_clipping_and_losses_share_a_step_as_in_theorem_1() -> None:
    privacy = UserPrivacy(noise_multiplier=1.5, loss_bound=4.0)
    mechanism = UserMechanism(privacy, Release(1.5, 1, 0.1, "poisson"), 10.0)
    together = mechanism.update_noise**-2 + 2 * mechanism.scalar_noise**-2
    assert together**-0.5 == pytest.approx(1.5, rel=1e-12)
    bits_only = UserMechanism(UserPrivacy(noise_multiplier=1.5), mechanism.release, 10.0)
    law = bits_only.clip
    assert law is not None
    assert bits_only.update_noise == pytest.approx(law.update_noise_multiplier(1.5), rel=1e-12)


def test_the_bound_follows_the_quantile_as_a_simulation_by_hand_does(opened: Open) -> None:
    # With hardly any noise: norms 1 to 9, all of them there, half of them to be within. The bound
    # moves by exp(-.2 * (share - .5)), as computed here, and ends at the median.
    privacy = UserPrivacy(epsilon=1e12, noise_multiplier=1e-3, bound=1.5)
    optimizer = opened(privacy, rate=1.0, expected=9.0)
    updates = [update(float(norm), 0, 0, 0) for norm in range(1, 10)]
    by_hand = 1.5
    for step in range(60):
        share = sum(norm <= by_hand for norm in range(1, 10)) / 9
        by_hand *= math.exp(-0.2 * (share - 0.5))
        optimizer.released(updates, step=str(step), version=0)
        assert optimizer.bound == pytest.approx(by_hand, rel=1e-2)
    assert 4.5 < optimizer.bound < 5.5


def test_the_noise_on_the_bits_is_that_of_the_law(opened: Open) -> None:
    # One step from bound 1: log(bound) = -.2 * (noised share - .5); nobody came, so the share is
    # .5 + noise / expected with a standard deviation of bit_noise / expected.
    privacy = UserPrivacy(epsilon=1e12, noise_multiplier=1.0, bound=1.0)
    optimizer = opened(privacy, expected=100.0)
    law, start = optimizer.mechanism.clip, optimizer.state()
    assert law == AdaptiveClip(quantile=0.5, bit_noise=0.5 / math.sqrt(0.05))
    moves = []
    for step in range(400):
        optimizer.load(start)
        optimizer.released([], step=str(step), version=0)
        moves.append(math.log(optimizer.bound) / 0.2)
    assert np.std(moves) == pytest.approx(law.bit_noise / 100.0, rel=6 / math.sqrt(800))


def test_losses_are_clipped_noised_and_divided_by_the_users_expected(opened: Open) -> None:
    # Noise of .02 / sqrt(.05) * 2 / 4 = .045.
    optimizer = opened(fixed(noise=0.02, bound=1.0, loss_bound=4.0), expected=4.0)
    updates = [update(1, 0, 0, 0, loss=value) for value in (1.0, 3.0, 1e30, math.inf)]
    # 1 + 3 + 4 + 4 over 4 users.
    released = optimizer.released(updates, step="1", version=0)
    assert released.metrics[TRAIN_LOSS] == pytest.approx(3.0, abs=0.3)
    # Two of four came: what is missing counts as the middle, (1 + 3 + 2 + 2) / 4.
    released = optimizer.released(updates[:2], step="2", version=0)
    assert released.metrics[TRAIN_LOSS] == pytest.approx(2.0, abs=0.3)
    noisy = opened(fixed(noise=1.0, bound=1.0, loss_bound=4.0), expected=40.0)
    seen = [noisy.released([], step=str(i), version=0).metrics[TRAIN_LOSS] for i in range(400)]
    # scalar noise 1 / sqrt(.05), times half of the range, over 40 users.
    assert np.std(seen) == pytest.approx(2.0 / math.sqrt(0.05) / 40, rel=6 / math.sqrt(800))


def test_without_a_loss_bound_no_loss_leaves(opened: Open) -> None:
    released = opened(fixed()).released([update(1, 0, 0, 0, loss=2.0)], step="1", version=3)
    assert dict(released.metrics) == {}
    assert released.version == 3


def test_only_what_was_released_in_this_step_reaches_the_optimiser_inside(opened: Open) -> None:
    optimizer = opened(fixed())
    raw = update(1, 0, 0, 0)
    with pytest.raises(FederationError, match="has released"):
        optimizer.combine(ZEROS, [raw])
    released = optimizer.released([raw], step="1", version=0)
    with pytest.raises(FederationError, match="has released"):
        optimizer.combine(ZEROS, [released, raw])
    released = optimizer.released([raw], step="2", version=0)
    assert LAYOUT.vector(optimizer.combine(ZEROS, [released])) == pytest.approx(released.delta)
    with pytest.raises(FederationError, match="has released"):
        optimizer.combine(ZEROS, [released])


def test_state_restores_bound_and_momentum_and_never_what_was_spent(opened: Open) -> None:
    privacy = UserPrivacy(epsilon=1e12, noise_multiplier=0.01, bound=1.0)
    inner = FlowerOptimizer(FedAvgM(server_momentum=0.9, server_learning_rate=0.5))
    optimizer = opened(privacy, inner)

    def step(name: str) -> Sequence[float]:
        released = optimizer.released([update(5, 0, 0, 0)] * 10, step=name, version=0)
        return LAYOUT.vector(optimizer.combine(ZEROS, [released])).tolist()

    step("1")
    state, bound = optimizer.state(), optimizer.bound
    step("2")
    assert optimizer.bound > bound
    optimizer.load(state)
    assert optimizer.bound == bound
    assert optimizer.state()["inner"]["step"] == state["inner"]["step"]
    assert optimizer.spending.steps == 2
    fork = optimizer.fork()
    fork.released([update(5, 0, 0, 0)] * 10, step="3", version=0)
    assert (fork.bound, optimizer.bound) != (bound, bound)
    assert optimizer.bound == bound
    assert optimizer.spending.steps == 3


@pytest.mark.parametrize(
    "state", [{}, {"bound": 1, "inner": {}}, {"bound": -1.0, "inner": {}}, None]
)
def test_a_state_that_is_none_of_its_own_is_refused(opened: Open, state: object) -> None:
    with pytest.raises(FederationError, match="PrivateOptimizer"):
        opened(fixed()).load(state)


def test_it_is_paid_before_noise_is_drawn_and_not_at_all_beyond_the_budget(
    opened: Open, tmp_path: Path
) -> None:
    # One step at z = 1 without sampling costs 4.38 at delta 1e-5 (Balle and Wang 2018): one fits.
    privacy = UserPrivacy(epsilon=5.0, noise_multiplier=1.0, bound=1.0, clipping="fixed")
    optimizer = opened(privacy, rate=1.0, folder=tmp_path / "ledger")
    assert optimizer.exhausted() is None
    optimizer.released([], step="main:1", version=0)
    reason = optimizer.exhausted()
    assert reason == "the privacy budget (epsilon=5, delta=1e-05) is spent after 1 steps"
    with pytest.raises(BudgetError):
        optimizer.released([], step="main:2", version=0)
    assert optimizer.spending.steps == 1
    assert Ledger(tmp_path / "ledger", must_exist=True).spent(FEDERATION)[0].steps == 1


def test_nothing_is_released_when_the_ledger_cannot_be_written(
    opened: Open, tmp_path: Path
) -> None:
    optimizer = opened(fixed(), folder=tmp_path / "ledger")
    (tmp_path / "ledger" / "ledger.jsonl").write_text("{}\n")
    with pytest.raises(StoreError):
        optimizer.released([update(1, 0, 0, 0)], step="1", version=0)
    with pytest.raises(FederationError):
        optimizer.combine(ZEROS, [update(1, 0, 0, 0)])


def test_a_step_done_again_is_paid_again_unless_its_noise_is_the_same(tmp_path: Path) -> None:
    for rng, steps in (("secret", 2), ("seeded", 1)):
        privacy = fixed(rng=rng)
        mechanism = UserMechanism(privacy, Release(1.0, 1, 0.5, "poisson"), 10.0)
        spending = UserSpending(mechanism, Ledger(tmp_path / rng))
        spending.spend("main:1")
        spending.spend("main:1")
        assert spending.steps == steps


def test_sums_of_members_that_clip_count_as_many_users(opened: Open) -> None:
    optimizer = opened(UserPrivacy(bound=2.0), members_clip=True)
    settings = optimizer.node_config()
    assert (settings[CLIP_BOUND], settings[USERS_ALIKE]) == (2.0, True)
    mean = np.array([1.0, 0, 0, 0])
    groups = [
        Update(mean, 4.0, (1, 2, 3, 4), 0, {WITHIN_CLIP: 0.75}),
        # One of these three diverged: it is none of the two that the mean is of.
        Update(mean / 2, 2.0, (5, 6, 7), 0, {WITHIN_CLIP: 2 / 3}),
    ]
    sums = optimizer.sums(groups)
    assert sums.total.tolist() == [5.0, 0.0, 0.0, 0.0]
    assert (sums.num_users, sums.num_within) == (7, 5)
    with pytest.raises(FederationError, match="none of which can be clipped"):
        opened(fixed()).sums(groups)


def test_a_sum_in_which_members_weigh_more_is_refused(opened: Open) -> None:
    # Weighted by examples, a member could count as thirty.
    optimizer = opened(fixed(bound=1.0), members_clip=True)
    with pytest.raises(FederationError, match="weighs 1 at most"):
        optimizer.sums([Update(np.ones(4), 60.0, (1, 2), 0, {WITHIN_CLIP: 1.0})])


def test_members_rounding_is_noised_as_well(opened: Open) -> None:
    # 20,000 coordinates rounded to multiples of .05: up to .05 * sqrt(20000) = 7.07 in length.
    optimizer = opened(fixed(noise=2.0, bound=3.0), layout=LARGE, members_clip=True, rounding=0.05)
    sample = optimizer.released([], step="1", version=0).delta
    expected = 2.0 * (3.0 + 0.05 * math.sqrt(20_000)) / 10
    assert sample.std() == pytest.approx(expected, rel=6 / math.sqrt(2 * len(sample)))


def test_members_of_a_model_with_statistics_are_refused(opened: Open) -> None:
    layout = Layout.of({"w": np.zeros(2, np.float32), "0.running_mean": np.zeros(2, np.float32)})
    with pytest.raises(ConfigError, match="running statistics"):
        opened(fixed(), layout=layout, members_clip=True)


def test_members_are_not_told_the_bound_where_the_server_clips(opened: Open) -> None:
    assert CLIP_BOUND not in opened(fixed()).node_config()


def test_losses_of_groups_are_refused(opened: Open) -> None:
    with pytest.raises(ConfigError, match="loss_bound"):
        opened(fixed(loss_bound=4.0), members_clip=True)


@pytest.mark.parametrize("inner", [CoordinateMedian(), Krum(num_malicious=1)])
def test_rules_that_look_at_individuals_are_refused(opened: Open, inner: ServerOptimizer) -> None:
    with pytest.raises(ConfigError, match="each node's own update"):
        opened(fixed(), inner)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"bound": -1.0}, "bound"),
        ({"clipping": "fixed"}, "bound is missing"),
        ({"clipping": "soft"}, "clipping"),
        ({"target_quantile": 1.0}, "target_quantile"),
        ({"noise_multiplier": 0.0}, "noise_multiplier"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"accounting": "guess"}, "accountant"),
        ({"rng": "clock"}, "rng"),
        ({"loss_bound": math.inf}, "loss_bound"),
        ({"num_users": 0}, "num_users"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        UserPrivacy(**settings)


def test_the_guarantee_names_who_is_trusted_and_claims_nothing_for_seeded_noise() -> None:
    plain = UserPrivacy(epsilon=2.0).describe()
    assert "epsilon 2 at delta 1e-05" in plain
    assert "nobody is protected from it" in plain
    assert "sees nobody's own update" in UserPrivacy().describe(members_clip=True)
    assert UserPrivacy(rng="seeded").describe().startswith("No privacy is claimed")
