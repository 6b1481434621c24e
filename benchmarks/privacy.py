"""Differential privacy: gradients and speed beside Opacus, the sampler, and what utility is left.

Gradients: the same examples through Opacus's hooks and through both of daafl's ways, for a dense
and a convolutional network, without noise. Speed: one step of DP-SGD with noise for each of many
nodes, batches of 10 on average, on a small network (64-64-10); Opacus makes a step for a single
model at a time. The sampler is held beside those of numpy and torch, which protect nothing.
Utility: digits and the digits CNN on 10 nodes that all take part, delta 1e-5, every example of a
node protected; the run without privacy has the same steps. Noise is secret, so that no run can be
repeated to the bit; seeds are of model and data.

User-level privacy is measured in ``_privacy_user.py``. Each part writes a result of its own.

Budget: ten minutes on one core for the part ``sample``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import _privacy_user
import numpy as np
import torch
from _report import Benchmark, Figure
from opacus import GradSampleModule, PrivacyEngine
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import daafl
from daafl.data.partition import Iid
from daafl.learning.member import Member
from daafl.learning.private import trained_privately
from daafl.learning.private_stack import PrivateMember, PrivateStack
from daafl.learning.task import Task
from daafl.learning.tasks.cnn import DigitsCnn
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork
from daafl.privacy.dpsgd import SampleLevel
from daafl.privacy.gaussian import noised, standard_normal
from daafl.privacy.guarantee import SamplePrivacy
from daafl.privacy.keystream import Keystream, poisson_sample
from daafl.strategies import LocalTraining, Pacing

DELTA: Final = 1e-5
BATCH: Final = 10
STEPS: Final = 10
NODES: Final = 128
SAMPLES: Final = 1 << 22
SEEDS: Final = (0, 1, 2)
NUM_NODES: Final = 10
NUM_ROUNDS: Final = 30
TRAININGS: Final = {None: (0.5, 5, 48), 8.0: (0.5, 5, 48), 1.0: (0.3, 2, 140)}
"""Learning rate, local steps and batch size, by epsilon: much noise wants few large steps."""

NOTES: Final = (
    "gradients: largest difference of a parameter after a step of learning rate 1",
    "steps: CPU time of one thread; both with Poisson sampling, clipping and noise",
    "utility: 10 nodes with equal random shares, all in each of 30 rounds; epsilon is a node's",
)


class SmallDigits(Digits):
    """Digits with the network of 64, 64 and 10 units."""

    def model(self) -> nn.Module:
        """Return the network."""
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS], help="all of them by default")
    parser.add_argument("--quick", action="store_true", help="a short run; writes no result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Opacus warns of hooks on a first layer whose inputs need no gradients, and of its generator.
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    worst = 0
    for part in options.parts or PARTS:
        measure, seeds, notes = PARTS[part]
        figures, rows = measure(quick=options.quick)
        benchmark = Benchmark(f"privacy_{part}", options.quick, seeds=seeds)
        worst = max(worst, benchmark.finish(figures, rows=rows, notes=notes))
    return worst


def measured(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures of sample-level privacy and the raw rows."""
    rows: list[dict[str, Any]] = []
    figures = [*equality(rows), *speed(rows, quick=quick), *sampler(rows, quick=quick)]
    return [*figures, *utility(rows, quick=quick)], rows


def equality(rows: list[dict[str, Any]]) -> list[Figure]:
    """Return how far one step is from Opacus's, by task and way."""
    found = []
    for task in (SmallDigits(), DigitsCnn()):
        for way, gap in _gaps(task).items():
            rows.append({"part": "equality", "task": task.name, "way": way, "gap": gap})
            name = f"{task.name}, {way}: distance of a clipped step to Opacus"
            found.append(Figure.of(name, [gap], "", at_most=1e-6))
    return found


def _gaps(task: Task) -> dict[str, float]:
    """Return the largest difference of a parameter to Opacus's, for each way to train."""
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=0)
    member = Member(task.node_data(0, 30), LocalWork(lr=1.0, steps=1, batch_size=BATCH), key=0)
    level = SampleLevel(0.5, 0.0)
    models = {
        "one by one": trained_privately(
            trainer,
            sent,
            member.examples,
            member.work,
            0,
            privacy=level,
            keystream=Keystream.seeded(1),
        ).packed
    }
    if isinstance(task, SmallDigits):
        own = PrivateMember(member, level, Keystream.seeded(1))
        models["vectorised"] = PrivateStack(trainer).train(sent, [own])[0]
    theirs = _opacus_step(task, trainer, sent, member)
    return {way: float(np.abs(model.view("f4") - theirs).max()) for way, model in models.items()}


def _opacus_step(task: Task, trainer: TorchTrainer, sent: Any, member: Member) -> Any:
    size = len(member.examples)
    chosen = poisson_sample(size, BATCH / size, Keystream.seeded(1))
    module = task.model()
    values = {name: torch.from_numpy(a.copy()) for name, a in trainer.unpack(sent).items()}
    module.load_state_dict(values)
    private = GradSampleModule(module)
    optimizer = DPOptimizer(
        torch.optim.SGD(private.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=0.5,
        expected_batch_size=BATCH,
    )
    inputs, targets = trainer.judge.tensors(member.examples)
    chosen = torch.from_numpy(chosen)
    nn.functional.cross_entropy(private(inputs[chosen]), targets[chosen]).backward()
    optimizer.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()]).numpy()


