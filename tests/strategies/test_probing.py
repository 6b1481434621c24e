import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from daafl.errors import MessageError
from daafl.loops import learning_rate
from daafl.messages import CONFIG, LEARNING_RATES, Assignment
from daafl.strategies import Pacing
from daafl.strategies.exchange import Member
from daafl.strategies.mailbox import Ticket
from daafl.strategies.probing import (
    MAX_LOG_LOSS,
    PROBE_RATES,
    median_log_losses,
    probe_messages,
    probed_log_losses,
)

Federate = Callable[..., Any]
MakeApp = Callable[..., ClientApp]


def answer(values: Any) -> RecordDict:
    return RecordDict({"metrics": MetricRecord({"log-losses": values})})


def test_the_rates_are_a_grid_of_equal_ratios() -> None:
    assert PROBE_RATES[0] == pytest.approx(1e-3) and PROBE_RATES[-1] == pytest.approx(3.0)
    ratios = np.divide(PROBE_RATES[1:], PROBE_RATES[:-1])
    assert ratios == pytest.approx([3000 ** (1 / 7)] * 7)


def test_a_question_carries_the_assignment_and_the_rates() -> None:
    ticket = Ticket(1, "probe", 3, "main", 7, 0, 0.0, 1.0)
    member = Member(1003, ticket, Assignment(version=7, local_steps=4))
    (message,) = probe_messages([member], np.zeros(8, np.uint8))
    record = message.content[CONFIG]
    assert tuple(record[LEARNING_RATES]) == PROBE_RATES
    assert Assignment.from_record(record).local_steps == 4
    assert message.message_type == "query.probe"


def test_answers_are_clipped_to_what_a_loss_can_be() -> None:
    values = [math.nan, math.inf, -math.inf, 1e9, -1e9, 0.5, -0.5, 0.0]
    assert probed_log_losses(answer(values)) == (
        *(MAX_LOG_LOSS, MAX_LOG_LOSS, -MAX_LOG_LOSS, MAX_LOG_LOSS, -MAX_LOG_LOSS),
        *(0.5, -0.5, 0.0),
    )
    assert probed_log_losses(answer([10**400] * 8)) == (MAX_LOG_LOSS,) * 8


@pytest.mark.parametrize("values", [[], [0.0] * 7, [0.0] * 9, 0.5])
def test_answers_of_another_form_are_refused(values: Any) -> None:
    with pytest.raises(MessageError, match="must hold 8 log losses"):
        probed_log_losses(answer(values))
    with pytest.raises(MessageError, match="must hold 8 log losses"):
        probed_log_losses(RecordDict())


def test_the_median_over_nodes_counts_for_each_rate() -> None:
    assert median_log_losses([(1.0, 0.0), (2.0, 5.0), (9.0, 6.0)]) == (2.0, 5.0)
    assert median_log_losses([]) is None


def chosen(federation: Any) -> float:
    """Return the learning rate of the first training step."""
    return float(federation.steps[0].knobs["lr"])


ALL = Pacing(concurrency=9, quorum=9)


def test_a_probe_finds_the_rate_at_which_nodes_learn_best(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    # On a parabola of curvature 1, ten steps at rate r shrink a distance of 5 by (1 - r)^10: to
    # 0.13 at .3 and to mere noise at .96; 3 diverges. Training starts one rate below the best.
    app = make_app(learn=approach)
    federation = federate(app=app, num_nodes=9, num_rounds=1, loops=[learning_rate()], pacing=ALL)
    (probe,) = federation.watcher.probes
    assert (probe.step, probe.num_updates, probe.rejected, probe.failures) == (1, 0, {}, {})
    assert chosen(federation) == pytest.approx(PROBE_RATES[5])


def test_a_minority_of_liars_does_not_move_the_rate(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    honest = make_app(learn=approach)
    liars = make_app(dict.fromkeys(range(4), "probe lies"), learn=approach)
    settings = {"num_nodes": 9, "num_rounds": 1, "pacing": ALL}
    expected = chosen(federate(app=honest, loops=[learning_rate()], **settings))
    assert chosen(federate(app=liars, loops=[learning_rate()], **settings)) == expected


def test_malformed_answers_are_counted_and_left_out(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    faults = {0: "probe short", 1: "probe scalar", 2: "probe raise", 3: "probe huge"}
    app = make_app(faults, learn=approach)
    federation = federate(app=app, num_nodes=9, num_rounds=1, loops=[learning_rate()], pacing=ALL)
    (probe,) = federation.watcher.probes
    assert probe.rejected == {"schema": 2}
    assert probe.failures == {"client_app_raised": 1}
    assert chosen(federation) == pytest.approx(PROBE_RATES[5])


def test_without_any_answer_the_run_goes_on_at_the_rate_it_was_given(
    federate: Federate, make_app: MakeApp, approach: Any
) -> None:
    app = make_app(dict.fromkeys(range(9), "probe raise"), learn=approach)
    federation = federate(app=app, num_nodes=9, num_rounds=6, loops=[learning_rate()], pacing=ALL)
    assert chosen(federation) == 0.1
    assert federation.summary.status == "completed"
    assert [record.num_updates for record in federation.steps] == [9] * 6
    assert len(federation.watcher.probes) <= 2
