import pytest

from daafl.autonomy.plan import Plan
from daafl.errors import ConfigError
from daafl.strategies.pacing import PACING_KNOBS, Pacing

SETTINGS = {
    "synchronous": Pacing(concurrency=10, quorum=10),
    "over_selected": Pacing(concurrency=13, quorum=10, reply_timeout_s=6.0),
    "deadline": Pacing(concurrency=10, quorum=10, deadline_s=1.5),
    "buffered": Pacing(concurrency=10, quorum=3, max_staleness=20, refill="reply"),
}


@pytest.mark.parametrize("pacing", SETTINGS.values(), ids=SETTINGS)
def test_a_plan_holds_every_pacing_without_loss(pacing: Pacing) -> None:
    assert Pacing.of(Plan.of(PACING_KNOBS, pacing.values())) == pacing


def test_share_is_k_over_m_only_when_buffered() -> None:
    assert SETTINGS["buffered"].share(30) == pytest.approx(0.3)
    assert SETTINGS["over_selected"].share(30) == 1.0


def test_a_plan_whose_quorum_outgrew_its_concurrency_still_paces() -> None:
    plan = Plan.of(PACING_KNOBS, {**Pacing().values(), "concurrency": 4})
    assert Pacing.of(plan).quorum == 4


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"quorum": 11}, "quorum is 11.*10 assignments"),
        ({"concurrency": 0}, "concurrency is 0.*within"),
        ({"deadline_s": -1.0}, "deadline_s is -1.0"),
        ({"refill": "never"}, "refill is 'never'.*step, reply"),
        ({"quorum": 3, "refill": "reply"}, "max_staleness is 0"),
    ],
)
def test_contradictions_are_refused_with_key_value_and_rule(
    wrong: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Pacing(**wrong)  # type: ignore[arg-type]
