"""What daafl knows about Flower's strategies: one table, by exact type.

A strategy's linearity cannot be found out by trying it: Multi-Krum that selects everybody looks
like a mean, and clipping on the server clips a sum as if it were one client. So it is declared
here, and a strategy that is not listed is taken to need individual updates unless it says
otherwise with a class attribute ``daafl_needs = "mean"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedXgbBagging,
    FedXgbCyclic,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)

from daafl.errors import ConfigError
from daafl.strategies.optimizer import Needs


@dataclass(frozen=True)
class Capability:
    """What a strategy needs and how its step is scaled.

    Parameters
    ----------
    needs
        Whether a weighted mean of the updates is enough.
    sentence
        What it does, for the documentation.
    rate
        Attribute with the server's learning rate, which scaling multiplies; ``None`` if there is
        none and the step from the old to the new model is scaled instead.
    captured
        Attributes that every ``configure_train`` sets anew from the model, so that they need not be
        saved.
    is_mean
        Whether its model is the mean of the updates' models itself, it tells nodes the same in
        every round, and it remembers nothing.
    takes_groups
        Whether it may be given the sums of groups as if each were one node's update.
    """

    needs: Needs
    sentence: str
    rate: str | None = None
    captured: tuple[str, ...] = ()
    is_mean: bool = False
    takes_groups: bool = False


def _adaptive(sentence: str) -> Capability:
    return Capability("mean", sentence, rate="eta", captured=("current_arrays",))


def _robust(sentence: str) -> Capability:
    return Capability("individuals", sentence, takes_groups=True)


CAPABILITIES: Final[Mapping[type[Strategy], Capability]] = MappingProxyType(
    {
        FedAvg: Capability("mean", "Weighted mean of the models.", is_mean=True),
        FedAvgM: Capability(
            "mean",
            "Weighted mean with server momentum; keeps its own copy of the model.",
            rate="server_learning_rate",
        ),
        FedAdam: _adaptive("Adam on the mean update; computes in float64."),
        FedYogi: _adaptive("Yogi on the mean update."),
        FedAdagrad: _adaptive("Adagrad on the mean update."),
        FedProx: Capability(
            "mean", "Weighted mean; nodes stay near the model they were sent.", is_mean=True
        ),
        FedMedian: _robust("Median of every coordinate."),
        FedTrimmedAvg: _robust("Mean of every coordinate without its extremes."),
        Krum: _robust("The one model that lies closest to its neighbours."),
        MultiKrum: _robust("Weighted mean of the models closest to the others."),
        Bulyan: Capability("individuals", "Multi-Krum, then a trimmed mean around the median."),
        QFedAvg: Capability(
            "individuals",
            "Mean that favours nodes with a high loss.",
            captured=("current_arrays",),
        ),
    }
)
"""Strategies whose results are those of Flower's own rounds, bit for bit."""

UNLISTED: Final = Capability("individuals", "A strategy of your own.")

_PRIVACY: Final = (
    "accounts for clients that Flower sampled itself, and this federation selects its own"
)
_TREES: Final = "combines trees in bytes, and this federation combines arrays of numbers"
REFUSED: Final[Mapping[type[Strategy], str]] = MappingProxyType(
    {
        DifferentialPrivacyClientSideAdaptiveClipping: _PRIVACY,
        DifferentialPrivacyClientSideFixedClipping: _PRIVACY,
        DifferentialPrivacyServerSideAdaptiveClipping: _PRIVACY,
        DifferentialPrivacyServerSideFixedClipping: _PRIVACY,
        FedXgbBagging: _TREES,
        FedXgbCyclic: _TREES,
    }
)
"""Strategies that would give wrong results here, with the reason; their subclasses too."""


def capability_of(strategy: Strategy) -> Capability:
    """Return what is known about ``strategy``.

    An unlisted subclass keeps its nearest listed ancestor's learning rate, which it inherits, but
    is not trusted to be linear or to capture the model as its ancestor does.

    Raises
    ------
    ConfigError
        If the strategy cannot be used, or declares needs that do not exist.
    """
    for refused, reason in REFUSED.items():
        if isinstance(strategy, refused):
            raise ConfigError(f"{type(strategy).__name__} cannot be used: it {reason}")
    listed = CAPABILITIES.get(type(strategy))
    if listed is not None:
        return replace(listed, rate=_rate(strategy))
    needs = getattr(strategy, "daafl_needs", UNLISTED.needs)
    if needs not in ("mean", "individuals"):
        raise ConfigError(
            f"{type(strategy).__name__}.daafl_needs is {needs!r}; "
            "it must be 'mean' or 'individuals'"
        )
    return Capability(needs, UNLISTED.sentence, _rate(strategy))


def is_listed(strategy: Strategy) -> bool:
    """Return whether all that ``strategy`` does is known: no subclass, no function of a user's."""
    usual = FedAvg().train_metrics_aggr_fn
    own = getattr(strategy, "train_metrics_aggr_fn", usual)
    return type(strategy) in CAPABILITIES and own is usual


def _rate(strategy: Strategy) -> str | None:
    if isinstance(strategy, FedAvgM) and not strategy.server_opt:
        # With rate 1 and no momentum it is FedAvg, and Flower never looks at its rate again.
        return None
    listed = (CAPABILITIES[kind] for kind in type(strategy).__mro__ if kind in CAPABILITIES)
    return next((capability.rate for capability in listed), None)
