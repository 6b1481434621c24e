"""What a node puts into a sum: within the bound it was told, unless it is hostile."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.clients.contributing import clip_bound, contributed
from daafl.clients.identity import Identity
from daafl.clients.model_records import ReceivedModel
from daafl.clients.work import Work
from daafl.errors import MessageError
from daafl.learning.layout import Layout
from daafl.learning.trainer import Trained
from daafl.messages import CLIP_BOUND, USERS_ALIKE, Assignment
from daafl.secure.shortening import shortened
from daafl.secure.work import work_hash

ZEROS = {"0.weight": np.zeros(2, np.float32), "1.running_mean": np.zeros(1, np.float32)}
LAYOUT = Layout.of(ZEROS)


def work(weights: list[float], bound: Any = None, *, loss: float = 1.0, **options: Any) -> Work:
    trained = LAYOUT.pack(
        {"0.weight": np.array(weights, np.float32), "1.running_mean": np.ones(1, np.float32)}
    )
    settings = {} if bound is None else {CLIP_BOUND: bound}
    return Work(
        Assignment(settings=settings),
        Identity(0, 0, 2, 2),
        ReceivedModel(LAYOUT.pack(ZEROS), None),
        Trained(trained, loss, 10, 1),
        **options,
    )


def test_a_change_within_the_bound_is_left_as_it_is() -> None:
    found = contributed(work([3.0, 4.0], bound=5.0), LAYOUT)
    assert found.delta.tolist() == [3.0, 4.0, 1.0]
    assert found.header.is_within_clip and found.header.num_examples == 10


def test_a_longer_one_shrinks_to_it_with_its_statistics() -> None:
    # The weights have length 5; the running mean does not count and is halved with them.
    found = contributed(work([3.0, 4.0], bound=2.5), LAYOUT)
    assert found.delta.tolist() == pytest.approx([1.5, 2.0, 0.5], rel=1e-6)
    assert not found.header.is_within_clip


def test_where_a_guarantee_hangs_on_the_bound_statistics_count() -> None:
    settings = {CLIP_BOUND: 5.0, USERS_ALIKE: True}
    private = dataclasses.replace(work([3.0, 4.0]), assignment=Assignment(settings=settings))
    found = contributed(private, LAYOUT)  # of length sqrt(26) with the running mean
    assert float(np.linalg.norm(found.delta.astype(np.float64))) <= 5.0
    assert not found.header.is_within_clip


def test_a_hostile_node_does_not_keep_to_it() -> None:
    found = contributed(work([3.0, 4.0], bound=2.5, is_bounded=False), LAYOUT)
    assert found.delta.tolist() == [3.0, 4.0, 1.0]


def test_without_a_bound_every_length_is_within() -> None:
    assert contributed(work([3e9, 0.0]), LAYOUT).header.is_within_clip


def test_what_diverged_is_not_within_and_stays_as_it_is() -> None:
    found = contributed(work([math.nan, 1.0], bound=2.5, loss=math.nan), LAYOUT)
    assert np.isnan(found.delta[0]) and not found.header.is_within_clip
    assert found.header.loss == math.inf


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan, True, "2.5"])
def test_a_bound_that_is_no_length_is_refused(bound: Any) -> None:
    with pytest.raises(MessageError, match="must be positive, finite"):
        clip_bound(Assignment(settings={CLIP_BOUND: bound}))


def test_the_bound_is_part_of_what_all_members_agree_on() -> None:
    assignment = Assignment(settings={CLIP_BOUND: 2.5})
    other = dataclasses.replace(assignment, settings={CLIP_BOUND: 2.6})
    hashes = {work_hash(one, 1, "") for one in (assignment, other)}
    assert len(hashes) == 2


def test_shortening_keeps_the_number_type() -> None:
    short, _ = shortened(np.array([3.0, 4.0], np.float32), norm=5.0, bound=1.0)
    assert short.dtype == np.float32
    assert float(np.linalg.norm(short)) == pytest.approx(1.0, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_rounding_does_not_take_it_over_the_bound(seed: int, bound: float) -> None:
    delta = np.random.default_rng(seed).normal(0, 1e3, 64).astype(np.float32)
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    short, is_within = shortened(delta, norm=norm, bound=bound)
    assert is_within or float(np.linalg.norm(short.astype(np.float64))) <= bound
