"""What a proof is about: the norm of one node's integers is at most a bound, in one round.

`Claim` holds what is the same for all nodes and rounds and gives the size of every part of a proof;
`Context` what a proof is good for, and nothing else; `Statement` is both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from daafl.errors import ConfigError
from daafl.secure.encoding import Value
from daafl.secure.proof.group import POINT_BYTES, SCALAR_BYTES

ALLOWANCE: Final = {128: 1811, 256: 1541, 512: 1367}
"""By number of projections, what the limit allows over the expected sum of squares, in
thousandths. Least such that a vector at the bound exceeds it with a probability of at most 2**-20;
see `daafl.secure.proof.slack.honest_failure`."""

VALUE_BITS: Final = 16
LARGEST_VALUE: Final = (1 << (VALUE_BITS - 1)) - 1
"""Largest magnitude of a committed integer."""

MAX_DIMENSION: Final = 1 << 28
MAX_BOUND: Final = 1 << 32
MAX_ROWS: Final = 64
SINGLE_POINTS: Final = 8
SINGLE_SCALARS: Final = 6
DEVIATIONS: Final = 7
"""Standard deviations of a projection, for a vector at the bound, that its bits hold."""

_HASH_BYTES: Final = 32


@dataclass(frozen=True)
class Claim:
    """The norm bound, and how it is tested.

    Parameters
    ----------
    dimension
        Integers in a vector.
    bound
        Largest Euclidean norm that is promised a proof, in steps of the quantiser.
    projections
        Random projections: 128, 256 or 512. More make the slack smaller and the proof larger.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    dimension: int
    bound: int
    projections: int = 256

    def __post_init__(self) -> None:
        """Refuse what no proof is made for."""
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise ConfigError(
                f"a norm proof over {self.dimension} values; 1 to {MAX_DIMENSION} may be"
            )
        if not 1 <= self.bound <= MAX_BOUND:
            raise ConfigError(f"a norm bound of {self.bound} steps; 1 to {MAX_BOUND} may be")
        if self.projections not in ALLOWANCE:
            raise ConfigError(
                f"{self.projections} random projections; choose one of {sorted(ALLOWANCE)}"
            )

    @cached_property
    def limit(self) -> int:
        """Largest sum of squared projections that is accepted."""
        return -(-(self.bound**2) * self.projections * ALLOWANCE[self.projections] // 1000)

    @cached_property
    def projection_bits(self) -> int:
        """Bits in which a projection is written, two's complement: seven deviations fit."""
        return (DEVIATIONS * self.bound).bit_length() + 1

    @cached_property
    def slack_bits(self) -> int:
        """Bits in which the distance to the limit is written."""
        return self.limit.bit_length()

    @cached_property
    def num_bits(self) -> int:
        """All bits a proof commits to."""
        return self.projections * self.projection_bits + self.slack_bits

    @cached_property
    def num_rows(self) -> int:
        """Rows the vector is cut into; each has a commitment of its own.

        A row is as long as the bits are many, which makes the verifier's one product as short as it
        can be; more than 64 rows would cost more in cross terms than they save.
        """
        return min(MAX_ROWS, -(-self.dimension // self.num_bits))

    @cached_property
    def width(self) -> int:
        """Values in a row; the last row is filled up with zeros."""
        return -(-self.dimension // self.num_rows)

    @cached_property
    def num_generators(self) -> int:
        """Vector generators in use."""
        return max(self.width, self.num_bits)

    @property
    def commitment_bytes(self) -> int:
        """Exact size of a commitment."""
        return self.num_rows * POINT_BYTES

    @property
    def num_points(self) -> int:
        """Points in a proof."""
        return SINGLE_POINTS + 2 * self.num_rows

    @property
    def num_scalars(self) -> int:
        """Scalars in a proof."""
        return SINGLE_SCALARS + self.width + self.num_bits

    @property
    def proof_bytes(self) -> int:
        """Exact size of a proof."""
        return self.num_points * POINT_BYTES + self.num_scalars * SCALAR_BYTES

    def values(self) -> tuple[Value, ...]:
        """Return what goes into a transcript."""
        limit = self.limit.to_bytes(16, "big")
        return (self.dimension, self.bound, self.projections, limit)


@dataclass(frozen=True)
class Context:
    """What one proof is good for; a proof for another context is refused.

    Parameters
    ----------
    federation
        Name of the federation.
    roster, session, model
        SHA-256 of the roster, of the session (its terms, nodes and keys) and of the model sent.
    round, node
        Version of the model, and who proves.
    """

    federation: str
    roster: bytes = field(repr=False)
    session: bytes = field(repr=False)
    model: bytes = field(repr=False)
    round: int
    node: int

    def __post_init__(self) -> None:
        """Refuse digests of a wrong size and numbers that do not fit 64 bits."""
        for name, value in (
            ("roster", self.roster),
            ("session", self.session),
            ("model", self.model),
        ):
            if len(value) != _HASH_BYTES:
                raise ConfigError(f"the {name} digest of a proof must be {_HASH_BYTES} bytes")
        for name, number in (("round", self.round), ("node", self.node)):
            if not 0 <= number < 1 << 64:
                raise ConfigError(f"the {name} of a proof must be from 0 to below 2**64")

    def values(self) -> tuple[Value, ...]:
        """Return what goes into a transcript."""
        return (self.federation, self.roster, self.session, self.model, self.round, self.node)


@dataclass(frozen=True)
class Statement:
    """What one node proves in one round."""

    claim: Claim
    context: Context
