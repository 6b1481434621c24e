from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pytest

from daafl.config.building import built, located
from daafl.config.checking import check_call, described, fits
from daafl.config.root import Root
from daafl.data.partition import Dirichlet, Iid, Partitioner
from daafl.errors import ConfigError

DIRICHLET = "daafl.data.partition.Dirichlet"
FLOWER = "flwr.serverapp.strategy"
PACING = "daafl.strategies.Pacing"

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"_target_": DIRICHLET, "alpha": "ten"}, "part.alpha is 'ten', but must be a number"),
    ({"_target_": DIRICHLET, "alpha": None}, "part.alpha is null, but must be a number"),
    (
        {"_target_": DIRICHLET, "alpha": 0},
        "part: Dirichlet has alpha=0; it must be a positive number",
    ),
    (
        {"_target_": DIRICHLET, "alfa": 1},
        "part.alfa=1 is not known: Dirichlet takes no alfa; did you mean alpha?",
    ),
    ({"_target_": DIRICHLET, "seed": True}, "part.seed is true, but must be an integer"),
    ({"_target_": "Dirichlet"}, "part._target_ is 'Dirichlet', but must be the dotted name"),
    ({"_target_": 3}, "part._target_ is 3, but must be the dotted name"),
    ({"_target_": "daafl.nope.X"}, "part._target_=daafl.nope.X names no class or function"),
    ({"_target_": DIRICHLET + "t"}, f"part._target_={DIRICHLET}t names no class or function"),
    ({"_target_": "daafl.errors.__doc__"}, "names no class or function"),
    ({"_target_": f"{FLOWER}.FedAdam", "eta": -1.0}, "part.eta is -1, but must be more than 0"),
    (
        {"_target_": f"{FLOWER}.FedAdam", "beta_1": 1.0},
        "part.beta_1 is 1, but must be within [0, 1)",
    ),
    (
        {"_target_": f"{FLOWER}.FedTrimmedAvg", "beta": 0.5},
        "part.beta is 0.5, but must be within [0, 0.5)",
    ),
    (
        {"_target_": f"{FLOWER}.FedAvg", "fraction_train": 1.5},
        "part.fraction_train is 1.5, but must be within [0, 1]",
    ),
    (
        {"_target_": f"{FLOWER}.FedProx", "proximal_mu": float("nan")},
        "part.proximal_mu is nan, but must be 0 or more",
    ),
    (
        {"_target_": f"{FLOWER}.QFedAvg"},
        "part.client_learning_rate has no value; QFedAvg needs one",
    ),
    ({"_target_": PACING, "refill": "st"}, "part.refill is 'st', but must be one of step, reply"),
    ({"_target_": PACING, "quorum": 20}, "pacing.quorum is 20, but at most pacing.concurrency"),
    (
        {"_target_": "daafl.simulation.Devices.uniform", "num_nodes": 3, "latency_s": -1.0},
        "part: latency_s",
    ),
]


@pytest.mark.parametrize(("node", "sentence"), MISTAKES, ids=lambda value: str(value))
def test_a_wrong_value_is_refused_in_one_sentence(node: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(node, "part")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objects_are_built_inside_out() -> None:
    shifted = built(
        {
            "_target_": "daafl.data.partition.FeatureShift",
            "strength": 0.5,
            "base": {"_target_": "daafl.data.partition.Iid", "seed": 4},
        }
    )
    assert shifted.base == Iid(seed=4)
    assert shifted.strength == 0.5


def test_a_mistake_deep_inside_has_its_whole_path() -> None:
    node = {
        "_target_": "daafl.data.partition.FeatureShift",
        "base": {"_target_": "daafl.data.partition.Iid", "sed": 4},
    }
    with pytest.raises(ConfigError, match=r"partition\.base\.sed=4 is not known"):
        built(node, "partition")


def test_without_a_target_values_stay_what_they_are() -> None:
    assert built({"a": [1, {"b": 2}]}) == {"a": [1, {"b": 2}]}
    assert built([{"_target_": DIRICHLET, "alpha": 2}]) == [Dirichlet(2)]


def test_a_partial_target_lacks_what_it_gets_later() -> None:
    make = built(
        {
            "_target_": "daafl.simulation.InProcessGrid",
            "_partial_": True,
            "message_timeout_s": 3.0,
        }
    )
    assert isinstance(make, partial)
    assert make.keywords == {"message_timeout_s": 3.0}


def test_a_partial_target_is_checked_as_far_as_it_goes() -> None:
    node = {"_target_": "daafl.simulation.InProcessGrid", "_partial_": True}
    with pytest.raises(ConfigError, match=r"grid\.message_timeout_s is 'x', but must be a number"):
        built({**node, "message_timeout_s": "x"}, "grid")


def test_a_class_method_is_a_target() -> None:
    assert located("daafl.simulation.Devices.uniform", "")(2).seconds_per_step.shape == (2,)


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import daafl_missing_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="needs the package daafl_missing_package"):
        located("needs_more.Thing", "task._target_")


@dataclass(frozen=True)
class Sample:
    numbers: list[int]


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (1, bool, False),
        (None, int | None, True),
        ("a", int | str, True),
        ("step", Literal["step", "reply"], True),
        (True, Literal[1], False),
        ([1], list[int], True),
        (["a"], list[int], False),
        ("ab", Sequence[str], False),
        (["a"], Sequence[str], True),
        (Iid(), Partitioner, True),
        ("iid", Partitioner, False),
        (None, Partitioner, False),
        (Sample([1]), Sample, True),
        (3, Sample, False),
        (object(), Any, True),
    ],
)
def test_whether_a_value_is_of_a_type(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_types_in_words() -> None:
    assert described(int | None) == "an integer or null"
    assert described(Literal["a", "b"]) == "one of a, b"
    assert described(list[int]) == "a list of integers"
    assert described(dict[str, int]) == "a mapping"
    assert described(Partitioner) == "a Partitioner"


def test_a_function_that_takes_anything_is_not_second_guessed() -> None:
    def takes_anything(**values: int) -> None:
        """Do nothing."""

    check_call(takes_anything, {"whatever": 1})


def test_the_run_wide_values_are_a_schema() -> None:
    values = {
        "seed": 0,
        "num_nodes": 1,
        "num_rounds": 1,
        "evaluate_every": 0,
        "workers": None,
        "trainer": "auto",
        "baseline": False,
        "checkpoint_every": 1,
        "knowledge": "fresh",
        "overrides": [],
        "output_dir": None,
    }
    check_call(Root, values)
    assert Root(**values).num_nodes == 1
