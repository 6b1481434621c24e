"""How much of an update a federation lets its server see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, TypeAlias

from daafl.errors import ConfigError
from daafl.secure.graph import MIN_NODES, Policy, chosen
from daafl.secure.he.dealing import Rotation
from daafl.secure.he.packing import Packing
from daafl.secure.he.selective import Row, Selection
from daafl.secure.he.terms import KeyGroup, SumTerms
from daafl.secure.header import HEADER_SLOTS
from daafl.secure.quantisation import Quantiser

MIN_GROUP: Final = 3
PROJECTIONS: Final = (128, 256, 512)


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
    norm_bound
        Experimental: largest Euclidean norm of an update, which nodes clip to and prove; ``None``
        for none.
    norm_projections
        Random projections of a proof: 128, 256 or 512.
    norm_checked
        Share of the proofs that the coordinator verifies, drawn after all are bound to theirs.

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
    norm_bound: float | None = None
    norm_projections: int = 256
    norm_checked: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no group can meet."""
        check_group_size(self.group_size)
        if not 0 < self.value_range < 1e6:
            raise ConfigError(f"value_range is {self.value_range}; it must be above 0, below 1e6")
        if self.group_size is not None:
            chosen(self.group_size, self.policy)
        _ = self.policy
        if self.norm_bound is not None:
            self.quantiser(1)
            if self.norm_projections not in PROJECTIONS:
                raise ConfigError(
                    f"norm_projections is {self.norm_projections}; choose one of {PROJECTIONS}"
                )
            if not 0 < self.norm_checked <= 1:
                raise ConfigError(f"norm_checked is {self.norm_checked}; it must be in (0, 1]")

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
        if self.norm_bound is None:
            return Quantiser(self.value_range, num_nodes)
        from daafl.secure.proof.scale import quantiser_for  # proofs are for those who ask for them

        clip = min(self.value_range, self.norm_bound)
        return quantiser_for(self.norm_bound, num_nodes, clip=clip)


@dataclass(frozen=True)
class EncryptedSums:
    """Nodes send their updates encrypted under a key that the coordinator does not have.

    Whoever holds the key reads every update that it gets hold of, so this protects from a
    coordinator that works with no node; `MaskedSums` also stands some that do.

    Parameters
    ----------
    group_size
        Nodes whose updates are summed together; ``None`` for the whole cohort.
    value_range
        Largest change of one weight that a sum can carry; larger ones are cut to it.
    values_per_slot
        Values packed side by side, 1 to 4: more make uploads smaller and values coarser.
    encrypted_layers
        Patterns for the names of the layers that are encrypted; empty for all. The others travel
        in the clear.
    rounds_per_key
        Versions of the model after which the nodes make another key. Groups of a part of the
        cohort, which are drawn anew each time, make one for every sum.
    min_nodes
        Fewest nodes a sum may have.
    num_decryptors
        How many nodes decrypt each sum; with more than one, most of them must agree.
    scheme
        ``bfv``. ``ckks`` is refused, as the coordinator sees the sums.
    processes
        How many processes a node may encrypt with, from a million values on.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    name: ClassVar[str] = "he"

    group_size: int | None = None
    value_range: float = 1.0
    values_per_slot: int = 2
    encrypted_layers: Sequence[str] = ()
    rounds_per_key: int = 10
    min_nodes: int = MIN_GROUP
    num_decryptors: int = 1
    scheme: Literal["bfv", "ckks"] = "bfv"
    processes: int = 1

    def __post_init__(self) -> None:
        """Refuse what no group can meet."""
        # Settings are compared by their text, wherever the list came from.
        object.__setattr__(self, "encrypted_layers", tuple(self.encrypted_layers))
        check_group_size(self.group_size)
        _check_scheme(self.scheme)
        if not 0 < self.value_range < 1e6:
            raise ConfigError(f"value_range is {self.value_range}; it must be above 0, below 1e6")
        if self.min_nodes < MIN_GROUP:
            raise ConfigError(f"min_nodes is {self.min_nodes}; it must be {MIN_GROUP} or more")
        if self.num_decryptors < 1 or self.processes < 1:
            raise ConfigError("num_decryptors and processes must be 1 or more")
        self.packing(self.group_size or MIN_GROUP)
        _ = self.rotation

    @property
    def rotation(self) -> Rotation:
        """When a group gets another key."""
        return Rotation(self.rounds_per_key)

    def packing(self, num_nodes: int) -> Packing:
        """Return how the words of a group of so many nodes travel."""
        return Packing(num_nodes, self.values_per_slot, num_wide=HEADER_SLOTS)

    def quantiser(self, num_nodes: int) -> Quantiser:
        """Return how a group of so many nodes writes its updates as integers."""
        return Quantiser(self.value_range, num_nodes, self.packing(num_nodes).modulus)

    def terms(
        self,
        group: KeyGroup,
        layers: Sequence[Row],
        *,
        round: int,
        attempt: int,
        model_hash: bytes,
        plan_hash: bytes,
    ) -> SumTerms:
        """Return what a sum under the key of ``group`` is about.

        Parameters
        ----------
        layers
            Name, start and stop of each layer in the model's flat vector.
        round, attempt, model_hash, plan_hash
            As in `SumTerms`.
        """
        patterns = tuple(self.encrypted_layers) or ("*",)
        return SumTerms(
            group,
            round,
            attempt,
            model_hash,
            plan_hash,
            Selection.of(layers, patterns, num_wide=HEADER_SLOTS),
            self.packing(len(group.members)),
            self.min_nodes,
        )


Security: TypeAlias = SignedUpdates | MaskedSums | EncryptedSums
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


def _check_scheme(scheme: str) -> None:
    if scheme == "ckks":
        raise ConfigError(
            "scheme 'ckks' is refused: the coordinator sees the decrypted sum, and from a CKKS "
            "ciphertext and its approximate decryption the secret key can be computed (Li & "
            "Micciancio 2021); use scheme 'bfv', which decrypts exactly"
        )
    if scheme != "bfv":
        raise ConfigError(f"the scheme is {scheme!r}; it must be 'bfv'")
