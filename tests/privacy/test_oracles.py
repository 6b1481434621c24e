"""Epsilon beside the accountants of two other libraries: Google's dp-accounting, and Opacus."""

import importlib
import math
from typing import Any

import pytest

from daafl.privacy import accountant, renyi
from daafl.privacy.release import Release, Sampling

DELTA = 1e-5
BAR = 0.01

# Rate, noise multiplier, steps: from a step to a long run, rates of examples and of users; 1 is
# the full batch. Those whose epsilon by rdp lies in [.05, 15], which is what anybody would use.
GRID = [
    (rate, noise, steps)
    for rate in (0.01, 1 / 3, 1.0)
    for noise in (0.8, 1.5, 4.0)
    for steps in (1, 60, 600)
    if 0.05 <= accountant.epsilon([Release(noise, steps, rate, "poisson")], DELTA, "rdp") <= 15.0
]
EVERY = pytest.mark.parametrize(("rate", "noise", "steps"), GRID)


def ours(rate: float, noise: float, steps: int, accounting: accountant.Accounting) -> float:
    sampling: Sampling = "poisson" if rate < 1.0 else "all"
    return accountant.epsilon([Release(noise, steps, rate, sampling)], DELTA, accounting)


def of_dp_accounting(rate: float, noise: float, steps: int, accounting: str) -> float:
    dp: Any = importlib.import_module("dp_accounting")
    event = dp.GaussianDpEvent(noise)
    if rate < 1.0:
        event = dp.PoissonSampledDpEvent(rate, event)
    relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    if accounting == "rdp":
        theirs = dp.rdp.RdpAccountant(list(renyi.ORDERS), relation)
    else:
        theirs = dp.pld.PLDAccountant(relation, value_discretization_interval=1e-4)
    theirs.compose(event, steps)
    return float(theirs.get_epsilon(DELTA))


def of_opacus(rate: float, noise: float, steps: int, accounting: str) -> float:
    accountants: Any = importlib.import_module("opacus.accountants")
    if accounting == "rdp":
        theirs = accountants.RDPAccountant()
        theirs.history = [(noise, rate, steps)]
        return float(theirs.get_epsilon(DELTA, alphas=list(renyi.ORDERS)))
    theirs = accountants.PRVAccountant()
    theirs.history = [(noise, rate, steps)]
    error = 0.001 * ours(rate, noise, steps, "prv")
    return float(theirs.get_epsilon(DELTA, eps_error=error, delta_error=1e-9))


@EVERY
@pytest.mark.parametrize("accounting", ["rdp", "prv"])
def test_epsilon_is_that_of_dp_accounting(
    rate: float, noise: float, steps: int, accounting: accountant.Accounting
) -> None:
    # Theirs bounds fractional Rényi orders by the whole ones around them, and so is a little larger
    # for large epsilon; the other oracle does not.
    expected = of_dp_accounting(rate, noise, steps, accounting)
    assert ours(rate, noise, steps, accounting) == pytest.approx(expected, rel=BAR)


# Opacus warns of its own: of divisions by 0 where it needs no more, and of orders for its domain.
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@EVERY
@pytest.mark.parametrize("accounting", ["rdp", "prv"])
def test_epsilon_is_that_of_opacus(
    rate: float, noise: float, steps: int, accounting: accountant.Accounting
) -> None:
    expected = of_opacus(rate, noise, steps, accounting)
    assert ours(rate, noise, steps, accounting) == pytest.approx(expected, rel=BAR)


def test_different_steps_together_cost_what_dp_accounting_says() -> None:
    dp: Any = importlib.import_module("dp_accounting")
    theirs = dp.pld.PLDAccountant(
        dp.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-4
    )
    theirs.compose(dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(1.2)), 40)
    theirs.compose(dp.GaussianDpEvent(5.0), 3)
    both = [Release(1.2, 40, 0.1, "poisson"), Release(5.0, 3, 0.1, "fixed_size")]
    found = accountant.epsilon(both, DELTA, "prv")
    assert found == pytest.approx(theirs.get_epsilon(DELTA), rel=BAR)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
@pytest.mark.parametrize("rate", [1 / 30, 1 / 3, 1.0])
def test_calibrated_noise_keeps_the_budget_by_the_oracle_too(epsilon: float, rate: float) -> None:
    noise = accountant.noise_multiplier_for(
        epsilon, DELTA, steps=60, rate=rate, sampling="poisson", accounting="prv"
    )
    by_them = of_dp_accounting(rate, noise, 60, "prv")
    assert by_them <= epsilon
    assert by_them == pytest.approx(epsilon, rel=BAR)


def test_the_bits_and_the_updates_of_a_step_cost_what_theorem_1_says() -> None:
    # Without sampling, two Gaussian mechanisms of z_1 and z_2 are one of (z_1^-2 + z_2^-2)^-1/2.
    dp: Any = importlib.import_module("dp_accounting")
    theirs = dp.pld.PLDAccountant(value_discretization_interval=1e-4)
    theirs.compose(dp.GaussianDpEvent(2.0), 10)
    theirs.compose(dp.GaussianDpEvent(6.0), 10)
    together = (2.0**-2 + 6.0**-2) ** -0.5
    found = accountant.epsilon([Release(together, 10)], DELTA, "prv")
    assert found == pytest.approx(theirs.get_epsilon(DELTA), rel=BAR)
    assert math.isclose(together, 1.8973665961010275)
