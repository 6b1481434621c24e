"""Robust rules as server optimisers: what they add to being rules."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from daafl.errors import ConfigError, FederationError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.robust import geometric_median
from daafl.store.tree import copied
from daafl.strategies import (
    Bucketing,
    CentredClipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    MultiKrum,
    RobustOptimizer,
    TrimmedMean,
)

LAYOUT = Layout.of({"w": np.zeros(3, np.float32)})
DOUBLE = Layout.of({"w": np.zeros(3)})
NORMALISED = Layout.of(
    {
        "0.weight": np.zeros(2, np.float32),
        "0.running_var": np.zeros(1, np.float32),
        "0.num_batches_tracked": np.array(0),
        "1.weight": np.zeros(1, np.float32),
        "2.weight": np.zeros(0, np.float32),
    }
)

MAKERS: dict[str, Callable[[], RobustOptimizer]] = {
    "coordinate_median": CoordinateMedian,
    "trimmed_mean": TrimmedMean,
    "geometric_median": GeometricMedian,
    "centred_clipping": CentredClipping,
    "krum": Krum,
    "multi_krum": MultiKrum,
    "bucketing": lambda: Bucketing(GeometricMedian()),
    "bucketed_clipping": lambda: Bucketing(CentredClipping()),
}
EVERY = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def update(*values: float, weight: float = 1.0, damping: float = 1.0) -> Update:
    return Update(np.array(values, np.float32), weight, (0,), 0, {}, damping)


def opened(optimizer: RobustOptimizer, layout: Layout = LAYOUT) -> RobustOptimizer:
    optimizer.init(layout, layout.packed(np.zeros(layout.num_parameters, layout.dtype)))
    return optimizer


def combined(
    optimizer: RobustOptimizer, updates: Sequence[Update], layout: Layout = LAYOUT
) -> list[float]:
    start = np.zeros(layout.num_parameters, layout.dtype)
    return layout.vector(optimizer.combine(layout.packed(start), updates)).tolist()


def cohort(count: int, seed: int = 0) -> list[Update]:
    rows = np.random.default_rng(seed).normal(1.0, 0.1, (count, 3))
    return [update(*row) for row in rows]


@EVERY
@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
def test_steps_of_any_size_move_the_model(make: Callable[[], RobustOptimizer], count: int) -> None:
    optimizer = opened(make())
    model = LAYOUT.packed(np.array([10.0, 20.0, 30.0], np.float32))
    moved = LAYOUT.vector(optimizer.combine(model, cohort(count))) - [10.0, 20.0, 30.0]
    assert (np.abs(moved - 1.0) < 0.7).all()
    assert LAYOUT.vector(model).tolist() == [10.0, 20.0, 30.0]


@EVERY
def test_float64_models_keep_their_number_type(make: Callable[[], RobustOptimizer]) -> None:
    updates = [Update(np.full(3, 1e-12), 1.0, (i,), 0, {}) for i in range(5)]
    np.testing.assert_allclose(combined(opened(make(), DOUBLE), updates, DOUBLE), 1e-12)


@EVERY
def test_damping_shortens_an_update(make: Callable[[], RobustOptimizer]) -> None:
    half = [update(2, 4, 6, damping=0.5) for _ in range(5)]
    np.testing.assert_allclose(combined(opened(make()), half), [1.0, 2.0, 3.0], rtol=1e-6)


@EVERY
def test_scaling_multiplies_the_step_and_init_forgets_it(
    make: Callable[[], RobustOptimizer],
) -> None:
    optimizer = opened(make())
    optimizer.scale(0.5)
    optimizer.scale(0.5)
    same = [update(4, 8, 12) for _ in range(5)]
    np.testing.assert_allclose(combined(optimizer, same), [1.0, 2.0, 3.0], rtol=1e-6)
    opened(optimizer)
    np.testing.assert_allclose(combined(optimizer, same), [4.0, 8.0, 12.0], rtol=1e-6)


@EVERY
def test_claimed_examples_do_not_outweigh_others(make: Callable[[], RobustOptimizer]) -> None:
    updates = [*cohort(9), update(-50, -50, -50, weight=1e15)]
    assert (np.abs(np.array(combined(opened(make()), updates)) - 1.0) < 0.5).all()


def test_the_geometric_median_weighs_examples_if_asked() -> None:
    updates = [update(0, 0, 0, weight=3), update(1, 0, 0), update(0, 1, 0), update(0, 0, 9)]
    rows = np.stack([item.delta for item in updates])
    weights = np.array([3.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(
        combined(opened(GeometricMedian(weighted=True)), updates), geometric_median(rows, weights)
    )
    np.testing.assert_allclose(
        combined(opened(GeometricMedian()), updates), geometric_median(rows, np.ones(4))
    )


@EVERY
def test_statistics_and_counters_follow_the_median(make: Callable[[], RobustOptimizer]) -> None:
    # Weights, running variance, batches, weight: the second is a lie in the variance alone.
    updates = [
        update(1, 1, 0.5, 10, 1),
        update(1, 1, 1e30, 10, 1),
        update(1, 1, 0.25, 12, 1),
        update(1, 1, 0.75, 14, 1),
        update(1, 1, 0.5, 16, 1),
    ]
    found = combined(opened(make(), NORMALISED), updates, NORMALISED)
    np.testing.assert_allclose(found, [1, 1, 0.5, 12, 1], rtol=1e-6)
    optimizer = opened(make(), NORMALISED)
    for _ in range(3):  # and nothing of it is kept
        found = combined(optimizer, updates, NORMALISED)
    np.testing.assert_allclose(found, [1, 1, 0.5, 12, 1], rtol=1e-6)


@EVERY
def test_counters_do_not_hide_who_is_far(make: Callable[[], RobustOptimizer]) -> None:
    # By their counters the first two would be the odd ones; by their weights it is the last.
    updates = [
        update(1, 1, 0, 1000, 1),
        update(1, 1, 0, 9000, 1),
        *[update(1, 1, 0, 10, 1) for _ in range(6)],
        update(-9, -9, 0, 10, -9),
    ]
    found = combined(opened(make(), NORMALISED), updates, NORMALISED)
    assert found[3] == 10
    assert min(found[0], found[1], found[4]) > 0.1


@EVERY
def test_a_model_without_weights_follows_the_median(make: Callable[[], RobustOptimizer]) -> None:
    layout = Layout.of({"count": np.zeros(2, np.int64)})
    updates = [update(1, 5), update(2, 6), update(9, 0)]
    assert combined(opened(make(), layout), updates, layout) == [2.0, 5.0]


def test_centred_clipping_clips_around_its_last_result() -> None:
    optimizer = opened(CentredClipping(radius=1.0, rounds=1))
    far = [update(3, 4, 0)] * 3
    # One radius along (3, 4) / 5 in every step.
    np.testing.assert_allclose(combined(optimizer, far), [0.6, 0.8, 0.0], rtol=1e-6)
    state = copied(optimizer.state())
    np.testing.assert_allclose(combined(optimizer, far), [1.2, 1.6, 0.0], rtol=1e-6)
    twin = optimizer.fork()
    np.testing.assert_allclose(combined(twin, far), [1.8, 2.4, 0.0], rtol=1e-6)
    np.testing.assert_allclose(combined(optimizer, far), [1.8, 2.4, 0.0], rtol=1e-6)
    optimizer.load(state)
    np.testing.assert_allclose(combined(optimizer, far), [1.2, 1.6, 0.0], rtol=1e-6)
    opened(optimizer)
    np.testing.assert_allclose(combined(optimizer, far), [0.6, 0.8, 0.0], rtol=1e-6)


def test_scaling_does_not_enter_the_centre() -> None:
    optimizer = opened(CentredClipping(radius=1.0, rounds=1))
    optimizer.scale(0.5)
    far = [update(3, 4, 0)] * 3
    combined(optimizer, far)
    np.testing.assert_allclose(combined(optimizer, far), [0.6, 0.8, 0.0], rtol=1e-6)


def test_bucketing_shuffles_anew_in_every_step() -> None:
    optimizer = opened(Bucketing(CoordinateMedian(), size=2, seed=3))
    updates = cohort(8)
    state = copied(optimizer.state())
    run = [tuple(combined(optimizer, updates)) for _ in range(6)]
    assert len(set(run)) > 1
    optimizer.load(state)
    assert [tuple(combined(optimizer, updates)) for _ in range(6)] == run
    opened(optimizer)
    assert tuple(combined(optimizer, updates)) == run[0]
    other = opened(Bucketing(CoordinateMedian(), size=2, seed=4))
    assert [tuple(combined(other, updates)) for _ in range(6)] != run


def test_bucketing_keeps_its_rules_state() -> None:
    optimizer = opened(Bucketing(CentredClipping(radius=1.0, rounds=1)))
    far = [update(3, 4, 0)] * 4
    combined(optimizer, far)
    state, twin = copied(optimizer.state()), optimizer.fork()
    np.testing.assert_allclose(combined(optimizer, far), [1.2, 1.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(combined(twin, far), [1.2, 1.6, 0.0], rtol=1e-6)
    combined(optimizer, far)
    optimizer.load(state)
    np.testing.assert_allclose(combined(optimizer, far), [1.2, 1.6, 0.0], rtol=1e-6)


def test_krum_takes_a_number_or_a_share() -> None:
    updates = [update(x, 0, 0) for x in (0, 1, 2, 10, -20)]
    assert combined(opened(Krum(num_malicious=1)), updates) == [1.0, 0.0, 0.0]
    assert combined(opened(MultiKrum(malicious_share=0.2)), updates) == [3.25, 0.0, 0.0]
    assert combined(opened(MultiKrum(1, num_selected=3)), updates) == [1.0, 0.0, 0.0]
    # Five updates bear one liar, however many are expected.
    assert combined(opened(MultiKrum(num_malicious=4)), updates) == [3.25, 0.0, 0.0]


@EVERY
def test_they_need_individual_updates_and_tell_nodes_nothing(
    make: Callable[[], RobustOptimizer],
) -> None:
    optimizer = make()
    assert optimizer.needs == "individuals"
    assert optimizer.node_config() == {}


@EVERY
def test_misuse_is_told_apart(make: Callable[[], RobustOptimizer]) -> None:
    optimizer = make()
    name = type(optimizer).__name__
    packed: Packed = LAYOUT.packed(np.zeros(3, np.float32))
    with pytest.raises(FederationError, match=f"{name} has no model yet; call init first"):
        optimizer.combine(packed, cohort(3))
    with pytest.raises(FederationError, match=f"not one of {name}'s"):
        optimizer.load({"velocity": 3})


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: TrimmedMean(0.5), "share"),
        (lambda: TrimmedMean(-0.1), "share"),
        (lambda: TrimmedMean(float("nan")), "share"),
        (lambda: GeometricMedian(smoothing=0.0), "smoothing"),
        (lambda: CentredClipping(radius=0.0), "radius"),
        (lambda: CentredClipping(radius=float("inf")), "radius"),
        (lambda: CentredClipping(rounds=0), "rounds"),
        (lambda: Krum(-1), "num_malicious of Krum"),
        (lambda: Krum(malicious_share=0.5), "malicious_share of Krum"),
        (lambda: MultiKrum(-1), "num_malicious of MultiKrum"),
        (lambda: MultiKrum(malicious_share=float("nan")), "malicious_share"),
        (lambda: MultiKrum(num_selected=0), "num_selected"),
        (lambda: Bucketing(TrimmedMean(), size=0), "size"),
        (lambda: Bucketing(TrimmedMean(), seed=-1), "seed"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make()
