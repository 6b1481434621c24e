import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.autonomy.negotiation import LiveRequest, Merit, agreement, closeness, precedence
from daafl.autonomy.records import STRENGTH, Decision, Effect, Request


def ask(level: str, by: str, *, benefit: float = 0.0, **bounds: float) -> LiveRequest:
    return LiveRequest(Request("lr", level, by, "why", **bounds), 9, Merit(benefit))


def test_requests_are_met() -> None:
    met = agreement(
        [ask("cost", "a", high=5.0), ask("privacy", "b", low=1.0, high=9.0), ask("cost", "c")],
        "lr",
        None,
    )
    assert (met.low, met.high, met.is_held) == (1.0, 5.0, True)
    assert met.by == ("b", "a", "c")


def test_the_stronger_level_goes_first_and_an_empty_meet_drops_the_weaker() -> None:
    weak = ask("cost", "weak", high=0.5)
    strong = ask("integrity", "strong", low=1.0)
    for order in ([weak, strong], [strong, weak]):
        met = agreement(order, "lr", None)
        assert (met.low, met.high, met.by) == (1.0, None, ("strong",))
        assert met.dropped == (weak.request,)


def test_inside_a_level_the_better_reason_goes_first() -> None:
    low, high = ask("cost", "low", benefit=0.1, high=0.5), ask("cost", "high", benefit=2, low=1.0)
    assert agreement([low, high], "lr", None).by == ("high",)


def test_privacy_and_safety_are_equals() -> None:
    safety = ask("safety", "safety", benefit=1.0, high=0.5)
    privacy = ask("privacy", "privacy", benefit=2.0, low=1.0)
    assert agreement([safety, privacy], "lr", None).by == ("privacy",)


def test_no_weaker_loop_binds_a_stronger_loops_knob() -> None:
    asks = [ask("learning", "greedy", high=0.1), ask("privacy", "guardian", high=0.7)]
    assert agreement(asks, "lr", "privacy").high == 0.7
    assert agreement(asks, "lr", "learning").high == 0.1
    assert agreement(asks[:1], "lr", "device").by == ()


ASKS = st.lists(
    st.builds(
        lambda level, by, low, width, benefit: ask(
            level, by, benefit=benefit, low=low, high=low + width
        ),
        st.sampled_from(sorted(STRENGTH)),
        st.sampled_from("abcdef"),
        st.integers(0, 5).map(float),
        st.integers(0, 3).map(float),
        st.integers(0, 3).map(float),
    ),
    max_size=6,
)


@given(ASKS)
def test_what_is_met_is_never_empty_and_keeps_the_strongest(asks: list[LiveRequest]) -> None:
    met = agreement(asks, "lr", None)
    if not asks:
        assert met.by == ()
        return
    assert met.low is not None and met.high is not None and met.low <= met.high
    strongest = min(STRENGTH[one.request.level] for one in asks)
    assert any(
        STRENGTH[one.request.level] == strongest and one.request not in met.dropped for one in asks
    )
    for one in asks:
        request = one.request
        if request not in met.dropped:
            assert request.low <= met.low and met.high <= request.high


QUARTERS = st.integers(-20, 20).map(lambda i: i / 4)


def plain_topsis(rows: list[list[float]]) -> list[float]:
    """TOPSIS in plain arithmetic, equal weights, larger is better: an independent oracle."""
    columns = list(zip(*rows, strict=True))
    lengths = [math.sqrt(sum(v * v for v in column)) or 1.0 for column in columns]
    scaled = [[v / n for v, n in zip(row, lengths, strict=True)] for row in rows]
    best = [max(column) for column in zip(*scaled, strict=True)]
    worst = [min(column) for column in zip(*scaled, strict=True)]
    result = []
    for row in scaled:
        up, down = math.dist(row, best), math.dist(row, worst)
        result.append(down / (up + down) if up + down else 1.0)
    return result


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(QUARTERS, min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
def test_closeness_is_plain_topsis(rows: list[list[float]]) -> None:
    result = closeness(np.array(rows))
    assert result == pytest.approx(plain_topsis(rows), abs=1e-6)
    assert np.all((result >= 0) & (result <= 1))


def test_topsis_by_hand() -> None:
    # Scaled: (.6, .8) and (.8, .6); each is best in one criterion: .2 away from either end.
    assert closeness(np.array([[3.0, 4.0], [4.0, 3.0]])).tolist() == pytest.approx([0.5, 0.5])
    # The first is best in both criteria.
    assert closeness(np.array([[4.0, 4.0], [3.0, 3.0]])).tolist() == [1.0, 0.0]


def test_precedence_is_lexicographic_outside_the_tolerance() -> None:
    cheap, good = Merit(0.94, {"bytes": 0.0}), Merit(1.0, {"bytes": 9.0})
    assert precedence([cheap, good]) == (1, 0)
    # At .96 of the best the benefit is equal enough, and the costs decide.
    assert precedence([Merit(0.96, {"bytes": 0.0}), good]) == (0, 1)


def test_precedence_keeps_the_order_of_equals() -> None:
    assert precedence([Merit(), Merit(), Merit()]) == (0, 1, 2)


@given(
    st.lists(
        st.builds(
            Merit,
            st.floats(-3, 3),
            st.dictionaries(st.sampled_from(["bytes", "joules"]), st.floats(0, 5)),
        ),
        max_size=6,
    )
)
def test_precedence_is_a_permutation(merits: list[Merit]) -> None:
    assert sorted(precedence(merits)) == list(range(len(merits)))


def test_merit_is_the_expected_effect_in_noise_units() -> None:
    effect = Effect("log_loss", 1.0, mean=0.3, sd=0.1, horizon=5)
    decision = Decision("a", "b", "c", "d", expect=effect, confidence=0.5, costs={"bytes": 1.0})
    merit = Merit.of(decision)
    assert merit.benefit == pytest.approx(1.5)
    assert merit.costs == {"bytes": 1.0}
    assert Merit.of(Decision("a", "b", "c", "d")) == Merit()
