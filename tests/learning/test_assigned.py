import pytest

from daafl.errors import MessageError
from daafl.keyed_random import mixed
from daafl.learning.assigned import assigned_key, assigned_work
from daafl.learning.work import LocalWork
from daafl.messages import PROXIMAL_MU, Assignment


def test_the_work_is_what_the_assignment_says() -> None:
    assignment = Assignment(lr=0.3, local_steps=7, batch_size=5, settings={PROXIMAL_MU: 2})
    assert assigned_work(assignment) == LocalWork(0.3, 7, 5, proximal_mu=2.0)
    assert assigned_work(Assignment()).proximal_mu == 0.0


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan"), True, "much"])
def test_a_proximal_weight_that_is_no_number_is_refused(value: float | str) -> None:
    with pytest.raises(MessageError, match="proximal-mu is"):
        assigned_work(Assignment(settings={PROXIMAL_MU: value}))


def test_randomness_is_a_function_of_seed_node_version_and_draw() -> None:
    asked = Assignment(seed=3, version=4, draw=1)
    assert assigned_key(asked, 2) == int(mixed(3, 2, 4, 1))
    again = Assignment(seed=3, version=4, draw=1, ticket=99, lr=1.0)
    assert assigned_key(again, 2) == assigned_key(asked, 2)
    changed = [Assignment(seed=4, version=4, draw=1), Assignment(seed=3, version=4, draw=2)]
    keys = {assigned_key(asked, 2), assigned_key(asked, 3)} | {assigned_key(a, 2) for a in changed}
    assert len(keys) == 4
