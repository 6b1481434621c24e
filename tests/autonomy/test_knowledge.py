import sqlite3
from pathlib import Path

import pytest

from daafl.autonomy.beliefs import Belief
from daafl.autonomy.knowledge import Knowledge, Pattern
from daafl.autonomy.records import Insight, Verdict
from daafl.errors import StoreError


def insight(number: int, reward: float, verdict: Verdict = "better", state: str = "s") -> Insight:
    return Insight("lr", "halve", state, number, verdict, 0.0, 0.0, 0.0, "a test", reward)


def test_beliefs_are_carried_from_run_to_run(tmp_path: Path) -> None:
    path = tmp_path / "knowledge.sqlite"
    with Knowledge.open(path) as knowledge:
        assert knowledge.snapshot() == {}
        assert knowledge.learn("one", insight(1, 1.0))
        assert knowledge.learn("one", insight(2, 0.0))
    with Knowledge.open(path) as knowledge:
        # n = .97 + 1; mean = 1 + (0 - 1) / 1.97
        assert knowledge.snapshot() == {
            "lr/s/halve": Belief(pytest.approx(1.97), pytest.approx(1 - 1 / 1.97))
        }


def test_learning_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "knowledge.sqlite"
    with Knowledge.open(path) as knowledge:
        knowledge.learn("one", insight(1, 1.0))
        before = (knowledge.snapshot(), knowledge.patterns())
        assert not knowledge.learn("one", insight(1, -3.0, "worse"))
        assert (knowledge.snapshot(), knowledge.patterns()) == before
        # Another run's first decision is another decision.
        assert knowledge.learn("two", insight(1, 1.0))


def test_old_experience_can_be_overruled() -> None:
    with Knowledge.open(":memory:") as knowledge:
        for number in range(100):
            knowledge.learn("one", insight(number, 2.0))
        assert knowledge.snapshot() == {"lr/s/halve": Belief(10.0, pytest.approx(2.0))}


def test_experience_with_another_task_counts_half_and_only_as_a_stand_in() -> None:
    with Knowledge.open(":memory:") as knowledge:
        for number in range(40):
            knowledge.learn("one", insight(number, 2.0), task="digits")
        knowledge.learn("one", insight(90, -1.0, state="t"), task="digits")
        knowledge.learn("two", insight(1, 1.0, state="t"), task="words")
        assert knowledge.snapshot("words") == {
            "lr/s/halve": Belief(5.0, pytest.approx(2.0)),
            "lr/t/halve": Belief(1.0, 1.0),
        }
        # Of several other tasks the one with the most experience stands in.
        assert knowledge.snapshot("sounds")["lr/s/halve"] == Belief(5.0, pytest.approx(2.0))


def test_patterns_count_how_actions_ended() -> None:
    with Knowledge.open(":memory:") as knowledge:
        verdicts: list[Verdict] = ["better", "worse", "worse", "confirmed"]
        for number, verdict in enumerate(verdicts):
            knowledge.learn("one", insight(number, 0.0, verdict))
        knowledge.learn("one", insight(9, 0.0, "better", state="a"))
        assert knowledge.patterns() == (
            Pattern("lr", "a", "halve", 1, 0, 0),
            Pattern("lr", "s", "halve", 1, 1, 2),
        )


def test_two_runs_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "knowledge.sqlite"
    with Knowledge.open(path) as one, Knowledge.open(path) as two:
        for number in range(5):
            one.learn("one", insight(number, 1.0))
            two.learn("two", insight(number, 1.0))
        assert one.snapshot() == two.snapshot()
        assert sum(vars(two.patterns()[0])[name] for name in ("better", "worse")) == 10


def test_another_file_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and rather many of them\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be used"):
        Knowledge.open(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("create table people (name text)")
    connection.close()
    with pytest.raises(StoreError, match="not a knowledge base of format 1"):
        Knowledge.open(other)
    with pytest.raises(StoreError, match="cannot be used"):
        Knowledge.open(tmp_path / "missing" / "folder.sqlite")
