import math
from dataclasses import dataclass

import numpy as np
import pytest

from daafl.errors import ConfigError
from daafl.learning.update import Update
from daafl.loops import learning_rate
from daafl.strategies.monitor import (
    StepFacts,
    check_observable,
    cosine,
    norm,
    observations,
    reported_losses,
)


def update(loss: float, version: int = 3) -> Update:
    return Update(np.zeros(2, np.float32), 8, (0,), version, {"train_loss": loss})


def test_the_median_and_the_mean_without_a_fifth_at_each_end() -> None:
    # Sorted: 1 2 3 7 100. One goes at each end: (2 + 3 + 7) / 3 = 4; the median is 3.
    report = reported_losses([update(loss) for loss in (100.0, 2.0, 3.0, 7.0, 1.0)])
    assert (report.loss, report.trimmed) == (pytest.approx(3.0), pytest.approx(4.0))
    # Deviations from the median 3: 97 1 0 4 2; their median is 2.
    assert report.mad == pytest.approx(2 * 1.4826)
    assert report.version == 3


def test_a_minority_of_infinite_losses_is_borne_and_a_majority_leaves_no_centre() -> None:
    some = reported_losses([update(loss) for loss in (1.0, 1.0, 1.0, 1.0, math.inf)])
    most = reported_losses([update(loss) for loss in (1.0, math.inf, math.inf)])
    assert some.loss == pytest.approx(1.0)
    assert most.loss is None and most.version == 3


def test_the_oldest_version_is_what_the_losses_are_about() -> None:
    assert reported_losses([update(1.0, 5), update(1.0, 2)]).version == 2
    assert reported_losses([]).version is None


def test_cosine_and_norm_of_known_vectors() -> None:
    right, diagonal = np.array([2.0, 0.0]), np.array([3.0, 3.0])
    assert cosine(right, diagonal) == pytest.approx(math.sqrt(0.5))
    assert cosine(right, -right) == pytest.approx(-1.0)
    assert cosine(None, right) is None
    assert cosine(np.zeros(2), right) is None
    assert norm(diagonal) == pytest.approx(3 * math.sqrt(2))
    assert norm(np.array([np.inf, 0.0])) is None


def test_an_observation_is_a_projection_by_field_name() -> None:
    loop = learning_rate()
    facts = StepFacts(step=7, loss=0.5, cosine=0.25, num_failures=3)
    seen = observations([loop], facts)[loop.policy.name]
    assert (seen.step, seen.loss, seen.cosine) == (7, 0.5, 0.25)
    assert not hasattr(seen, "num_failures")


def test_a_loop_that_wants_what_no_step_measures_is_refused_by_name() -> None:
    @dataclass(frozen=True)
    class Moonlight:
        lunar_phase: float = 0.0

    @dataclass(frozen=True)
    class Astrology:
        name = "astrology"
        observation = Moonlight

    @dataclass(frozen=True)
    class Loop:
        policy: Astrology

    with pytest.raises(ConfigError, match="astrology observes 'lunar_phase'"):
        check_observable([Loop(Astrology())])  # type: ignore[list-item]
