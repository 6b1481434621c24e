import contextlib
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from daafl.errors import BudgetError, ConfigError, StoreError
from daafl.privacy.accountant import epsilon, noise_multiplier_for
from daafl.privacy.budget import Budget, Budgets, would_exceed
from daafl.privacy.ledger import FILE, Debit, Ledger
from daafl.privacy.release import Release

# Rate, noise multiplier, steps; then epsilon at delta 1e-5 by dp-accounting 0.6.0 (RDP, PLD).
ORACLE = [
    ([(0.01, 1.0, 1000)], 2.1014, 1.8282),
    ([(0.1, 2.0, 500)], 6.0346, 5.5555),
    ([(1.0, 5.0, 50)], 7.0774, 6.5730),
    ([(1.0, 1.0, 1)], 4.7285, 4.3772),
    ([(0.02, 0.7, 3000)], 17.6944, 16.0805),
    ([(0.3, 10.0, 1)], 0.1253, 0.1028),
    ([(0.001, 0.5, 100)], 3.5981, 2.1086),
    ([(0.01, 1.0, 100), (1.0, 20.0, 10), (0.1, 3.0, 200)], 2.4087, 2.1923),
]


def poisson(parts):
    return [Release(z, steps, rate, "poisson") for rate, z, steps in parts]


@pytest.mark.parametrize(("parts", "rdp", "pld"), ORACLE)
def test_epsilon_is_that_of_another_library(parts, rdp, pld):
    assert epsilon(poisson(parts), 1e-5, "prv") == pytest.approx(pld, rel=0.01)
    assert epsilon(poisson(parts), 1e-5, "prv") >= pld - 1e-4
    # Never more than theirs; less where they look at fewer orders.
    assert 0.9 * rdp < epsilon(poisson(parts), 1e-5, "rdp") <= rdp * 1.0001


def test_prv_bounds_the_exact_gaussian_mechanism():
    # Balle and Wang (2018), theorem 8: Gaussian releases of z_i are one of (sum z_i**-2)**-1/2.
    z = 5.0 / 50**0.5

    def excess(target):
        return (
            norm.cdf(0.5 / z - target * z)
            - math.exp(target) * norm.cdf(-0.5 / z - target * z)
            - 1e-5
        )

    exact = brentq(excess, 0.1, 20)
    assert exact <= epsilon([Release(5.0, 50)], 1e-5) <= 1.01 * exact


def test_only_poisson_sampling_earns_credit():
    full = epsilon([Release(2.0, 10)], 1e-5)
    for sampling in ("shuffled", "fixed_size", "all"):
        assert epsilon([Release(2.0, 10, 0.01, sampling)], 1e-5) == full
    assert epsilon([Release(2.0, 10, 0.01, "poisson")], 1e-5) < full / 5


def test_no_release_costs_nothing_and_no_noise_everything():
    assert epsilon([], 1e-5) == epsilon([Release(1.0, 0)], 1e-5) == 0.0
    assert epsilon([Release(0.0)], 1e-5) == math.inf


@settings(max_examples=30, deadline=None)
@given(st.floats(0.6, 20), st.integers(1, 500), st.floats(0.001, 1.0))
def test_more_steps_cost_more_and_rdp_bounds_prv(z, steps, rate):
    one = [Release(z, steps, rate, "poisson")]
    assert epsilon(one, 1e-5, "prv") <= epsilon(one, 1e-5, "rdp")
    assert epsilon(one, 1e-5, "rdp") <= epsilon([*one, Release(z)], 1e-5, "rdp")


@pytest.mark.parametrize("target", [1.0, 8.0])
@pytest.mark.parametrize("accounting", ["rdp", "prv"])
def test_calibrated_noise_meets_its_target(target, accounting):
    terms = {"steps": 300, "rate": 0.05, "sampling": "poisson"}
    z = noise_multiplier_for(target, 1e-5, accounting=accounting, **terms)
    spent = epsilon([Release(z, **terms)], 1e-5, accounting)
    assert 0.98 * target < spent <= target


def test_what_no_noise_can_save_is_refused():
    with pytest.raises(ConfigError, match="no noise keeps"):
        noise_multiplier_for(1.0, 1e-5, steps=10, spent=[Release(0.1)])


def test_a_budget_is_asked_first_and_kept(tmp_path):
    # One release at z = 1 costs 4.377 at 1e-5, two cost that at 1 / sqrt(2), above 6.
    budgets = Budgets(Ledger(tmp_path / "p"), Budget(6.0, 1e-5))
    assert not budgets.would_exceed("node:1", Release(1.0))
    budgets.spend(Debit("node:1", "v0", Release(1.0)))
    assert budgets.epsilon("node:1") == pytest.approx(4.377, rel=0.01)
    assert budgets.would_exceed("node:1", Release(1.0))
    size = (tmp_path / "p" / FILE).stat().st_size
    with pytest.raises(BudgetError, match="would exceed"):
        budgets.spend(Debit("node:1", "v1", Release(1.0)))
    assert (tmp_path / "p" / FILE).stat().st_size == size
    assert not budgets.would_exceed("node:2", Release(1.0))


