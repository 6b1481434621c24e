from dataclasses import replace
from types import SimpleNamespace

import pytest

from daafl.errors import ConfigError


def names(toys: SimpleNamespace, hub: object) -> list[str]:
    runner = toys.Runner(hub)
    result = runner.cycle(**{loop.policy.name: toys.Order() for loop in hub.loops})
    return [decision.loop for decision in result.decisions]


def test_loops_reason_after_those_they_depend_on(toys: SimpleNamespace) -> None:
    hub = toys.hub(
        toys.loop("a", depends_on=("c",)), toys.loop("b"), toys.loop("c", depends_on=("b",))
    )
    assert names(toys, hub) == ["b", "c", "a"]


def test_a_circle_of_dependencies_is_named(toys: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match=r"in a circle: .*a.*b|in a circle: .*b.*a"):
        toys.hub(toys.loop("a", depends_on=("b",)), toys.loop("b", depends_on=("a",)))


def test_names_are_unique_snake_case_and_not_the_hubs(toys: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="two loops called a"):
        toys.hub(toys.loop("a"), toys.loop("a"))
    for name in ("hub", "Upper", "a/b", ""):
        with pytest.raises(ConfigError, match="cannot be called"):
            toys.hub(toys.loop(name))


def test_a_knob_has_one_owner(toys: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="lr has two owners, a and b"):
        toys.hub(toys.loop("a", toys.knob("lr", "a")), toys.loop("b", toys.knob("lr", "b")))
    with pytest.raises(ConfigError, match="loop a declares knob lr, but its owner is b"):
        toys.hub(toys.loop("a", toys.knob("lr", "b")))


def test_a_hub_holds_its_loops_knobs_under_their_names(toys: SimpleNamespace) -> None:
    lr = toys.knob("lr", "a")
    hub = toys.hub(toys.loop("a", lr))
    with pytest.raises(ConfigError, match="owns knob lr, which its hub does not hold"):
        replace(hub, knobs={})
    with pytest.raises(ConfigError, match="by their own names"):
        replace(hub, knobs={"rate": lr})


def test_loops_and_knobs_share_one_scope(toys: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="knob lr has the scope node, but loop a has branch"):
        toys.hub(toys.loop("a", toys.knob("lr", "a", scope="node")))
    with pytest.raises(ConfigError, match="loop b has the scope federation"):
        toys.hub(toys.loop("a"), toys.loop("b", scope="federation"))


def test_dependencies_and_influences_are_known(toys: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="loop a depends on quality, which is no loop"):
        toys.hub(toys.loop("a", depends_on=("quality",)))
    lr = toys.knob("local_steps", "a")
    with pytest.raises(ConfigError, match=r"influences local_step, .* did you mean local_steps"):
        toys.hub(toys.loop("a", lr), toys.loop("b", influences=("local_step",)))
    # A metric that a loop observes, a general one, and a knob of another hub are known.
    toys.hub(
        toys.loop("a", influences=("metric", "bytes", "concurrency")),
        elsewhere=frozenset({"concurrency"}),
    )


def test_a_window_is_at_least_a_tick(toys: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="at least 1 tick"):
        toys.hub(toys.loop("a"), window=0)
