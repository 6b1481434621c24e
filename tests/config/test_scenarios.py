"""Scenarios as a configuration chooses them."""

from pathlib import Path

import pytest
import yaml

from daafl.config.composition import compose, stored
from daafl.config.groups import option_groups
from daafl.config.launching import parts
from daafl.errors import ConfigError
from daafl.simulation.scenario import Scenario

SHIPPED = [
    option.name for option in option_groups()["scenario"] if option.name not in ("none", "custom")
]
SMALL = ["task=digits", "partition=iid"]


@pytest.mark.parametrize("num_nodes", [2, 30])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_scenario_fits_any_federation_and_seed(name: str, num_nodes: int) -> None:
    for seed in range(3):
        overrides = [*SMALL, f"scenario={name}", f"seed={seed}", f"num_nodes={num_nodes}"]
        scenario = parts(compose([*overrides, "pacing.concurrency=2", "pacing.quorum=2"]))[
            "scenario"
        ]
        assert isinstance(scenario, Scenario)
        assert (scenario.name, scenario.seed) == (name, seed)
        assert len(scenario.events) >= 3 and scenario.description


def test_nothing_happens_unless_it_is_asked_for() -> None:
    assert "scenario" not in parts(compose(SMALL))


def test_a_seed_of_its_own() -> None:
    assert parts(compose([*SMALL, "scenario=churn", "scenario.seed=9"]))["scenario"].seed == 9


def test_a_file_of_ones_own_is_chosen_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("events: [{kind: crash, nodes: 3, at_s: 9}]")
    for written in ("mine.yaml", "./mine.yaml", str(tmp_path / "mine.yaml")):
        composition = compose([*SMALL, f"scenario={written}", "seed=4"])
        scenario = parts(composition)["scenario"]
        assert (scenario.name, scenario.seed, len(scenario.events)) == ("mine", 4, 1)
        again = stored(yaml.safe_dump(dict(composition.shown)))
        assert parts(again)["scenario"] == scenario


def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^scenario=storn is not known; did you mean storm\?"):
        compose(["scenario=storn"])
    with pytest.raises(ConfigError, match=r"^the scenario gone.yaml cannot be read: No such file"):
        parts(compose([*SMALL, "scenario=gone.yaml"]))
    with pytest.raises(ConfigError, match=r"^scenario.path has no value"):
        compose(["scenario=custom"])
    Path("mine.yaml").write_text("events:\n- kind: label_drift\n  classes: [77]\n")
    with pytest.raises(ConfigError, match=r"^scenario mine: label_drift moves nodes to classes"):
        parts(compose([*SMALL, "scenario=mine.yaml"]))
