"""Tries the ways to train a cohort on some of its members, and chooses among them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from daafl.learning.choice import Choice, Method
from daafl.learning.computation import FAILURES, Computation
from daafl.learning.layout import Packed
from daafl.learning.member import Member, NotBatched

Vectors: TypeAlias = npt.NDArray[np.floating[Any]]
"""Trained models. Shape ``[members, num_parameters]``."""

MARGIN: Final = 1.15
"""How many times faster than one member after the other a batched computation has to be."""

TOLERANCE: Final = 2e-6
"""Largest difference that is put down to rounding, relative for values above one."""

BFLOAT16_TOLERANCE: Final = 0.1
"""The same for products in bfloat16, as a share of how far a training moves the model."""

DISTURBANCE: Final = 1e-7
"""Relative change of the model that was sent; shows by how much a training amplifies rounding."""

ALLOWANCE: Final = 10.0
"""How many times what that disturbance leads to is still put down to rounding."""

CHECKED_MEMBERS: Final = 4
TIMED_MEMBERS: Final = 8  # of those that train one after the other
REPETITIONS: Final = 3
LONG_S: Final = 1.0  # what takes so long is timed once


def chosen(computation: Computation, packed: Packed, members: Sequence[Member]) -> Choice:
    """Return the fastest way to train members, of those that train them as `TorchTrainer` does.

    Parameters
    ----------
    computation
        Trains them.
    packed
        The model that was sent.
    members
        One chunk of the real task.

    Raises
    ------
    DataError
        As `TorchTrainer.train` does.
    """
    singles = [members[i] for i in _evenly(len(members), TIMED_MEMBERS)]
    eager_s = _seconds(lambda: computation.train("eager", packed, singles)) / len(singles)
    best, reasons, seconds = Choice("eager", "", {}), [], {"eager": eager_s}
    candidates: tuple[Method, ...] = ("dense", "functional")
    for method in candidates:
        try:
            remark = _checked(method, computation, packed, members)
        except FAILURES as error:
            reasons.append(f"{method} cannot train it: {_sentence(error)}")
            continue
        own_s = _seconds(partial(computation.train, method, packed, members)) / len(members)
        reasons.append(f"{method} is {eager_s / own_s:.2f} times as fast as eager{remark}")
        if own_s * (MARGIN if best.method == "eager" else 1.0) < seconds[best.method]:
            best = Choice(method, "", {})
        seconds[method] = own_s
        if best.method == "dense":
            break  # the general way comes to the same products with more around them
    return Choice(best.method, "; ".join(reasons), seconds)


def _checked(
    method: Method, computation: Computation, packed: Packed, members: Sequence[Member]
) -> str:
    """Return what is to be said on rounding after comparing a method with `TorchTrainer`.

    Raises
    ------
    NotBatched
        If they differ by more than rounding; or another of `FAILURES`.
    """
    computation.stack(method)
    order = np.argsort([len(member.examples) for member in members], kind="stable")
    some = [members[order[i]] for i in _evenly(len(members), CHECKED_MEMBERS)]
    first_step = [replace(m, work=replace(m.work, steps=1)) for m in some]
    remark = ""
    for checked in (first_step, some):
        single = _vectors(computation, "eager", packed, checked)
        _check_buffers(computation, packed, single)
        batched = _vectors(computation, method, packed, checked)
        if computation.dtype == torch.bfloat16:
            sent = computation.trainer.layout.vector(packed)
            share = _norm(batched - single) / max(_norm(single - sent), TOLERANCE)
            if share > BFLOAT16_TOLERANCE:
                raise NotBatched(f"its models differ by {share:.2f} of what a training moves them")
            continue
        difference = _difference(batched, single)
        if difference > TOLERANCE:
            disturbed = _vectors(computation, "eager", _disturbed(computation, packed), checked)
            explained = ALLOWANCE * _difference(disturbed, single)
            if difference > explained:
                raise NotBatched(
                    f"its models differ from those of single trainings by {difference:.1e}, of "
                    f"which rounding explains {max(explained, TOLERANCE):.1e}"
                )
            remark = f" (this training amplifies rounding, to {difference:.1e})"
    return remark


def _check_buffers(computation: Computation, packed: Packed, trained: Vectors) -> None:
    layout = computation.trainer.layout
    module = computation.trainer.loaded(packed)
    parameters = {name for name, _ in module.named_parameters()}
    sent = layout.vector(packed)
    start = 0
    for entry in layout.entries:
        end = start + entry.size
        changes = not np.array_equal(
            trained[:, start:end], np.tile(sent[start:end], (len(trained), 1)), equal_nan=True
        )
        if changes and entry.name not in parameters:
            raise NotBatched(f"its forward() writes to the buffer {entry.name!r}")
        start = end


def _vectors(
    computation: Computation, method: Method, packed: Packed, members: Sequence[Member]
) -> Vectors:
    rows = computation.train(method, packed, members, strictly=True).packed
    return np.stack([computation.trainer.layout.vector(row) for row in rows])


def _disturbed(computation: Computation, packed: Packed) -> Packed:
    layout = computation.trainer.layout
    vector = layout.vector(packed)
    signs = np.where(np.arange(len(vector)) % 2, 1.0, -1.0)
    return layout.packed((vector * (1.0 + DISTURBANCE * signs)).astype(vector.dtype))


def _difference(left: Vectors, right: Vectors) -> float:
    """Return the largest difference, relative for values above one.

    Members whose training diverged are left out: there is nothing to compare.
    """
    finite = np.isfinite(left).all(1) & np.isfinite(right).all(1)
    left, right = left[finite], right[finite]
    return float((np.abs(left - right) / np.maximum(np.abs(right), 1.0)).max(initial=0.0))


def _norm(vectors: Vectors) -> float:
    return float(np.linalg.norm(vectors[np.isfinite(vectors)]))


def _evenly(length: int, count: int) -> list[int]:
    """Return at most ``count`` positions, evenly spread, with the first and the last."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(count, length))})


def _seconds(train: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < REPETITIONS and sum(times) < LONG_S:
        start_s = time.perf_counter()
        train()
        times.append(time.perf_counter() - start_s)
    return min(times)


def _sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
