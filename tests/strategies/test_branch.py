import numpy as np
import pytest

from daafl.autonomy.hub import Hub
from daafl.autonomy.plan import Change, Plan
from daafl.errors import FederationError
from daafl.learning.layout import Layout
from daafl.learning.update import Update
from daafl.strategies.assignment import LOCAL_KNOBS
from daafl.strategies.branch import POINT_SPACING, Branch, Buffered
from daafl.strategies.fedexp import FedExP

LAYOUT = Layout.of({"w": np.zeros(2, np.float32)})


def packed(value: float) -> np.ndarray:
    return LAYOUT.packed(np.full(2, value, np.float32))


@pytest.fixture
def branch() -> Branch:
    optimizer = FedExP()
    optimizer.init(LAYOUT, packed(0.0))
    hub = Hub((), {knob.name: knob for knob in LOCAL_KNOBS})
    made = Branch("main", None, 0, packed(0.0), optimizer, Plan.of(LOCAL_KNOBS), hub.init())
    made.mark()
    return made


def test_a_restore_returns_to_the_newest_point_that_is_not_newer(branch: Branch) -> None:
    for value in (1.0, 2.0, 3.0):
        branch.adopt(packed(value))
    del branch.points[2]
    applied, _ = branch.restore(2, knobs=frozenset())
    assert applied == 1
    assert LAYOUT.vector(branch.packed).tolist() == [1.0, 1.0]


def test_versions_only_grow_and_later_points_are_gone(branch: Branch) -> None:
    for value in (1.0, 2.0, 3.0):
        branch.adopt(packed(value))
    branch.restore(1, knobs=frozenset())
    assert branch.version == 4
    assert sorted(branch.points) == [0, 1, 4]


def test_a_restore_gives_back_the_deciding_loops_knobs_at_that_point(branch: Branch) -> None:
    branch.adopt(packed(1.0))
    branch.plan = branch.plan.apply([Change("lr", 0.1, 3.0), Change("local_steps", 10, 5)])
    branch.adopt(packed(2.0))
    _, values = branch.restore(1, knobs=frozenset({"lr"}))
    assert values == {"lr": 0.1}
    assert branch.plan["local_steps"] == 5


def test_a_restore_forgets_what_came_from_the_abandoned_model(branch: Branch) -> None:
    branch.adopt(packed(1.0))
    update = Update(np.ones(2, np.float32), 4, (0,), 1, {})
    branch.buffer.append(Buffered(1, update))
    branch.direction = np.ones(2, np.float32)
    branch.restore(0, knobs=frozenset())
    assert branch.buffer == [] and branch.direction is None


def test_a_few_points_serve_all_that_are_wanted(branch: Branch) -> None:
    for value in range(1, 21):
        branch.adopt(packed(float(value)))
    branch.prune(wanted=frozenset({4, 5, 6, 7, 8, 9}), out=frozenset())
    assert sorted(branch.points) == [4, 20]


def test_wanted_versions_that_move_on_always_have_a_point_close_by(branch: Branch) -> None:
    for value in range(1, 41):
        branch.adopt(packed(float(value)))
        wanted = frozenset(range(max(branch.version - 5, 0), branch.version + 1))
        branch.prune(wanted=wanted, out=frozenset())
        held = sorted(branch.points)
        assert len(held) <= 3
        for asked in wanted:
            assert asked - max(v for v in held if v <= asked) < POINT_SPACING


def test_the_accepted_version_is_held_until_another_one_is(branch: Branch) -> None:
    branch.accepted = branch.version
    for value in range(1, 21):
        branch.adopt(packed(float(value)))
        branch.prune(wanted=frozenset(), out=frozenset())
    assert sorted(branch.points) == [0, 20]


def test_a_restore_below_the_accepted_version_accepts_what_it_restores(branch: Branch) -> None:
    for value in range(1, 5):
        branch.adopt(packed(float(value)))
    branch.accepted = 3
    branch.restore(1, knobs=frozenset())
    assert branch.accepted == branch.version == 5


def test_points_are_kept_while_updates_from_them_may_still_come(branch: Branch) -> None:
    for value in range(1, 21):
        branch.adopt(packed(float(value)))
    branch.buffer.append(Buffered(1, Update(np.ones(2, np.float32), 4, (0,), 7, {})))
    branch.prune(wanted=frozenset(), out=frozenset({2}))
    assert sorted(branch.points) == [2, 20]


def test_a_branch_without_points_says_so(branch: Branch) -> None:
    branch.points.clear()
    with pytest.raises(FederationError, match="holds no restore point"):
        branch.restore(0, knobs=frozenset())


def test_draws_count_how_often_a_node_is_asked_at_one_version(branch: Branch) -> None:
    assert [branch.next_draw(7), branch.next_draw(7), branch.next_draw(8)] == [0, 1, 0]
    branch.adopt(packed(1.0))
    assert branch.next_draw(7) == 0
