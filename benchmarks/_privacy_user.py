"""User-level privacy: accuracy beside the run without it, and epsilon beside two other libraries.

Digits and the small convolutional network with 300 nodes of four or five examples each, every node
a user; local data are equal random shares. At epsilon 8 a third of the users is drawn for a step;
at epsilon 1 all of them take part in fewer, larger steps. The run without privacy has the same
steps. Noise and coins are secret, so that no run can be repeated to the bit; seeds are of the model
and the data. Loops are off: none may read what they need.

The accountants are compared over rates, noise and lengths whose epsilon lies in [0.05, 15].

Budget: fifteen minutes on one core.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _report import Figure

import daafl
from daafl.data.partition import Iid
from daafl.learning.task import Task
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.privacy import accountant, renyi
from daafl.privacy.release import Release
from daafl.privacy.user_level import UserPrivacy
from daafl.strategies import LocalTraining, Pacing

SEEDS: Final = (0, 1, 2)
NUM_USERS: Final = 300
DELTA: Final = 1e-5
BAR: Final = 0.01
NOTES: Final = (
    "utility: seeds are of model and data; noise and coins are secret and differ in every run",
    "dp-accounting bounds fractional Renyi orders by whole ones, so its rdp is a little larger",
)


@dataclass(frozen=True)
class Setting:
    """How a budget is used: users in a step on average, steps, and local learning rate."""

    epsilon: float
    cohort: int
    num_rounds: int
    lr: float


SETTINGS: Final = {
    "digits": (Setting(8.0, 100, 60, 0.1), Setting(1.0, 300, 20, 0.1)),
    "digits_cnn": (Setting(8.0, 100, 60, 0.1), Setting(1.0, 300, 20, 0.05)),
}


def figures(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and the raw rows."""
    rows: list[dict[str, Any]] = []
    found: list[Figure] = []
    for name in ("digits",) if quick else ("digits", "digits_cnn"):
        for setting in SETTINGS[name]:
            found += _utility(name, setting, SEEDS[:1] if quick else SEEDS, rows)
    for accounting in ("rdp", "prv"):
        found += _oracles(accounting, quick, rows)
    return found, rows


def _task(name: str, seed: int) -> Task:
    partitioner = Iid(seed=seed, min_examples=1)
    if name == "digits":
        return Digits(partitioner=partitioner)
    return DigitsCnn(partitioner=partitioner)


def _utility(
    name: str, setting: Setting, seeds: Iterable[int], rows: list[dict[str, Any]]
) -> list[Figure]:
    """Return the accuracy with and without privacy, and what was spent."""
    private, plain, spent = [], [], []
    for seed in seeds:
        for privacy in (UserPrivacy(epsilon=setting.epsilon, delta=DELTA), None):
            row = _run(name, setting, seed, privacy)
            rows.append(row)
            if privacy is None:
                plain.append(row["accuracy"])
            else:
                private.append(row["accuracy"])
                spent.append(row["epsilon_spent"])
    about = f"{name}, {NUM_USERS} users, epsilon {setting.epsilon:g}"
    return [
        Figure.of(f"accuracy: {about}", private, ""),
        Figure.of(f"accuracy without privacy: {name}, as for {setting.epsilon:g}", plain, ""),
        Figure.of(
            f"points lost: {about}",
            [100.0 * (b - a) for a, b in zip(private, plain, strict=True)],
            "points",
        ),
        Figure.of(f"epsilon spent: {about}", spent, "", at_most=setting.epsilon),
    ]


def _run(name: str, setting: Setting, seed: int, privacy: UserPrivacy | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        summary = daafl.run(
            _task(name, seed),
            num_nodes=NUM_USERS,
            num_rounds=setting.num_rounds,
            pacing=Pacing(setting.cohort, setting.cohort),
            training=LocalTraining(lr=setting.lr),
            privacy=privacy,
            loops=(),
            workers=0,
            seed=seed,
            evaluate_every=setting.num_rounds,
            checkpoint_every=0,
            output_dir=Path(folder) / "run",
            progress="quiet",
        ).summary
    return {
        "task": name,
        "seed": seed,
        "epsilon": None if privacy is None else setting.epsilon,
        "cohort": setting.cohort,
        "rounds": summary.rounds,
        "lr": setting.lr,
        "accuracy": summary.final_accuracy,
        "epsilon_spent": summary.epsilon,
        "seconds": summary.seconds,
    }


def _oracles(accounting: str, quick: bool, rows: list[dict[str, Any]]) -> list[Figure]:
    """Return the largest difference of epsilon from that of other libraries over a grid."""
    differences: dict[str, list[float]] = {"dp-accounting": [], "opacus": []}
    for rate in (0.01, 1.0) if quick else (0.01, 0.1, 1 / 3, 1.0):
        for noise in (0.8, 1.5, 4.0, 10.0):
            for steps in (1, 60) if quick else (1, 60, 600):
                releases = [Release(noise, steps, rate, "poisson")]
                if not 0.05 <= accountant.epsilon(releases, DELTA, "rdp") <= 15.0:
                    continue
                ours = accountant.epsilon(releases, DELTA, "rdp" if accounting == "rdp" else "prv")
                theirs = {
                    "dp-accounting": _dp_accounting(rate, noise, steps, accounting),
                    "opacus": _opacus(rate, noise, steps, accounting, ours),
                }
                for library, epsilon in theirs.items():
                    differences[library].append(abs(ours / epsilon - 1.0))
                rows.append(
                    {
                        "accounting": accounting,
                        "rate": rate,
                        "noise_multiplier": noise,
                        "steps": steps,
                        "epsilon": ours,
                        **theirs,
                    }
                )
    return [
        Figure(
            f"epsilon by {accounting}, largest difference from {library}",
            100.0 * max(found),
            "%",
            f"<= {100 * BAR:g}",
            max(found) <= BAR,
            (100.0 * min(found), 100.0 * max(found)),
        )
        for library, found in differences.items()
    ]


def _dp_accounting(rate: float, noise: float, steps: int, accounting: str) -> float:
    dp: Any = importlib.import_module("dp_accounting")
    event = dp.GaussianDpEvent(noise)
    if rate < 1.0:
        event = dp.PoissonSampledDpEvent(rate, event)
    relation = dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    if accounting == "rdp":
        theirs = dp.rdp.RdpAccountant(list(renyi.ORDERS), relation)
    else:
        theirs = dp.pld.PLDAccountant(relation, value_discretization_interval=1e-4)
    theirs.compose(event, steps)
    return float(theirs.get_epsilon(DELTA))


def _opacus(rate: float, noise: float, steps: int, accounting: str, ours: float) -> float:
    accountants: Any = importlib.import_module("opacus.accountants")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if accounting == "rdp":
            theirs = accountants.RDPAccountant()
            theirs.history = [(noise, rate, steps)]
            return float(theirs.get_epsilon(DELTA, alphas=list(renyi.ORDERS)))
        theirs = accountants.PRVAccountant()
        theirs.history = [(noise, rate, steps)]
        return float(theirs.get_epsilon(DELTA, eps_error=0.001 * ours, delta_error=1e-9))
