"""FedExP against its formula, by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from daafl.errors import ConfigError, FederationError
from daafl.learning.layout import Layout, Packed
from daafl.learning.update import Update
from daafl.strategies.fedexp import FedExP
from daafl.strategies.optimizer import copied

LAYOUT = Layout.of({"w": np.zeros(2, np.float32)})
MIXED = Layout.of({"w": np.zeros(2, np.float32), "batches": np.array(0)})


def model(*values: float, layout: Layout = LAYOUT) -> Packed:
    return layout.packed(np.array(values, np.float32))


def update(*values: float, weight: float = 1.0, damping: float = 1.0) -> Update:
    return Update(np.array(values, np.float32), weight, (0,), 0, {}, damping)


def opened(epsilon: float = 1e-12, layout: Layout = LAYOUT) -> FedExP:
    optimizer = FedExP(epsilon)
    optimizer.init(layout, layout.packed(np.zeros(layout.num_parameters, np.float32)))
    return optimizer


def combined(optimizer: FedExP, updates: Sequence[Update], layout: Layout = LAYOUT) -> list[float]:
    start = np.zeros(layout.num_parameters, np.float32)
    return layout.vector(optimizer.combine(layout.packed(start), updates)).tolist()


def test_updates_that_agree_are_averaged() -> None:
    # |d|^2 / (2 |d|^2) = 1/2, below 1: plain FedAvg.
    optimizer = opened()
    assert combined(optimizer, [update(1, 2), update(1, 2)]) == [1.0, 2.0]
    assert optimizer.rate == 1.0


def test_updates_that_disagree_are_extrapolated() -> None:
    # Deltas (3, 1) and (-1, 1): mean (1, 1), mean square (10 + 2) / 2 = 6, rate 6 / (2 * 2) = 1.5.
    optimizer = opened()
    assert combined(optimizer, [update(3, 1), update(-1, 1)]) == [1.5, 1.5]
    assert optimizer.rate == pytest.approx(1.5)


def test_examples_weigh_in_both_means() -> None:
    # Weights 3/4 and 1/4 of (2, 0) and (0, 6): mean (1.5, 1.5) with square 4.5,
    # mean square 3 + 9 = 12, rate 12 / 9 = 4/3, step (2, 2).
    optimizer = opened()
    values = combined(optimizer, [update(2, 0, weight=30), update(0, 6, weight=10)])
    np.testing.assert_allclose(values, [2.0, 2.0], rtol=1e-6)


def test_damped_updates_count_as_damped() -> None:
    # Half of (6, 2) and half of (-2, 2) are the updates of the test before the last.
    halves = [update(6, 2, damping=0.5), update(-2, 2, damping=0.5)]
    assert combined(opened(), halves) == [1.5, 1.5]


def test_epsilon_keeps_the_rate_small_when_updates_cancel() -> None:
    # Mean square 1, mean 0: rate 1 / (2 * 0.1) = 5.
    optimizer = opened(epsilon=0.1)
    assert combined(optimizer, [update(1, 0), update(-1, 0)]) == [0.0, 0.0]
    assert optimizer.rate == pytest.approx(5.0)


def test_integer_entries_follow_the_plain_mean_and_do_not_enter_the_rate() -> None:
    optimizer = opened(layout=MIXED)
    values = combined(optimizer, [update(3, 1, 100), update(-1, 1, 104)], MIXED)
    assert values == [1.5, 1.5, 102.0]


def test_scaling_multiplies_the_step_and_init_forgets_it() -> None:
    optimizer = opened()
    optimizer.scale(0.5)
    assert combined(optimizer, [update(3, 1), update(-1, 1)]) == [0.75, 0.75]
    optimizer.init(LAYOUT, model(0, 0))
    assert combined(optimizer, [update(3, 1), update(-1, 1)]) == [1.5, 1.5]


def test_norms_of_large_updates_do_not_overflow() -> None:
    # The squares of 3e25 exceed float32; as above, but 1e25 times larger.
    values = combined(opened(), [update(3e25, 1e25), update(-1e25, 1e25)])
    np.testing.assert_allclose(values, [1.5e25, 1.5e25], rtol=1e-6)


def test_the_average_of_the_last_two_models_is_there_to_be_evaluated() -> None:
    optimizer = opened()
    first = optimizer.combine(model(0, 0), [update(2, 4)])
    assert LAYOUT.vector(optimizer.averaged(first)).tolist() == [1.0, 2.0]
    assert LAYOUT.vector(first).tolist() == [2.0, 4.0]  # nodes go on from the last one


def test_before_a_step_the_average_is_the_model() -> None:
    optimizer, packed = opened(), model(1, 2)
    assert optimizer.averaged(packed) is packed


def test_state_restores_the_model_before() -> None:
    optimizer = opened()
    first = optimizer.combine(model(0, 0), [update(2, 4)])
    state = copied(optimizer.state())
    other = optimizer.fork()
    optimizer.combine(first, [update(3, 1), update(-1, 1)])
    optimizer.load(state)
    assert LAYOUT.vector(optimizer.averaged(first)).tolist() == [1.0, 2.0]
    assert LAYOUT.vector(other.averaged(first)).tolist() == [1.0, 2.0]
    assert optimizer.rate == 1.0


def test_it_needs_individual_updates_and_tells_nodes_nothing() -> None:
    optimizer = opened()
    assert optimizer.needs == "individuals"
    assert optimizer.node_config() == {}


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_epsilon_must_be_positive(epsilon: float) -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        FedExP(epsilon)


def test_misuse_is_told_apart() -> None:
    with pytest.raises(FederationError, match="call init first"):
        FedExP().combine(model(0, 0), [update(1, 1)])
    with pytest.raises(FederationError, match="not one of FedExP's"):
        opened().load({"step": 3})
