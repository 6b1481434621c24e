import pytest

from daafl.errors import ConfigError
from daafl.simulation.scenario import (
    Attackers,
    Bandwidth,
    Churn,
    ConceptDrift,
    Crash,
    Duplication,
    Event,
    LabelDrift,
    LateReplies,
    LinkCut,
    MessageLoss,
    Partition,
    Reordering,
    Scenario,
    Stragglers,
)

ALL_LOST = MessageLoss(probability=1.0)


@pytest.mark.parametrize(
    ("one", "other", "rule"),
    [
        (Bandwidth(factor=2.0), Bandwidth(nodes=3, at_most_mbps=1.0), "one bandwidth at a time"),
        (Stragglers(factor=2.0), Stragglers(at_s=9.0, factor=3.0), "one stragglers at a time"),
        (Attackers(does="alie"), Attackers(does="sybils", nodes=2), "one attackers at a time"),
        (
            Attackers(does="alie", at_round=3, until_round=6),
            Attackers(does="alie", at_round=5),
            "from round 5 on; a node can be in one attackers",
        ),
        (
            Attackers(does="alie", at_round=3, until_round=6),
            Attackers(does="alie", at_s=500.0),
            "at rounds whose times are not known",
        ),
        (LinkCut(), Partition(groups=[[1]]), "one link_cut at a time"),
        (ALL_LOST, Duplication(probability=0.1), "messages that are all lost know no duplication"),
        (Reordering(delay_s=1.0, direction="to_nodes"), ALL_LOST, "know no reordering"),
        (MessageLoss(probability=1.0, direction="from_nodes"), LateReplies(delay_s=1.0), "late"),
        (Churn(present_s=1.0, away_s=1.0), Crash(at_s=5.0), "comes and goes cannot crash"),
        (LabelDrift(), LabelDrift(nodes=1), "one label_drift at a time"),
        (MessageLoss(probability=0.1), MessageLoss(probability=0.2, direction="to_nodes"), "loss"),
    ],
)
def test_what_cannot_both_hold_is_refused(one: Event, other: Event, rule: str) -> None:
    with pytest.raises(ConfigError, match=r"events\[1\].kind .* contradicts events\[0\]") as caught:
        Scenario(10, [one, other])
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Bandwidth(factor=2.0, until_s=9.0), Bandwidth(factor=3.0, at_s=9.0)),
        (Bandwidth(factor=2.0, nodes="0-4"), Bandwidth(factor=3.0, nodes="5-9")),
        (
            Bandwidth(factor=2.0, direction="to_nodes"),
            Bandwidth(factor=3.0, direction="from_nodes"),
        ),
        (MessageLoss(probability=1.0, direction="to_nodes"), LateReplies(delay_s=1.0)),
        (MessageLoss(probability=0.9), Duplication(probability=0.9)),
        (
            Attackers(does="alie", at_round=3, until_round=5),
            Attackers(does="sybils", at_round=5),
        ),
        (Churn(present_s=1.0, away_s=1.0, until_s=5.0), Crash(at_s=5.0)),
        (LabelDrift(), ConceptDrift(shift=1.0)),
        (Stragglers(factor=2.0), LinkCut()),
    ],
)
def test_what_can_both_hold_may(one: Event, other: Event) -> None:
    assert len(Scenario(10, [one, other]).events) == 2


def test_a_world_of_another_size_is_refused() -> None:
    from daafl.simulation.devices import Devices

    with pytest.raises(ConfigError, match="num_nodes is 10, but the federation has 4 nodes"):
        Scenario(10, [Crash()]).world(Devices.uniform(4))
