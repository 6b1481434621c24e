from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord

from daafl.autonomy.journal import read
from daafl.errors import ConfigError
from daafl.learning.layout import Layout
from daafl.strategies import Autonomous, Override, Pacing
from daafl.strategies.assignment import LOCAL_KNOBS
from daafl.strategies.schedule import check_overrides, evaluator

Federate = Callable[..., Any]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (Override(2, "learning_rate", 0.1), r"no such knob; choose among .*, lr, "),
        (Override(0, "lr", 0.1), "steps count from 1"),
        (Override(2, "lr", 1e9), r"it cannot be 1000000000.0; the nearest allowed is 30.0"),
        (Override(2, "lr", "fast"), "it cannot be 'fast'"),
        (Override(2, "local_steps", 2.5), r"it cannot be 2.5; the nearest allowed is 2"),
        (Override(2, "refill", "never"), "it cannot be 'never'"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused_before_the_run(
    override: Override, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Autonomous(overrides=[override])


def test_numbers_of_another_kind_become_the_knobs_kind(federate: Federate) -> None:
    check_overrides([Override(1, "lr", 3)], {knob.name: knob for knob in LOCAL_KNOBS})
    overrides = [Override(1, "lr", 3), Override(1, "local_steps", 4.0)]
    (step,) = federate(overrides=overrides, num_rounds=1).steps
    assert type(step.knobs["lr"]) is float and type(step.knobs["local_steps"]) is int
    assert step.seconds == pytest.approx(0.4)


def test_an_override_holds_from_its_step_on_and_is_journaled_before(
    federate: Federate, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    federation = federate(
        overrides=[Override(2, "lr", 0.5, "to see"), Override(3, "quorum", 1)], journal=journal
    )
    assert [record.knobs["lr"] for record in federation.steps] == [0.1, 0.5, 0.5]
    assert [record.num_updates for record in federation.steps] == [4, 4, 1]
    overrides = [record for record in read(journal).records if record["kind"] == "override"]
    assert overrides == [
        {
            "kind": "override",
            "target": "main",
            "tick": 2,  # the first cycle is before the first step
            "changes": [{"knob": "lr", "old": 0.1, "new": 0.5}],
            "by": "operator",
            "reason": "to see",
        },
        {
            "kind": "override",
            "target": "federation",
            "tick": 3,
            "changes": [{"knob": "quorum", "old": 10, "new": 1}],
            "by": "operator",
            "reason": "operator",
        },
    ]


def test_overrides_that_contradict_the_pacing_do_not_end_the_run(federate: Federate) -> None:
    pacing = Pacing(concurrency=4, quorum=2, max_staleness=9, refill="reply")
    overrides = [Override(2, "max_staleness", 0), Override(3, "concurrency", 1)]
    federation = federate(pacing=pacing, overrides=overrides, num_rounds=4)
    assert [record.num_updates for record in federation.steps] == [2, 2, 1, 1]


def test_an_evaluation_function_gets_the_named_arrays() -> None:
    layout = Layout.of({"w": np.zeros(2, np.float32)})

    def sums(step: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"sum": float(arrays["w"].numpy().sum()), "step": step, "all": [1.0]})

    evaluate = evaluator(sums, layout)
    assert evaluate is not None
    packed = layout.pack({"w": np.array([1.0, 2.0], np.float32)})
    assert evaluate(5, packed) == {"sum": 3.0, "step": 5.0}
    assert evaluator(None, layout) is None
