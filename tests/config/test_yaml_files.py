"""Every configuration file against the constructor it is for."""

import inspect
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from daafl.config.building import built, located
from daafl.config.checking import FLOWER_RANGES, fits, type_hints
from daafl.config.composition import compose
from daafl.config.groups import default_options, option_groups
from daafl.config.launching import parts
from daafl.config.root import Root

CONF = Path(str(files("daafl.conf")))
YAML_FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
CHOICES = [
    (group, option.name)
    for group, options in option_groups().items()
    for option in options
    if (group, option.name) not in {("fleet", "trace"), ("scenario", "custom"), ("task", "custom")}
]
# Wine is too small for thirty nodes of eight rows each.
FEWER_NODES = {"wine": ["num_nodes=10"]}
# Inputs must be numbers, and classes at least as many as are renamed.
FITTING = {
    "next_character": ["partition=iid"],
}


def targets(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping with a target, nested ones too."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def nodes_of(file: str) -> list[Mapping[str, Any]]:
    return list(targets(yaml.safe_load((CONF / file).read_text(encoding="utf-8"))))


def test_there_are_files_for_every_group() -> None:
    assert set(option_groups()) >= {
        "attack",
        "fleet",
        "experiment",
        "grid",
        "loop/health",
        "loop/learning_rate",
        "pacing",
        "partition",
        "stopping",
        "strategy",
        "task",
        "training",
    }


@pytest.mark.parametrize("file", [name for name in YAML_FILES if nodes_of(name)])
def test_keys_are_the_parameters_of_the_target(file: str) -> None:
    document = yaml.safe_load((CONF / file).read_text(encoding="utf-8"))
    assert next(iter(document)) == "_target_"
    for node in nodes_of(file):
        target = located(node["_target_"], file)
        parameters = inspect.signature(target).parameters
        keys = set(node) - {"_target_", "_partial_"}
        assert keys <= set(parameters), f"{file} sets keys that {target} does not take"
        if not node.get("_partial_"):
            required = {n for n, p in parameters.items() if p.default is p.empty}
            assert required <= keys, f"{file} lacks keys that {target} needs"


@pytest.mark.parametrize("file", [name for name in YAML_FILES if nodes_of(name)])
def test_the_types_of_every_target_can_be_checked(file: str) -> None:
    for node in nodes_of(file):
        target = located(node["_target_"], file)
        keys = set(node) - {"_target_", "_partial_"}
        assert keys <= set(type_hints(target)), f"types of {target} cannot be resolved"
        for key in keys:
            value = node[key]
            if not isinstance(value, Mapping | str):
                assert fits(value, type_hints(target)[key]), f"{file}: {key}={value!r}"


def test_ranges_are_those_of_parameters_that_exist() -> None:
    import flwr.serverapp.strategy as strategies

    known = {
        parameter
        for name in strategies.__all__
        for parameter in inspect.signature(getattr(strategies, name)).parameters
    }
    assert set(FLOWER_RANGES) <= known


def test_every_file_says_in_its_first_comment_what_it_is() -> None:
    for group, options in option_groups().items():
        for option in options:
            assert option.description, f"{group}/{option.name}.yaml has no description"
            assert len(option.description) <= 100


def test_experiments_say_how_to_run_them() -> None:
    for option in option_groups()["experiment"]:
        assert f"daafl run experiment={option.name}" in option.description


def test_the_defaults_list_chooses_from_every_group_but_the_experiments() -> None:
    assert set(default_options()) == set(option_groups()) - {"experiment"}


def test_the_root_of_the_configuration_has_exactly_the_fields_of_root() -> None:
    document = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    assert set(document) - {"defaults"} == set(Root.__annotations__)


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=lambda value: str(value))
def test_every_choice_composes_and_builds(group: str, option: str) -> None:
    extra = FEWER_NODES.get(option, []) + FITTING.get(option, [])
    composition = compose([f"{group}={option}", *extra])
    assert composition.choices[group] == option
    arguments = parts(composition)
    assert arguments["num_rounds"] == composition.config["num_rounds"]


def test_off_means_absent() -> None:
    off = ["loop/learning_rate=off", "loop/health=off", "loop/quality=off", "stopping=off"]
    arguments = parts(compose(off))
    assert arguments["loops"] == []
    assert "stopping" not in arguments


def test_the_loops_of_the_configuration_are_the_default_loops() -> None:
    from daafl.loops import default_loops

    configured = [loop.policy for loop in parts(compose())["loops"]]
    assert configured == [loop.policy for loop in default_loops()]


def test_the_task_gets_the_chosen_partitioner() -> None:
    task = parts(compose(["partition=shards", "partition.shards_per_node=3", "seed=5"]))["task"]
    assert task.partitioner == built(
        {"_target_": "daafl.data.partition.Shards", "shards_per_node": 3, "seed": 5}
    )
