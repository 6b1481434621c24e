"""What federations learn about their loops' actions, kept from run to run in one SQLite file.

One table holds the beliefs per (task, loop, state, action), one counts how actions ended, and one
remembers which decisions were learned from already, so that learning twice changes nothing.
Several runs may share a file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from daafl.autonomy.beliefs import Belief, Beliefs
from daafl.autonomy.records import Insight
from daafl.errors import StoreError

__all__ = ["Belief", "Beliefs", "Knowledge", "Pattern"]

MOST_REWARDS: Final = 10.0
"""Weight with which a run starts from experience: it must be able to change its mind."""

BUSY_S: Final = 10.0
"""How long to wait for another run that is writing."""

_VERSION: Final = 1
_SCHEMA: Final = """
create table if not exists beliefs (
    task text not null, loop text not null, state text not null, action text not null,
    n real not null, mean real not null,
    primary key (task, loop, state, action)
);
create table if not exists patterns (
    loop text not null, state text not null, action text not null,
    better integer not null, confirmed integer not null, worse integer not null,
    primary key (loop, state, action)
);
create table if not exists learned (
    run text not null, loop text not null, decision integer not null,
    primary key (run, loop, decision)
);
"""


@dataclass(frozen=True)
class Pattern:
    """How often an action in a state turned out better, as, or worse than expected."""

    loop: str
    state: str
    action: str
    better: int
    confirmed: int
    worse: int


class Knowledge:
    """Open knowledge base; `open` makes or opens a file.

    Examples
    --------
    >>> insight = Insight("lr", "halve", "rising", 1, "better", 0.1, 0.5, 2.0, "it helped", 2.0)
    >>> with Knowledge.open(":memory:") as knowledge:
    ...     knowledge.learn("run-1", insight), knowledge.learn("run-1", insight)
    ...     knowledge.snapshot()
    (True, False)
    {'lr/rising/halve': Belief(n=1.0, mean=2.0)}
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path | str) -> "Knowledge":
        """Open the knowledge base in a file, making it if there is none.

        Parameters
        ----------
        path
            The file; ``":memory:"`` keeps it in memory.

        Raises
        ------
        StoreError
            When the file cannot be opened or is something else.
        """
        with _told(f"knowledge {path}"):
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection)

    def snapshot(self, task: str = "") -> Beliefs:
        """Return the beliefs to start a run from, by `belief_key`.

        Parameters
        ----------
        task
            Fingerprint of the run's task. Experience with it counts for at most 10 rewards;
            experience with others stands in where there is none, at half its weight.
        """
        query = "select task, loop, state, action, n, mean from beliefs order by 2, 3, 4, n, 1"
        own: dict[str, Belief] = {}
        others: dict[str, Belief] = {}
        for row_task, loop, state, action, n, mean in self._rows(query):
            key = f"{loop}/{state}/{action}"
            weight = min(n, MOST_REWARDS)
            if row_task == task:
                own[key] = Belief(weight, mean)
            else:
                # Ordered by n: the task with the most experience speaks for the others.
                others[key] = Belief(weight / 2, mean)
        return {key: own.get(key) or others[key] for key in sorted(own.keys() | others.keys())}

    def learn(self, run: str, insight: Insight, *, task: str = "") -> bool:
        """Learn from an insight; return whether it was new.

        Parameters
        ----------
        run
            Identity under which decision numbers are unique: the run, and the target if it has
            several.
        insight
            What became of a decision.
        task
            Fingerprint of the run's task.
        """
        key = (insight.loop, insight.state, insight.action)
        with _told("knowledge"), self._transaction():
            cursor = self._connection.execute(
                "insert or ignore into learned values (?, ?, ?)",
                (run, insight.loop, insight.decision),
            )
            if cursor.rowcount == 0:
                return False
            row = self._connection.execute(
                "select n, mean from beliefs where task = ? and loop = ? and state = ? "
                "and action = ?",
                (task, *key),
            ).fetchone()
            belief = (Belief(*row) if row else Belief()).after(insight.reward)
            self._connection.execute(
                "insert or replace into beliefs values (?, ?, ?, ?, ?, ?)",
                (task, *key, belief.n, belief.mean),
            )
            self._connection.execute(
                "insert or ignore into patterns values (?, ?, ?, 0, 0, 0)", key
            )
            # The verdict is one of three literals, not free text.
            self._connection.execute(
                f"update patterns set {insight.verdict} = {insight.verdict} + 1 "
                "where loop = ? and state = ? and action = ?",
                key,
            )
        return True

    def patterns(self) -> tuple[Pattern, ...]:
        """Return how every action ended so far, sorted by loop, state and action."""
        query = (
            "select loop, state, action, better, confirmed, worse from patterns order by 1, 2, 3"
        )
        return tuple(Pattern(*row) for row in self._rows(query))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "Knowledge":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with _told("knowledge"):
            return self._connection.execute(query).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # Immediate: two runs that read before they write would otherwise lose one reward.
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")


def _prepare(connection: sqlite3.Connection, path: Path | str) -> None:
    """Make the tables in a new file; refuse a file of another format."""
    version = connection.execute("pragma user_version").fetchone()[0]
    if version == _VERSION:
        return
    tables = connection.execute("select count(*) from sqlite_master").fetchone()[0]
    if version or tables:
        raise StoreError(
            f"{path} is not a knowledge base of format {_VERSION}; choose another file"
        )
    connection.executescript(
        f"begin immediate; {_SCHEMA} pragma user_version = {_VERSION}; commit;"
    )


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what} cannot be used: {error}") from error
