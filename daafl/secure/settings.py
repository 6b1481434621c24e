"""How much of an update a federation lets its server see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from daafl.errors import ConfigError
from daafl.secure.graph import MIN_NODES, Policy, chosen
from daafl.secure.quantisation import Quantiser

MIN_GROUP: Final = 3


@dataclass(frozen=True)
class SignedUpdates:
    """Every node sends its own update in the clear, under its signature."""

    name: ClassVar[str] = "signed"
    group_size: ClassVar[None] = None


@dataclass(frozen=True)
class MaskedSums:
    """Nodes send their updates under masks that cancel in the sum of a group.

    Parameters
    ----------
    group_size
        Nodes whose updates are summed together; ``None`` for the whole cohort. Smaller groups let
        robust rules work on more sums; larger ones hide a node among more others.
    value_range
        Largest change of one weight that a sum can carry; larger ones are cut to it. The 32-bit
        sum of ``n`` nodes has about ``2**32 / n`` levels between minus and plus this.
    corrupt_fraction, dropout_fraction
        Shares of a group that may work with the server, and that may be lost in a step.
    min_survivors
        Fewest nodes a sum may have.
    server
        ``curious`` for one that follows the protocol and looks, ``malicious`` for one that also
        lies about who was lost.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    name: ClassVar[str] = "secagg"

    group_size: int | None = None
    value_range: float = 8.0
    corrupt_fraction: float = 0.1
    dropout_fraction: float = 0.2
    min_survivors: int = MIN_NODES
    server: Literal["curious", "malicious"] = "curious"

    def __post_init__(self) -> None:
        """Refuse what no group can meet."""
        check_group_size(self.group_size)
        if not 0 < self.value_range < 1e6:
            raise ConfigError(f"value_range is {self.value_range}; it must be above 0, below 1e6")
        if self.group_size is not None:
            chosen(self.group_size, self.policy)
        _ = self.policy

    @property
    def policy(self) -> Policy:
        """What is assumed about the nodes."""
        return Policy(
            corrupt_fraction=self.corrupt_fraction,
            dropout_fraction=self.dropout_fraction,
            min_survivors=self.min_survivors,
            server=self.server,
        )

    def quantiser(self, num_nodes: int) -> Quantiser:
        """Return how a group of so many nodes writes its updates as integers."""
        return Quantiser(self.value_range, num_nodes)


Security: TypeAlias = SignedUpdates | MaskedSums
"""What a run may be given as ``secure``."""


def check_group_size(size: int | None) -> None:
    """Refuse groups in which nobody can hide.

    Raises
    ------
    ConfigError
        If there are fewer than three nodes to a group.
    """
    if size is not None and size < MIN_GROUP:
        raise ConfigError(
            f"group_size is {size}; it must be {MIN_GROUP} or more: of two nodes, each knows the "
            "other's update from their sum"
        )
