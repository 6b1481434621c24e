"""Data that drifts on the schedule of a scenario."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daafl.errors import DataError
from daafl.keyed_random import mixed, uniforms
from daafl.learning.examples import Examples
from daafl.simulation.scenario.drifts import ConceptDrift, Cycles, Drift, LabelDrift, change_times_s
from daafl.simulation.scenario.scheduled import Scheduled

_GIVES_WAY: Final = 0xD41F1  # which examples are replaced
_TAKES_OVER: Final = 0xD41F2  # what replaces them
_FAVOURITE: Final = 0xD41F3  # the class that a node drifts to
_RENAMED: Final = 0xD41F4  # which examples have new names already
_SHIFTED: Final = 0xD41F5  # which of the server's examples come from nodes that drift
_SERVER: Final = 2**62  # stands for the server where a node's number is expected

Indices = NDArray[np.int64]


class Drifting:
    """A `daafl.learning.drift.Drift` that plays the drifts of a scenario.

    Which example changes is settled by a hash of its place, so that a change that grows keeps
    what it has changed before.

    Parameters
    ----------
    drifts
        What changes, when and where.
    """

    def __init__(self, drifts: Sequence[Scheduled[Drift]]) -> None:
        self._drifts = tuple(drifts)
        self._changes_s = change_times_s([drift.event for drift in drifts])

    def stage(self, time_s: float) -> int:
        """Return the number of changes that have come at a time."""
        return bisect_right(self._changes_s, time_s)

    def indices(self, stage: int, node: int, indices: Indices, labels: NDArray[Any]) -> Indices:
        """Return which examples of a pool a node holds in a stage.

        Parameters
        ----------
        stage
            Number of the stage.
        node
            Index of the node.
        indices
            What it holds at first.
        labels
            Label of each example of the pool.
        """
        for drift in self._drifts:
            event = drift.event
            if isinstance(event, LabelDrift) and _concerns(drift, node):
                share = event.share * self._progress(event, stage)
                if share > 0.0:
                    indices = _replaced(drift, event, share, node, indices, labels)
        return indices

    def examples(self, stage: int, node: int | None, examples: Examples) -> Examples:
        """Return what a node sees of its examples in a stage; ``None`` is the server."""
        for drift in self._drifts:
            event = drift.event
            if isinstance(event, ConceptDrift):
                progress = self._progress(event, stage)
                share = drift.members.size / drift.members.num_nodes
                if node is not None:
                    share = float(_concerns(drift, node))
                if progress > 0.0 and share > 0.0:
                    place = _SERVER if node is None else node
                    examples = _changed(drift.key, event, progress, share, place, examples)
        return examples

    def _progress(self, event: Drift, stage: int) -> float:
        return event.progress(self._changes_s[stage - 1]) if stage > 0 else 0.0


def _concerns(drift: Scheduled[Drift], node: int) -> bool:
    return bool(drift.members.contains(np.array([node]))[0])


def _replaced(
    drift: Scheduled[Drift],
    event: LabelDrift,
    share: float,
    node: int,
    indices: Indices,
    labels: NDArray[Any],
) -> Indices:
    """Return the indices with a share of them replaced by examples of the favoured classes."""
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise DataError(
            "label_drift needs one integer for each example; these labels have shape "
            f"{labels.shape} and type {labels.dtype}. Set Examples.groups or override Task.labels"
        )
    if event.classes is None:
        known = np.unique(labels)
        draw = uniforms(mixed(drift.key, _FAVOURITE, np.array([node])))
        classes = known[(draw * len(known)).astype(np.int64)]
    else:
        classes = np.array(event.classes)
    candidates = np.flatnonzero(np.isin(labels, classes))
    if len(candidates) == 0:
        raise DataError(
            f"label_drift moves nodes to classes {classes.tolist()}, of which the data of node "
            f"{node} has no example"
        )
    places = np.arange(len(indices))
    gives_way = uniforms(mixed(drift.key, _GIVES_WAY, node, places)) < share
    chosen = uniforms(mixed(drift.key, _TAKES_OVER, node, places)) * len(candidates)
    return np.where(gives_way, candidates[chosen.astype(np.int64)], indices)


def _changed(
    key: int, event: ConceptDrift, progress: float, share: float, place: int, given: Examples
) -> Examples:
    """Return examples of which a share follows a concept that has come so far."""
    places = np.arange(len(given))
    inputs, targets = given.inputs, given.targets
    if event.cycles is not None:
        is_renamed = uniforms(mixed(key, _RENAMED, place, places)) < share * progress
        targets = _renamed(np.asarray(targets), event.cycles, is_renamed)
    if event.gain != 1.0 or event.shift != 0.0:
        is_shifted = uniforms(mixed(key, _SHIFTED, place, places)) < share
        inputs = _shifted(np.asarray(inputs), event, progress, is_shifted)
    return Examples(inputs, targets, given.groups)


def _renamed(targets: NDArray[Any], cycles: Cycles, is_renamed: NDArray[np.bool_]) -> NDArray[Any]:
    if targets.dtype.kind not in "iu":
        raise DataError(
            f"concept_drift with cycles needs integer targets; these are {targets.dtype}"
        )
    # Targets may have further axes, such as the positions of a text.
    chosen = is_renamed.reshape(-1, *[1] * (targets.ndim - 1))
    renamed = targets.copy()
    for cycle in cycles:
        for old, new in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            renamed[(targets == old) & chosen] = new
    return renamed


def _shifted(
    inputs: NDArray[Any], event: ConceptDrift, progress: float, is_shifted: NDArray[np.bool_]
) -> NDArray[Any]:
    if inputs.dtype.kind != "f":
        raise DataError(
            f"concept_drift with gain or shift needs floating-point inputs; these are "
            f"{inputs.dtype}"
        )
    gain = 1.0 + progress * (event.gain - 1.0)
    offset = progress * event.shift * float(inputs.std())
    chosen = is_shifted.reshape(-1, *[1] * (inputs.ndim - 1))
    return np.where(chosen, gain * inputs + offset, inputs).astype(inputs.dtype)
