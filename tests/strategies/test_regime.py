import itertools
from pathlib import Path

import pytest

from daafl.loops import default_loops
from daafl.strategies.compatibility import REGIMES, parts, table
from daafl.strategies.exchange import PlainExchange
from daafl.strategies.pacing import Pacing
from daafl.strategies.regime import Losses, Offer, Regime, Requirement, standing_down

BUFFERED = Pacing(concurrency=10, quorum=3, max_staleness=20, refill="reply")


def test_the_plain_exchange_shows_everything() -> None:
    assert Regime.of(PlainExchange.offers, Pacing()) == Regime(True, "per_node", True, cohort=10)
    assert not Regime.of(PlainExchange.offers, BUFFERED).synchronous
    assert not Regime.of(PlainExchange.offers, Pacing(max_staleness=1)).synchronous


@pytest.mark.parametrize(
    ("individuals", "losses", "synchronous", "needs"),
    list(
        itertools.product(
            (True, False),
            ("none", "noised", "per_group", "per_node"),
            (True, False),
            itertools.product((True, False), repeat=3),
        )
    ),
)
def test_a_part_runs_exactly_where_everything_it_needs_holds(
    individuals: bool, losses: Losses, synchronous: bool, needs: tuple[bool, bool, bool]
) -> None:
    regime = Regime(individuals, losses, synchronous)
    holds = (individuals, losses != "none", synchronous)
    runs = all(has or not need for need, has in zip(needs, holds, strict=True))
    assert (Requirement(*needs).lacking(regime) is None) == runs


def test_default_loops_run_in_the_open_and_say_why_they_stand_down_in_secrecy() -> None:
    assert standing_down(default_loops(), Regime.of(PlainExchange.offers, Pacing())) == {}
    secret = Regime.of(Offer(individuals=False, losses="none"), Pacing())
    absent = standing_down(default_loops(), secret)
    assert set(absent) == {"health", "learning_rate", "quality"}
    assert all("stands down: it needs" in sentence for sentence in absent.values())


def test_the_documented_table_is_the_one_the_code_gives() -> None:
    document = Path(__file__).parents[2] / "docs" / "compatibility.md"
    assert document.read_text(encoding="utf-8").rstrip().endswith(table().rstrip())


def test_every_part_meets_every_regime_in_the_table() -> None:
    rows = [line for line in table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list(parts())) == 12 + 8 + len(default_loops())
    for part, row in zip(parts(), rows, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")][2:]
        expected = [
            "yes" if part.requirement.lacking(regime) is None else "no"
            for regime in REGIMES.values()
        ]
        assert cells == expected
