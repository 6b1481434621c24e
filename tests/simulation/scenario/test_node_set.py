import numpy as np
import pytest

from daafl.simulation.scenario.node_set import NodeSet, node_spec


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("all", "all"),
        (3, ((3, 3),)),
        ("0-9", ((0, 9),)),
        (" 4 - 6 ", ((4, 6),)),
        ([12, "0-9", 10], ((0, 10), (12, 12))),
        ([5, 5, "3-5"], ((3, 5),)),
        (((0, 4), (6, 6)), ((0, 4), (6, 6))),
    ],
)
def test_nodes_are_written_as_numbers_ranges_and_lists(written: object, means: object) -> None:
    assert node_spec(written) == means


@pytest.mark.parametrize("wrong", [-1, "9-0", "a", [], [True], 1.5, None, ["all"], [[1]], "1-2-3"])
def test_anything_else_is_refused_with_the_rule(wrong: object) -> None:
    with pytest.raises(ValueError, match="must be all, a node like 3, a range like 0-9"):
        node_spec(wrong)


def test_a_share_is_exact_and_within_its_ranges() -> None:
    drawn = NodeSet(1000, ((100, 199), (500, 599)), share=0.25, key=3)
    members = drawn.members()
    assert len(members) == drawn.size == 50
    assert all(100 <= node < 200 or 500 <= node < 600 for node in members)
    inside = drawn.contains(np.arange(1000))
    assert np.flatnonzero(inside).tolist() == members.tolist()
    assert members.tolist() != NodeSet(1000, drawn.ranges, share=0.25, key=4).members().tolist()


def test_a_share_of_few_is_at_least_one() -> None:
    assert len(NodeSet(3, ((0, 2),), share=0.01).members()) == 1


def test_a_million_nodes_are_drawn_without_a_list() -> None:
    drawn = NodeSet(1_000_000, ((0, 999_999),), share=0.1, key=1)
    assert int(drawn.contains(np.arange(1_000_000)).sum()) == 100_000


def test_common_nodes_of_two_sets() -> None:
    everyone = NodeSet(100, ((0, 99),))
    assert everyone.common(NodeSet(100, ((40, 50),))) == 40
    assert NodeSet(100, ((0, 39), (51, 60))).common(NodeSet(100, ((40, 50),))) is None
    half = NodeSet(100, ((0, 99),), share=0.5, key=1)
    assert half.common(everyone) == half.members()[0]
