"""Attackers of a scenario: who they are, what they do, and when."""

from importlib.resources import files

import pytest
import yaml

from daafl.config.building import built
from daafl.errors import ConfigError
from daafl.simulation.attacks import Attack, FreeRider, Lies, SignFlip, Sleeper
from daafl.simulation.scenario import Attackers, Scenario
from daafl.simulation.scenario.attackers import BEHAVIOURS, behaviour


def test_names_and_what_they_stand_for_are_those_of_the_configuration() -> None:
    found = {
        file.name.removesuffix(".yaml"): yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in files("daafl.conf").joinpath("attack").iterdir()
        if file.name.endswith(".yaml")
    }
    does = {name: built(values["does"]) for name, values in found.items() if values}
    assert set(does) == set(BEHAVIOURS)
    assert {name: repr(behaviour(name, {})) for name in does} == {
        name: repr(one) for name, one in does.items()
    }


def test_entries_become_attacks_with_nodes_and_times() -> None:
    lies = {"loss_factor": 10.0, "inverts_votes": True}
    first = Attackers(nodes="0-2", at_s=5.0, until_s=9.0, does="scaled_sign_flip", lies=lies)
    second = Attackers(nodes=[7], at_round=4, until_round=6, does="free_rider")
    attacks = Scenario(10, [first, second]).attacks()
    assert attacks == (
        Attack(
            SignFlip(3.0),
            nodes=[0, 1, 2],
            lies=Lies(loss_factor=10.0, inverts_votes=True),
            start_s=5.0,
            stop_s=9.0,
        ),
        Attack(FreeRider(), nodes=[7], start=4, stop=5),
    )
    assert Scenario(10, [first, second]).hostile_nodes == (0, 1, 2, 7)


def test_a_sleeper_is_told_what_it_does_by_name() -> None:
    values = {"does": "free_rider", "honest_rounds": 3}
    assert behaviour("sleeper", values) == Sleeper(FreeRider(), honest_rounds=3)


@pytest.mark.parametrize(
    ("does", "parameters", "sentence"),
    [
        ("wrong_shape", {"is_short": 1}, "parameters.is_short is 1, but must be like true"),
        ("backdoor", {"positions": [0, 1.5]}, "parameters.positions is (0, 1.5), but must be like"),
        ("adaptive", {"scales": [0.5, -1.0]}, "scales must be one or more positive numbers"),
        ("adaptive", {"rule": "magic"}, "rule is 'magic', but must be one of"),
        ("oversized", {"factor": 2.5}, "parameters.factor is 2.5, but must be like 16"),
        ("label_flip", {"num_classes": True}, "num_classes is true, but must be like 10"),
    ],
)
def test_parameters_of_the_wrong_kind_are_refused(
    does: str, parameters: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Attackers(does=does, parameters=parameters)
    assert sentence in str(caught.value)


def test_an_attack_may_hang_on_the_time() -> None:
    attack = Attack(SignFlip(), nodes=[1], start=2, start_s=10.0, stop_s=20.0)
    times_s = (9.9, 10.0, 19.9, 20.0)
    assert [attack.is_active(2, time_s) for time_s in times_s] == [False, True, True, False]
    assert not attack.is_active(1, 15.0)
    with pytest.raises(ConfigError, match=r"attack.stop_s is 5.0, but must come after"):
        Attack(SignFlip(), start_s=5.0, stop_s=5.0)
