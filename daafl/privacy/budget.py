"""How much privacy each account may spend, and whether a release fits into what is left.

An account is one protected party: a node's examples under sample-level privacy (``node:7``), or
all users of a federation (``federation``). What an account has spent only grows: rollbacks, failed
rounds and restarts give nothing back.
"""

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from daafl.errors import BudgetError, ConfigError
from daafl.privacy import accountant
from daafl.privacy.accountant import Accounting
from daafl.privacy.ledger import Debit, Ledger
from daafl.privacy.release import Release

FEDERATION: Final = "federation"
"""Account of all users of a federation together."""

MAX_EPSILON: Final = 1e12
MAX_SETTING: Final = 1e6  # of bounds and noise multipliers


def node_account(node: int) -> str:
    """Return the account of a node's examples."""
    return f"node:{node}"


@dataclass(frozen=True)
class Budget:
    """The privacy that an account may spend, for good.

    Attributes
    ----------
    epsilon
        Largest epsilon, positive; infinity allows everything and counts nonetheless.
    delta
        Its delta, in (0, 1); below one over the number of protected units.
    accounting
        Accountant that decides.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    epsilon: float
    delta: float
    accounting: Accounting = "prv"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.epsilon > 0.0:
            raise ConfigError(f"a budget's epsilon={self.epsilon} must be positive")
        if not 0.0 < self.delta < 1.0:
            raise ConfigError(f"a budget's delta={self.delta} must be in (0, 1)")
        if self.accounting not in ("prv", "rdp"):
            raise ConfigError(f"there is no accountant {self.accounting!r}; use prv or rdp")

    def tightened(self, *, epsilon: float = math.inf, delta: float = 1.0) -> Self:
        """Return the budget with smaller limits; larger ones change nothing.

        It is how a loop on a node may change its budget, and there is no way back.

        Examples
        --------
        >>> Budget(4.0, 1e-5).tightened(epsilon=8.0).epsilon
        4.0
        """
        return type(self)(
            min(self.epsilon, epsilon), min(self.delta, delta), accounting=self.accounting
        )


def would_exceed(spent: Iterable[Release], coming: Release, budget: Budget) -> bool:
    """Return whether ``coming`` on top of what was ``spent`` costs more than ``budget``.

    Examples
    --------
    >>> would_exceed([], Release(1.0, steps=1), Budget(4.0, 1e-5))
    True
    >>> would_exceed([], Release(1.0, steps=1), Budget(5.0, 1e-5))
    False
    """
    total = accountant.epsilon((*spent, coming), budget.delta, budget.accounting)
    return total > budget.epsilon


class Budgets:
    """The budgets of accounts, with the ledger of what they have spent.

    Parameters
    ----------
    ledger
        Where debits are written before anything is spent.
    default
        Budget of each account that has none of its own.
    own
        Budgets of single accounts; each is tightened by ``default``, never widened.
    """

    def __init__(
        self, ledger: Ledger, default: Budget, own: Mapping[str, Budget] | None = None
    ) -> None:
        self._ledger = ledger
        self._default = default
        self._lock = threading.Lock()
        self._own = {
            account: budget.tightened(epsilon=default.epsilon, delta=default.delta)
            for account, budget in (own or {}).items()
        }
        # Accounts with the same history cost the same; a federation has many of those.
        self._answers: dict[tuple[tuple[Release, ...], Budget], float] = {}

    def of(self, account: str) -> Budget:
        """Return the budget of an account."""
        return self._own.get(account, self._default)

    def tighten(self, account: str, *, epsilon: float = math.inf, delta: float = 1.0) -> None:
        """Lower the limits of one account."""
        self._own[account] = self.of(account).tightened(epsilon=epsilon, delta=delta)

    def epsilon(self, account: str) -> float:
        """Return what an account has spent, at its budget's delta."""
        return self._cost(self._ledger.spent(account), self.of(account))

    def would_exceed(self, account: str, coming: Release) -> bool:
        """Return whether a release is more than an account has left."""
        budget = self.of(account)
        together = accountant.merged((*self._ledger.spent(account), coming))
        # An upper bound that is much quicker to have decides most of the time.
        if accountant.epsilon(together, budget.delta, "rdp") <= budget.epsilon:
            return False
        return self._cost(together, budget) > budget.epsilon

    def spend(self, debit: Debit, *, is_replay: bool = False) -> None:
        """Debit an account; what is paid for may start when this returns.

        Parameters
        ----------
        debit
            Whom, for what, how much.
        is_replay
            Whether the same key always gives the same noise, so that doing it again after a restart
            lets nothing new out; true with a seeded keystream only.

        Raises
        ------
        BudgetError
            If the account has not enough left; nothing is debited then.
        StoreError
            If the ledger cannot be written; the debit may count or not, and nothing must start.
        """
        with self._lock:
            if is_replay and self._ledger.has(debit):
                return
            if self.would_exceed(debit.account, debit.release):
                budget = self.of(debit.account)
                raise BudgetError(
                    f"account {debit.account!r} has spent epsilon "
                    f"{self.epsilon(debit.account):.4g} of {budget.epsilon:.4g} (delta "
                    f"{budget.delta:.3g}), and {debit.key!r} would exceed it; the account takes no "
                    "further part"
                )
            self._ledger.write([debit])

    def _cost(self, releases: Iterable[Release], budget: Budget) -> float:
        together = accountant.merged(releases)
        question = (together, budget)
        if question not in self._answers:
            if len(self._answers) >= 4096:
                self._answers.clear()
            self._answers[question] = accountant.epsilon(together, budget.delta, budget.accounting)
        return self._answers[question]
