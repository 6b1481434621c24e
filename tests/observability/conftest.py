"""Scripted runs: numbers as a federation would produce them, made by formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daafl.autonomy.plan import Change, Knob, Value
from daafl.autonomy.records import Decision, Effect, Insight, Request
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.observability.run import Baseline, Run

RATES = tuple(float(rate) for rate in np.geomspace(1e-3, 3, 8))
KNOBS = (
    Knob("lr", "1", 0.1, "learning_rate", "branch", 1e-5, 30.0, description="local learning rate"),
    Knob("local_steps", "steps", 10, "resources", "branch", 1, 50),
    Knob("batch_size", "examples", 16, "resources", "branch", 1, 512),
    Knob("server", "", "fedavg", "coordinator", "branch", choices=("fedavg", "fedavgm")),
)
NUM_NODES = 30


@pytest.fixture(scope="session")
def scripted_run() -> Callable[..., Run]:
    return scripted


@pytest.fixture(scope="session")
def make_record() -> Callable[..., StepRecord]:
    return record


def scripted(num_rounds: int = 60, *, seed: int = 0, **changes: Any) -> Run:
    """A run that probes, steers, explodes at two fifths, rolls back, is alarmed, and recovers."""
    steps = Script(num_rounds, np.random.default_rng(seed)).steps()
    run = Run(
        name="20260102-030405-digits-s0",
        info=info(num_rounds),
        steps=steps,
        summary=summary(steps, num_rounds),
        config=f"seed: 0\nnum_rounds: {num_rounds}\ntask:\n  _target_: daafl.Digits\n",
        header={"seed": 0, "config_hash": "9f2c4e11aa0b3d57", "version": "0.1.0"},
        journal=(
            probed(1, (2.25, 2.2, 1.9, 1.2, 0.55, 0.31, 0.9, 3.4)),
            probed(num_rounds * 3 // 5, (0.4, 0.39, 0.36, 0.3, 0.28, 0.41, 1.4, 4.1)),
        ),
        baseline=Baseline(0.972, 0.095, "the same model on all data, 30 epochs"),
    )
    return replace(run, **changes)


def info(num_rounds: int) -> RunInfo:
    return RunInfo(
        task="digits",
        strategy="FedAvg",
        num_nodes=NUM_NODES,
        num_rounds=num_rounds,
        num_parameters=2410,
        seed=0,
        knobs=KNOBS,
        absent={"secure_aggregation": "it needs at least 3 replies per step to hide one"},
    )


def probed(tick: int, losses: tuple[float, ...]) -> Mapping[str, object]:
    """A journal record of the tick that saw a probe."""
    observation = {"probe_rates": list(RATES), "probe_log_losses": [math.log(v) for v in losses]}
    return {"kind": "decided", "tick": tick, "observations": {"learning_rate": observation}}


def summary(steps: tuple[StepRecord, ...], num_rounds: int) -> RunSummary:
    accuracies = [s.metrics["accuracy"] for s in steps if "accuracy" in s.metrics]
    return RunSummary(
        status="completed",
        reason=f"all {num_rounds} rounds were done",
        rounds=num_rounds,
        final_accuracy=accuracies[-1],
        final_loss=steps[-1].metrics["loss"],
        best_accuracy=max(accuracies),
        seconds=sum(s.wall_seconds for s in steps),
        virtual_seconds=steps[-1].clock_s,
        bytes_up=sum(s.bytes_up for s in steps),
        bytes_down=sum(s.bytes_down for s in steps),
        epsilon=None,
        delta=None,
        decisions=sum(len(s.decisions) for s in steps),
        rollbacks=sum(s.restored is not None for s in steps),
        alarms=sum(d.action == "alert" for s in steps for d in s.decisions),
        flagged_nodes=(7,),
        nodes=NUM_NODES,
        seed=0,
        version="0.1.0",
    )


def record(step: int, **changes: Any) -> StepRecord:
    """One plain training step."""
    plain = StepRecord(
        kind="train",
        step=step,
        branch="main",
        version=step,
        clock_s=2.0 * step,
        seconds=2.0,
        wall_seconds=0.25,
        train_loss=1.0 / step,
        metrics={"loss": 0.9 / step, "accuracy": 1 - 0.5 / step},
        knobs={"lr": 0.1},
        num_updates=10,
        num_examples=480.0,
        rejected={},
        failures={},
        staleness=0,
        bytes_up=96_400,
        bytes_down=96_400,
        decisions=(),
        insights=(),
        restored=None,
    )
    return replace(plain, **changes)


class Script:
    """The world of `scripted`: a learning curve with one explosion, and the loops' answers."""

    def __init__(self, num_rounds: int, rng: np.random.Generator) -> None:
        self.num_rounds, self.rng = num_rounds, rng
        self.explosion = num_rounds * 2 // 5
        self.drift = num_rounds * 3 // 5
        self.swap = num_rounds * 3 // 4
        self.knobs: dict[str, Value] = {
            "lr": RATES[4],
            "local_steps": 10,
            "batch_size": 16,
            "server": "fedavg",
        }
        self.number = 0
        self.clock_s = 0.0
        self.due: list[tuple[int, Insight]] = []

    def steps(self) -> tuple[StepRecord, ...]:
        records = []
        for step in range(1, self.num_rounds + 1):
            if step in (1, self.drift + 1):
                records.append(self.probe(step))
            records.append(self.train(step))
        return tuple(records)

    def probe(self, step: int) -> StepRecord:
        self.clock_s += 9.0
        return record(
            step,
            kind="probe",
            version=step - 1,
            clock_s=self.clock_s,
            seconds=9.0,
            train_loss=None,
            metrics={},
            knobs=dict(self.knobs),
            num_updates=0,
            num_examples=0.0,
            bytes_up=640,
            bytes_down=96_400,
        )

    def train(self, step: int) -> StepRecord:
        progress = 6 * step / self.num_rounds
        blown = self.explosion < step <= self.explosion + 2
        dip = 0.05 * math.exp(-(step - self.drift) / 4) if step > self.drift else 0.0
        noise = 0.006 * float(self.rng.standard_normal())
        accuracy = min(0.1 if blown else 0.957 - 0.86 * math.exp(-progress) - dip + noise, 1.0)
        loss = 40.0 * (step - self.explosion) if blown else 0.13 + 2.2 * math.exp(-progress) + dip
        if step == self.explosion + 2:
            loss = math.nan
        seconds = float(self.rng.lognormal(0.6, 0.35))
        self.clock_s += seconds
        knobs = dict(self.knobs)
        failed = int(self.rng.random() < 0.12)
        refused = int(step % 17 == 5)
        insights = tuple(insight for due, insight in self.due if due == step)
        decisions = self.decide(step)
        return record(
            step,
            clock_s=self.clock_s,
            seconds=seconds,
            wall_seconds=0.3 + 0.1 * float(self.rng.random()),
            train_loss=None if step == self.explosion + 2 else loss * 1.2,
            metrics={"loss": loss, "accuracy": accuracy},
            knobs=knobs,
            num_updates=10 - failed - refused,
            num_examples=480.0,
            rejected={"norm": refused} if refused else {},
            failures={"timeout": failed} if failed else {},
            decisions=decisions,
            insights=insights,
            restored=self.explosion - 1 if step == self.explosion + 2 else None,
        )

    def decide(self, step: int) -> tuple[Decision, ...]:
        lr = float(self.knobs["lr"])
        if step == self.explosion:
            return (self.turn("lr", lr * 30, step, "increase", "fast_convergence", "operator"),)
        if step == self.explosion + 2:
            alarm = self.act("health", "alert", "failing", "the loss is 9.1 deviations too high")
            back = self.turn(
                "lr", lr / 100, step, "decrease", "oscillation", "the loss exploded",
                restore=self.explosion - 1,
            )  # fmt: skip
            return (alarm, back)
        if step == self.drift:
            ask = Request("lr", "integrity", "health", "drift", high=0.2, ticks=8)
            reason = "accuracy fell by 0.05 in one step"
            return (
                self.act("health", "alert", "degraded", reason),
                self.act("health", "ask_for_probe", "degraded", reason, requests=(ask,)),
            )
        if step == self.swap:
            return (
                self.turn("server", "fedavgm", step, "change_optimiser", "plateau",
                          "no gain for 8 steps", loop="coordinator"),
                self.turn("local_steps", 20, step, "more_work", "healthy",
                          "nodes wait 40 % of the time", loop="resources"),
            )  # fmt: skip
        cosine = 0.6 * math.cos(3 * step / self.num_rounds)
        cosine += 0.2 * float(self.rng.standard_normal())
        if abs(cosine) < 0.2:
            return ()
        new = min(max(lr * math.exp(0.25 * cosine * min(1, 60 / self.num_rounds)), 1e-3), 0.7)
        if new == lr:
            return ()
        state = "fast_convergence" if cosine > 0 else "oscillation"
        action = "increase" if cosine > 0 else "decrease"
        agree = "agree" if cosine > 0 else "oppose each other"
        reason = f"updates {agree}, cosine {cosine:.2f}"
        return (self.turn("lr", new, step, action, state, reason),)

    def turn(self, knob: str, new: Value, step: int, action: str, state: str, reason: str,
             *, loop: str = "learning_rate", restore: int | None = None) -> Decision:  # fmt: skip
        change = Change(knob, self.knobs[knob], new)
        self.knobs[knob] = new
        effect = Effect("loss", 0.5, 0.02, 0.01, 3) if self.number % 4 != 1 else None
        decision = self.act(
            loop, action, state, reason, changes=(change,), restore=restore, expect=effect
        )
        if effect is not None:
            self.judge(decision, step)
        return decision

    def act(self, loop: str, action: str, state: str, reason: str, **more: Any) -> Decision:
        self.number += 1
        return Decision(loop, action, state, reason, number=self.number, **more)

    def judge(self, decision: Decision, step: int) -> None:
        z = float(self.rng.standard_normal()) * 1.6
        if step == self.explosion:
            z = -4.0
        verdict = "better" if z > 2 else "worse" if z < -2 else "confirmed"
        actual = 0.02 + 0.01 * z
        insight = Insight(
            decision.loop, decision.action, decision.state, self.number,
            verdict, 0.02, actual, z, f"the loss moved by {actual:.3f}, 0.020 was expected",
        )  # fmt: skip
        self.due.append((step + 3, insight))
