"""The node's side: it pays before it trains, declines, and tells nothing that is not noised."""

import json

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from daafl.clients import client_app
from daafl.clients.private import PrivateTraining, refuse_unprotected
from daafl.errors import BudgetError, ConfigError, MessageError, StoreError
from daafl.learning.member import Member
from daafl.learning.private import trained_privately
from daafl.learning.private_stack import PrivateMember, PrivateStack
from daafl.learning.tasks.digits import Digits
from daafl.learning.trainer import TorchTrainer
from daafl.learning.work import LocalWork
from daafl.messages import (
    BUDGET_SPENT,
    CONFIG,
    DECLINED,
    ENVELOPE,
    METRICS,
    NUM_EXAMPLES,
    TRAIN_LOSS,
    Assignment,
    Envelope,
    Hello,
)
from daafl.privacy.accountant import epsilon
from daafl.privacy.dpsgd import SampleLevel
from daafl.privacy.guarantee import LocalPrivacy, SamplePrivacy
from daafl.privacy.keystream import Keystream
from daafl.privacy.local import LocalRandomiser
from daafl.privacy.release import Release
from daafl.simulation import InProcessGrid

NOISE = SamplePrivacy(epsilon=8.0, noise_multiplier=1.0)


def asked(grid, node, kind="train", **assignment):
    trainer = TorchTrainer(Digits())
    arrays = ArrayRecord({"packed": Array(trainer.initial(seed=0))})
    given = {"local_steps": 3, "batch_size": 8, **assignment}
    config = Assignment(layout=trainer.layout.digest, **given).to_record()
    content = RecordDict({"arrays": arrays, "config": config})
    (reply,) = grid.send_and_receive([Message(content, grid.get_node_ids()[node], kind)])
    return reply


def private_grid(folder, privacy):
    return InProcessGrid(client_app(Digits, privacy=privacy, ledgers=folder), 30, workers=0)


def lines(folder, node):
    return (folder / f"node-{node}" / "ledger.jsonl").read_text().splitlines()


def test_an_update_carries_the_claim_and_no_loss(tmp_path):
    with private_grid(tmp_path, NOISE) as grid:
        reply = asked(grid, 7)
    envelope = Envelope.from_record(reply.content[ENVELOPE])
    assert envelope.privacy_claim == "dp-sgd epsilon=8 delta=1e-05 clip=1 noise=1"
    assert TRAIN_LOSS not in reply.content[METRICS]
    (debit,) = map(json.loads, lines(tmp_path, 7))
    # 8 of the node's examples on average, counted up to a power of 0.96.
    rate = 8 / len(Digits().node_data(7, 30))
    assert debit[2:4] == [1.0, 3]
    assert rate <= debit[4] <= rate / 0.96
    assert debit[5] == "poisson"


def test_a_node_pays_until_its_budget_is_spent_and_then_declines(tmp_path):
    with private_grid(tmp_path, NOISE) as grid:
        replies = [asked(grid, 7, version=version, local_steps=10) for version in range(12)]
        # More than is left in one go is declined as a whole.
        assert DECLINED in asked(grid, 8, local_steps=100_000).content[CONFIG]
    declined = [CONFIG in reply.content for reply in replies]
    assert 1 < declined.index(True) < 12
    assert declined == sorted(declined)
    assert dict(replies[-1].content[CONFIG]) == {DECLINED: BUDGET_SPENT}
    assert len(lines(tmp_path, 7)) == declined.index(True)
    assert lines(tmp_path, 8) == []


def test_repeating_a_training_is_paid_again_unless_its_noise_is_the_same(tmp_path):
    with private_grid(tmp_path / "secret", NOISE) as grid:
        first, second = (asked(grid, 7) for _ in range(2))
        packed = [reply.content["arrays"]["packed"].numpy() for reply in (first, second)]
        assert not np.array_equal(*packed)
    assert len(lines(tmp_path / "secret", 7)) == 2
    seeded = SamplePrivacy(epsilon=3.0, noise_multiplier=1.0, rng="seeded")
    with private_grid(tmp_path / "seeded", seeded) as grid:
        first, second = (asked(grid, 7) for _ in range(2))
        packed = [reply.content["arrays"]["packed"].numpy() for reply in (first, second)]
        assert np.array_equal(*packed)
    assert len(lines(tmp_path / "seeded", 7)) == 1


@pytest.mark.parametrize("kind", ["evaluate", "query.probe", "query.vote"])
def test_questions_that_would_tell_about_examples_are_refused(tmp_path, kind):
    with private_grid(tmp_path, NOISE) as grid:
        reply = asked(grid, 7, kind)
    assert reply.has_error()
    assert "without noise" in reply.error.reason