def test_a_replay_with_the_same_noise_is_debited_once(tmp_path):
    budgets = Budgets(Ledger(tmp_path / "p"), Budget(100.0, 1e-5))
    debit = Debit("node:1", "v0", Release(1.0))
    budgets.spend(debit, is_replay=True)
    budgets.spend(debit, is_replay=True)
    once = budgets.epsilon("node:1")
    budgets.spend(debit)
    assert budgets.epsilon("node:1") > once


def test_a_budget_only_gets_tighter(tmp_path):
    budgets = Budgets(Ledger(tmp_path / "p"), Budget(4.0, 1e-5), {"node:1": Budget(9.0, 1e-6)})
    assert budgets.of("node:1") == Budget(4.0, 1e-6)
    budgets.tighten("node:1", epsilon=2.0)
    budgets.tighten("node:1", epsilon=3.0)
    assert budgets.of("node:1").epsilon == 2.0
    assert would_exceed([], Release(1.0), budgets.of("node:1"))


def filled(folder, count=3):
    ledger = Ledger(folder)
    ledger.write(
        [Debit("federation", f"v{i}", Release(1.0 + i, 2, 0.5, "poisson")) for i in range(count)]
    )
    return ledger


def test_spending_outlives_the_process(tmp_path):
    before = filled(tmp_path / "p").spent("federation")
    again = Ledger(tmp_path / "p", must_exist=True)
    assert again.spent("federation") == before
    assert [release.steps for release in before] == [2, 2, 2]


def test_a_kill_at_any_byte_loses_only_what_was_not_yet_debited(tmp_path):
    filled(tmp_path / "p")
    data = (tmp_path / "p" / FILE).read_bytes()
    for size in range(len(data) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / FILE).write_bytes(data[:size])
        ledger = Ledger(folder)
        assert len(ledger.spent("federation")) == data[:size].count(b"\n")
        ledger.write([Debit("federation", "next", Release(9.0))])
        assert Ledger(folder).has(Debit("federation", "next", Release(9.0)))


def test_a_debit_is_on_the_disk_when_the_process_is_killed_after_it(tmp_path):
    program = (
        "import os, pathlib, signal, sys\n"
        "from daafl.privacy.ledger import Debit, Ledger\n"
        "from daafl.privacy.release import Release\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "ledger.write([Debit('node:1', 'v0', Release(1.0))])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "p")], check=False)
    assert ended.returncode != 0
    assert Ledger(tmp_path / "p").spent("node:1") == (Release(1.0, 1, 1.0, "poisson"),)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("p")
    filled(folder)
    content = bytearray((folder / FILE).read_bytes())
    place = data.draw(st.integers(0, len(content) - 2))
    new = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
    content[place] = new
    (folder / FILE).write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        Ledger(folder)


@pytest.mark.parametrize("order", [[1, 2], [0, 2], [0, 2, 1], [0, 0, 1, 2]])
def test_lines_taken_out_moved_or_repeated_are_found(tmp_path, order):
    filled(tmp_path)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join(lines[index] for index in order))
    with pytest.raises(StoreError, match="damaged"):
        Ledger(tmp_path)


def test_a_lost_ledger_is_refused(tmp_path):
    with pytest.raises(StoreError, match="missing"):
        Ledger(tmp_path / "p", must_exist=True)


def test_a_ledger_that_something_else_wrote_to_takes_no_debit(tmp_path):
    first = filled(tmp_path / "p")
    Ledger(tmp_path / "p").write([Debit("node:2", "v0", Release(1.0))])
    for _ in range(2):
        with pytest.raises(StoreError):
            first.write([Debit("node:1", "v0", Release(1.0))])


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_ledger_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("p")
    (folder / FILE).write_bytes(content)
    with contextlib.suppress(StoreError):
        assert Ledger(folder).accounts == ()


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_debits_that_are_lost_at_the_end_are_noticed(tmp_path, kept):
    ledger = Ledger(tmp_path)
    for step in range(3):
        ledger.write([Debit("federation", f"v{step}", Release(1.0))])
    del ledger
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join(lines[:kept]))
    with pytest.raises(StoreError, match=f"{3 - kept} debits are missing at its end"):
        Ledger(tmp_path)


def test_another_ledger_of_the_same_length_is_noticed(tmp_path):
    for name in ("a", "b"):
        Ledger(tmp_path / name).write([Debit("federation", name, Release(1.0))])
    (tmp_path / "a" / FILE).write_bytes((tmp_path / "b" / FILE).read_bytes())
    with pytest.raises(StoreError, match="another one"):
        Ledger(tmp_path / "a")


@pytest.mark.parametrize("text", ["", None])
def test_a_note_that_was_lost_with_the_power_stops_nobody(tmp_path, text):
    Ledger(tmp_path).write([Debit("federation", "v0", Release(1.0))])
    head = tmp_path / "ledger.head"
    head.unlink() if text is None else head.write_text(text)
    assert Ledger(tmp_path).spent("federation")


def test_a_damaged_note_stops_the_ledger(tmp_path):
    Ledger(tmp_path).write([Debit("federation", "v0", Release(1.0))])
    (tmp_path / "ledger.head").write_text("many 00")
    with pytest.raises(StoreError, match=r"ledger\.head"):
        Ledger(tmp_path)
