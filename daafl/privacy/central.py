"""Central differential privacy of whole users: the server adds noise to a sum of clipped updates.

McMahan, Ramage, Talwar and Zhang (2018), *Learning Differentially Private Recurrent Language
Models*: users join a round independently with probability ``q``; the sum of their updates, each
clipped to a bound, is divided by the expected number of users ``q * n``, not by how many came, so
that one user changes the sum by at most the bound and nothing else.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from daafl.errors import ConfigError
from daafl.privacy.gaussian import Doubles, noised
from daafl.privacy.keystream import Keystream


def noised_mean(
    total: npt.NDArray[np.floating[Any]],
    *,
    bound: float,
    noise_multiplier: float,
    expected_users: float,
    keystream: Keystream,
) -> Doubles:
    """Return the mean of clipped updates, of which ``total`` is the sum, with noise.

    Parameters
    ----------
    total
        Unweighted sum of updates of norm at most ``bound`` each; zeros if nobody came.
    bound
        Largest norm of a user's update.
    noise_multiplier
        Standard deviation of the noise on the sum over ``bound``.
    expected_users
        Expected number of users in a round.
    keystream
        Where the noise comes from.
    """
    if not expected_users > 0.0:
        raise ConfigError(f"expected_users={expected_users} must be positive")
    released = noised(
        total, noise_multiplier=noise_multiplier, sensitivity=bound, keystream=keystream
    )
    released /= expected_users
    return released


def noised_average(
    values: npt.NDArray[np.float64],
    *,
    lowest: float,
    highest: float,
    noise_multiplier: float,
    expected_users: float,
    keystream: Keystream,
) -> float:
    """Return the average of one value per user, such as a loss, with noise; within the limits.

    Values are summed around the middle of the limits, so that one user more or less changes the sum
    by half of their distance at most. The sum is divided by the expected number of users; the
    average is that of the middle if nobody came.

    Parameters
    ----------
    values
        One per user who took part; NaN counts as the highest.
    lowest, highest
        What values are clipped to.
    noise_multiplier
        Standard deviation of the noise on the sum over half of the distance of the limits.
    expected_users
        Expected number of users in a round.
    keystream
        Where the noise comes from.
    """
    middle = (lowest + highest) / 2.0
    known = np.where(np.isnan(values), highest, values)
    total = (np.clip(known, lowest, highest) - middle).sum()
    released = noised(
        np.array([total]),
        noise_multiplier=noise_multiplier,
        sensitivity=(highest - lowest) / 2.0,
        keystream=keystream,
    )
    return min(max(float(released[0]) / expected_users + middle, lowest), highest)