def test_under_local_privacy_nodes_count_alike(tmp_path):
    privacy = LocalPrivacy(epsilon=5.0, bound=0.5, trainings=4)
    with private_grid(tmp_path, privacy) as grid:
        hello = asked(grid, 3, "query.hello")
        replies = [asked(grid, 3, version=version) for version in range(5)]
    assert Hello.from_record(hello.content[CONFIG]).num_examples == 1
    assert [CONFIG in reply.content for reply in replies] == [False] * 4 + [True]
    assert replies[0].content[METRICS][NUM_EXAMPLES] == 1
    layout = TorchTrainer(Digits()).layout
    sent = layout.vector(TorchTrainer(Digits()).initial(seed=0))
    noise = json.loads(lines(tmp_path, 3)[0])[2]
    moved = layout.vector(replies[0].content["arrays"]["packed"].numpy()) - sent
    # Noise of z * 2 * 0.5 per weight, beside which the update of norm 0.5 is nothing.
    assert moved.std() == pytest.approx(noise, rel=0.06)


def test_a_lost_ledger_stops_a_node_that_is_known_to_have_spent(tmp_path):
    with private_grid(tmp_path, NOISE) as grid:
        assert not asked(grid, 7).has_error()
        (tmp_path / "node-7" / "ledger.jsonl").unlink()
        reply = asked(grid, 7, version=1)
    assert reply.has_error()
    assert "missing" in reply.error.reason


def test_real_nodes_need_a_store_and_secret_noise(tmp_path):
    with pytest.raises(ConfigError, match="node_store"):
        client_app(Digits, privacy=NOISE)
    seeded = SamplePrivacy(noise_multiplier=1.0, rng="seeded")
    with pytest.raises(ConfigError, match="simulations only"):
        client_app(Digits, privacy=seeded, node_store=tmp_path)
    app = client_app(Digits, privacy=NOISE, node_store=tmp_path)
    with InProcessGrid(app, 30, workers=0) as grid:
        assert not asked(grid, 2).has_error()
    assert len(lines(tmp_path / "privacy", 2)) == 1


def test_noise_is_fitted_to_the_steps_that_are_planned():
    with pytest.raises(ConfigError, match="needs steps"):
        SamplePrivacy().release(100, batch_size=10, steps=5)
    planned = SamplePrivacy(epsilon=2.0).planned(trainings=7, local_steps=10)
    assert planned.steps == 70
    release = planned.release(100, batch_size=10, steps=70)
    assert 1.95 < epsilon([release], 1e-5) <= 2.0
    assert planned.claim == SamplePrivacy(epsilon=2.0).claim
    given = SamplePrivacy(noise_multiplier=2.0)
    assert given.planned(trainings=7, local_steps=10) is given


def test_nothing_is_trained_where_nothing_could_be_debited(tmp_path):
    (tmp_path / "node-7").mkdir()
    (tmp_path / "node-7" / "ledger.jsonl").write_text("[1]\n")
    private = PrivateTraining(NOISE, tmp_path, is_simulated=True)
    with pytest.raises(StoreError, match="damaged"):
        private.paid(Release(1.0), Assignment(), 7)
    with pytest.raises(BudgetError):
        private.paid(Release(0.01), Assignment(), 8)


def test_no_private_path_draws_from_other_generators(tmp_path, monkeypatch):
    def forbidden(*_args, **_options):
        raise AssertionError("a private path drew from a generator that is not the keystream")

    task, rows = Digits(), {}
    trainer = TorchTrainer(task)
    sent = trainer.initial(seed=0)
    data = [task.node_data(node, 30) for node in range(3)]
    stack = PrivateStack(trainer)  # a new model's values may come from torch's generator
    for name in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"):
        monkeypatch.setattr(torch, name, forbidden)
    for name in ("normal_", "uniform_", "bernoulli_", "random_"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    monkeypatch.setattr(np.random, "default_rng", forbidden)
    for name in ("rand", "randn", "normal", "standard_normal", "random", "choice", "shuffle"):
        monkeypatch.setattr(np.random, name, forbidden)
    work, level = LocalWork(lr=0.1, steps=2, batch_size=8), SampleLevel(1.0, 1.0)
    for node, own in enumerate(data):
        rows[node] = trained_privately(
            trainer, sent, own, work, node, privacy=level, keystream=Keystream.fresh()
        ).packed
    stack.train(
        sent, [PrivateMember(Member(own, work, 0), level, Keystream.fresh()) for own in data]
    )
    LocalRandomiser(1.0, 1.0).randomised(np.zeros(10), Keystream.fresh())
    assert len(rows) == 3
    with pytest.raises(AssertionError, match="not the keystream"):
        torch.randn(1)


def test_what_is_not_private_is_not_refused(tmp_path):
    with InProcessGrid(client_app(Digits), 30, workers=0) as grid:
        reply = asked(grid, 7)
    assert TRAIN_LOSS in reply.content[METRICS]
    assert isinstance(reply.content[ENVELOPE], ConfigRecord)
    assert Envelope.from_record(reply.content[ENVELOPE]).privacy_claim is None
    with pytest.raises(MessageError):
        refuse_unprotected(PrivateTraining(NOISE, tmp_path, is_simulated=True), "a vote")
