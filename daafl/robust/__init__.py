"""Robust rules to combine updates, on plain arrays."""

from daafl.robust.bucketing import bucketed
from daafl.robust.centred_clipping import centred_clipping
from daafl.robust.coordinates import coordinate_median, trimmed_mean
from daafl.robust.geometric_median import geometric_median
from daafl.robust.krum import krum, multi_krum
from daafl.robust.rules import RULES, mean
from daafl.robust.stack import Matrix, Rule, Stack, Updates

__all__ = [
    "RULES",
    "Matrix",
    "Rule",
    "Stack",
    "Updates",
    "bucketed",
    "centred_clipping",
    "coordinate_median",
    "geometric_median",
    "krum",
    "mean",
    "multi_krum",
    "trimmed_mean",
]
