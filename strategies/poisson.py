"""Independent coins: every node joins a step with the same probability, whatever the others do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daafl.errors import ConfigError
from daafl.privacy.keystream import Keystream, poisson_sample
from daafl.strategies.selection import NodeFacts


@dataclass(frozen=True)
class PoissonSelection:
    """Draws each free node by itself; a `Selection`.

    How many come varies, and may be none. This is what credit for subsampling rests on, and it
    holds only if nothing else decides who is in a step by looking at more than one node: nobody
    takes the place of a node that fails, and a step does not close on the first who answer.

    A node that is busy, silent or offline is not drawn, or contributes nothing: that depends on
    this node alone, and a probability below ``rate`` protects more. Coins are drawn from candidates
    in their order, one for each.

    Attributes
    ----------
    rate
        Probability of a node to be drawn.
    keystream
        Where secret coins come from: who was not drawn is part of the protection. ``None`` takes
        them from the run's seed, for simulations; then the same arguments give the same nodes.

    Raises
    ------
    ConfigError
        If the rate is not in (0, 1].

    Examples
    --------
    >>> nodes = [NodeFacts(node, node, 8, "") for node in range(5)]
    >>> PoissonSelection(1.0)(nodes, 2, np.random.default_rng(0))
    [0, 1, 2, 3, 4]
    """

    rate: float
    keystream: Keystream | None = None

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0.0 < self.rate <= 1.0:
            raise ConfigError(
                f"the rate of a Poisson selection is {self.rate}; it must be in (0, 1]"
            )

    def __call__(
        self, candidates: Sequence[NodeFacts], count: int, rng: np.random.Generator
    ) -> list[int]:
        """Return the nodes drawn, in ascending order; ``count`` says nothing here."""
        nodes = sorted(facts.node for facts in candidates)
        coins = self.keystream or Keystream.seeded(int(rng.integers(2**63)), "users")
        return [nodes[index] for index in poisson_sample(len(nodes), self.rate, coins).tolist()]


def poisson(rate: float, *, rng: str = "secret") -> PoissonSelection:
    """Return a selection by independent coins, secret ones or those of the run's seed.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """
    if rng not in ("secret", "seeded"):
        raise ConfigError(f"rng is {rng!r}, but must be secret or seeded")
    return PoissonSelection(rate, Keystream.fresh() if rng == "secret" else None)
