import pytest
from flwr.clientapp import ClientApp

from daafl.simulation import InProcessGrid
from daafl.strategies import clock
from daafl.strategies.calling import StubGrid
from daafl.strategies.clock import Clock, WallClock, clock_of


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the list of all sleeps from now on; nobody really sleeps."""
    slept: list[float] = []
    monkeypatch.setattr(clock.time, "sleep", slept.append)
    return slept


def test_an_idle_clock_polls_less_and_less_often(naps: list[float]) -> None:
    wall = WallClock(first_pause_s=0.1, longest_pause_s=0.3)
    for _ in range(5):
        wall.wait(10.0)
    assert naps == pytest.approx([0.1, 0.15, 0.225, 0.3, 0.3])


def test_hearing_something_makes_it_attentive_again(naps: list[float]) -> None:
    wall = WallClock(first_pause_s=0.1, longest_pause_s=0.3)
    wall.wait(10.0)
    wall.wait(10.0)
    wall.heard()
    wall.wait(10.0)
    assert naps == pytest.approx([0.1, 0.15, 0.1])


def test_it_never_sleeps_longer_than_asked(naps: list[float]) -> None:
    wall = WallClock(first_pause_s=0.1)
    wall.wait(0.01)
    wall.wait(-1.0)
    assert naps == [0.01, 0.0]


def test_it_starts_at_zero_and_never_goes_back() -> None:
    wall = WallClock()
    first = wall.now_s()
    assert 0.0 <= first <= wall.now_s()


def test_a_run_that_resumes_goes_on_from_its_own_time() -> None:
    """An hour of the run has passed; how long nobody ran it does not count."""
    wall = WallClock()
    wall.resume(3600.0)
    first = wall.now_s()
    assert 3600.0 <= first <= wall.now_s()


def test_a_grid_that_keeps_time_is_the_clock() -> None:
    with InProcessGrid(ClientApp(), 1, workers=0) as grid:
        assert clock_of(grid) is grid
        assert isinstance(grid, Clock)
    assert isinstance(clock_of(StubGrid(1)), WallClock)