def speed(rows: list[dict[str, Any]], *, quick: bool) -> list[Figure]:
    """Return the CPU time of a node's step in three ways, and the ratio to Opacus."""
    task = SmallDigits()
    trainer = TorchTrainer(task)
    stack, sent = PrivateStack(trainer), trainer.initial(seed=0)
    data = [task.node_data(node, 30) for node in range(30)]
    work, level = LocalWork(lr=0.1, steps=STEPS, batch_size=BATCH), SampleLevel(1.0, 1.0)

    def vectorised() -> float:
        members = [
            PrivateMember(Member(data[n % 30], work, key=n), level, Keystream.fresh())
            for n in range(NODES)
        ]
        start_s = time.process_time()
        stack.train(sent, members)
        return (time.process_time() - start_s) / (NODES * STEPS)

    def single() -> float:
        start_s = time.process_time()
        for own in data[:4]:
            trained_privately(
                trainer, sent, own, work, 0, privacy=level, keystream=Keystream.fresh()
            )
        return (time.process_time() - start_s) / (4 * STEPS)

    ways = {"opacus": lambda: _opacus_run(task, trainer, data[:4]), "vectorised": vectorised}
    ways["one by one"] = single
    for run in ways.values():
        run()
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(3 if quick else 15):
        for way, run in ways.items():  # side by side, so that both meet the same machine
            times[way].append(run())
    found = [
        Figure.of(f"a node's step, {way}", [1e6 * s for s in seconds], "us")
        for way, seconds in times.items()
    ]
    ratios = [a / b for a, b in zip(times["opacus"], times["vectorised"], strict=True)]
    rows += [{"part": "speed", "way": way, "seconds": s} for way, s in times.items()]
    found.append(Figure.of("vectorised steps beside Opacus's hooks", ratios, "x", at_least=10))
    return found


def _opacus_run(task: Task, trainer: TorchTrainer, data: Sequence[Any]) -> float:
    """Return the seconds of a step, without what makes a model private."""
    seconds = 0.0
    for own in data:
        inputs, targets = trainer.judge.tensors(own)
        module = task.model()
        private, optimizer, loader = PrivacyEngine().make_private(
            module=module,
            optimizer=torch.optim.SGD(module.parameters(), lr=0.1),
            data_loader=DataLoader(TensorDataset(inputs, targets), batch_size=BATCH),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )
        done = 0
        start_s = time.process_time()
        while done < STEPS:
            for batch, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(private(batch), labels).backward()
                optimizer.step()
                done += 1
                if done == STEPS:
                    break
        seconds += time.process_time() - start_s
    return seconds / (len(data) * STEPS)


def sampler(rows: list[dict[str, Any]], *, quick: bool) -> list[Figure]:
    """Return the millions of Gaussian samples per second of CPU time."""
    stream, rng = Keystream.fresh(), np.random.default_rng(0)
    zeros = np.zeros(SAMPLES)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: standard_normal(SAMPLES, stream),
        "ours, added on a grid": lambda: noised(
            zeros, noise_multiplier=1.0, sensitivity=1.0, keystream=stream
        ),
        "numpy": lambda: rng.standard_normal(SAMPLES),
        "torch, float64": lambda: torch.randn(SAMPLES, dtype=torch.float64),
    }
    found = []
    for way, draw in ways.items():
        rates = []
        for _ in range(3 if quick else 9):
            start_s = time.process_time()
            draw()
            rates.append(SAMPLES / (time.process_time() - start_s) / 1e6)
        rows.append({"part": "sampler", "way": way, "rates": rates})
        found.append(Figure.of(f"Gaussian samples, {way}", rates, "M/s"))
    return found


def utility(rows: list[dict[str, Any]], *, quick: bool) -> list[Figure]:
    """Return accuracies with sample-level privacy, and what it costs in points."""
    found = []
    for name in ("digits",) if quick else ("digits", "digits_cnn"):
        open_runs = [_accuracy(name, seed, None, rows) for seed in (SEEDS[:1] if quick else SEEDS)]
        found.append(Figure.of(f"{name}: accuracy without privacy", open_runs, ""))
        for epsilon in filter(None, TRAININGS):
            accuracies = [
                _accuracy(name, seed, epsilon, rows) for seed in (SEEDS[:1] if quick else SEEDS)
            ]
            title = f"{name}: accuracy at epsilon {epsilon:g}, sample-level"
            found.append(Figure.of(title, accuracies, ""))
    return found


def _accuracy(name: str, seed: int, epsilon: float | None, rows: list[dict[str, Any]]) -> float:
    make = Digits if name == "digits" else DigitsCnn
    privacy = None if epsilon is None else SamplePrivacy(epsilon=epsilon, delta=DELTA)
    lr, local_steps, batch_size = TRAININGS[epsilon]
    training = LocalTraining(lr=lr, local_steps=local_steps, batch_size=batch_size)
    with tempfile.TemporaryDirectory() as folder:
        result = daafl.run(
            make(partitioner=Iid(seed=seed)),
            num_nodes=NUM_NODES,
            num_rounds=NUM_ROUNDS,
            pacing=Pacing(concurrency=NUM_NODES, quorum=NUM_NODES),
            training=training,
            loops=(),
            privacy=privacy,
            workers=0,
            seed=seed,
            evaluate_every=NUM_ROUNDS,
            output_dir=Path(folder) / "run",
            progress="quiet",
        )
    summary = result.summary
    rows.append(
        {
            "part": "utility",
            "task": name,
            "seed": seed,
            "epsilon": epsilon,
            "epsilon_spent": summary.epsilon,
            "accuracy": summary.final_accuracy,
        }
    )
    return float(summary.final_accuracy or 0.0)


PARTS: Final = {
    "sample": (measured, SEEDS, NOTES),
    "user": (_privacy_user.figures, _privacy_user.SEEDS, _privacy_user.NOTES),
}
"""What is measured, with its seeds and notes."""


if __name__ == "__main__":
    sys.exit(main())
