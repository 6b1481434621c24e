"""Whole runs under privacy: budgets end them, claims are checked, loops that need losses wait."""

import json

import pytest

import daafl
from daafl.clients import client_app
from daafl.errors import ConfigError, FederationError, MessageError
from daafl.federation import train_on
from daafl.learning.tasks.digits import Digits
from daafl.messages import Envelope
from daafl.privacy.guarantee import LocalPrivacy, SamplePrivacy
from daafl.secure.settings import MaskedSums
from daafl.simulation import InProcessGrid
from daafl.simulation.attacks import Attack, Lies, SignFlip
from daafl.store.node_store import NodeStore
from daafl.store.run_folder import load
from daafl.strategies import LocalTraining, Pacing
from daafl.strategies.validation import _check_claim

COMMON = {"num_nodes": 6, "workers": 0, "progress": "quiet", "loops": ()}
TRAINING = LocalTraining(lr=0.5, local_steps=3, batch_size=64)
STRONG = SamplePrivacy(epsilon=4.0, noise_multiplier=1.0)


def run(folder, privacy, **options):
    arguments = {"num_rounds": 3, "training": TRAINING, **COMMON, **options}
    return daafl.run(Digits(), privacy=privacy, output_dir=folder, **arguments)


def test_the_report_and_the_summary_tell_what_is_protected_and_spent(tmp_path):
    result = run(tmp_path / "run", SamplePrivacy(epsilon=8.0))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    spent = summary["privacy"]
    assert spent["unit"] == "example"
    assert spent["accounts"] == 6
    assert spent["nodes_spent_out"] == 0
    # All nodes took part in all steps that the noise was fitted to.
    assert 7.9 < spent["epsilon_spent"] <= 8.0
    assert (summary["epsilon"], summary["delta"]) == (spent["epsilon_spent"], 1e-5)
    info = load(tmp_path / "run").info
    (sentence,) = info.guarantees
    assert "(8, 1e-05)-differentially private" in sentence
    page = (tmp_path / "run" / "report.html").read_text()
    assert "What is protected" in page
    assert "Each single training example" in page
    assert "committee" in info.absent
    assert result.summary.status == "completed"


def test_a_run_ends_well_when_everybody_has_spent_their_budget(tmp_path):
    summary = run(tmp_path / "run", STRONG, num_rounds=60).summary
    assert summary.status == "completed"
    assert summary.reason == "all 6 nodes have spent their privacy budgets"
    assert summary.rounds < 60
    assert summary.privacy.nodes_spent_out == 6
    assert summary.epsilon <= 4.0
    steps = load(tmp_path / "run").steps
    assert sum(step.failures.get("budget_spent", 0) for step in steps) == 6
    assert all(not step.quarantined and not step.rejected for step in steps)


def test_nodes_that_have_spent_their_budget_leave_the_others_to_go_on(tmp_path):
    # Two of six train at a time, and a budget lasts for a few trainings.
    pacing = Pacing(concurrency=2, quorum=2)
    run(tmp_path / "run", STRONG, num_rounds=6, pacing=pacing)
    steps = load(tmp_path / "run").rounds
    assert any(step.failures for step in steps) or all(step.num_updates == 2 for step in steps)
    declined = [step for step in steps if step.failures.get("budget_spent")]
    assert all(step.num_updates > 0 for step in declined[:1])


def test_seeded_noise_repeats_a_run_and_claims_nothing(tmp_path):
    seeded = SamplePrivacy(epsilon=8.0, rng="seeded")
    first, second = (run(tmp_path / name, seeded) for name in ("one", "two"))
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)
    assert first.summary.privacy is None
    assert first.summary.epsilon is None
    assert load(tmp_path / "one").info.guarantees[0].startswith("No privacy is claimed")
    single = run(tmp_path / "single", seeded, trainer="eager")
    for name, array in first.arrays.items():
        assert abs(array - single.arrays[name]).max() < 1e-5
    secret = [run(tmp_path / name, SamplePrivacy()).arrays for name in ("three", "four")]
    assert any((secret[0][name] != secret[1][name]).any() for name in secret[0])


def test_local_privacy_runs_and_counts_nodes(tmp_path):
    summary = run(tmp_path / "run", LocalPrivacy(epsilon=8.0, bound=0.5)).summary
    assert summary.privacy.unit == "node"
    assert 7.9 < summary.epsilon <= 8.0
    assert {step.num_examples for step in load(tmp_path / "run").rounds} == {6.0}


def test_private_updates_are_summed_under_masks_without_losses(tmp_path):
    private = SamplePrivacy(epsilon=8.0)
    result = run(tmp_path / "run", private, num_nodes=8, num_rounds=2, secure=MaskedSums())
    rounds = load(tmp_path / "run").rounds
    assert [step.num_updates for step in rounds] == [8, 8]
    assert all(step.train_loss is None and not step.rejected for step in rounds)
    assert 7.9 < result.summary.epsilon <= 8.0
    assert len(load(tmp_path / "run").info.guarantees) > 1


def test_hostile_nodes_decline_like_others(tmp_path):
    attack = Attack(SignFlip(scale=3.0), share=0.34, start=1, lies=Lies(loss_factor=10.0))
    summary = run(tmp_path / "run", STRONG, num_rounds=60, attack=attack).summary
    assert summary.reason == "all 6 nodes have spent their privacy budgets"


def test_updates_without_the_claim_agreed_on_are_refused(tmp_path):
    # The nodes see to nothing, the coordinator was promised something.
    grid = InProcessGrid(client_app(Digits()), 6, workers=0)
    with grid as nodes, pytest.raises(FederationError):
        train_on(
            nodes,
            Digits(),
            privacy=STRONG,
            num_rounds=12,
            loops=(),
            output_dir=tmp_path / "run",
            progress="quiet",
        )
    assert load(tmp_path / "run").steps[0].rejected == {"privacy_claim": 6}


@pytest.mark.parametrize(
    "weaker",
    [None, SamplePrivacy(epsilon=8.0, noise_multiplier=1.0), SamplePrivacy(epsilon=4.0)],
)
def test_a_weaker_claim_is_a_downgrade(weaker):
    envelope = Envelope("f", "main", 0, 1, 1, "", privacy_claim=weaker and weaker.claim)
    with pytest.raises(MessageError, match="privacy_claim"):
        _check_claim(envelope, STRONG.claim)


def test_a_claim_that_was_not_agreed_on_is_refused(tmp_path):
    privacy = SamplePrivacy(epsilon=50.0, noise_multiplier=2.0)
    app = client_app(Digits(), privacy=privacy, ledgers=tmp_path / "ledgers")
    with InProcessGrid(app, 6, workers=0) as grid, pytest.raises(FederationError):
        train_on(
            grid,
            Digits(),
            num_rounds=12,
            training=TRAINING,
            loops=(),
            output_dir=tmp_path / "run",
            progress="quiet",
        )
    assert load(tmp_path / "run").steps[0].rejected == {"privacy_claim": 6}


def test_sums_of_cohorts_cannot_speak_for_their_nodes(tmp_path):
    with pytest.raises(ConfigError, match="exchange 'summed'"):
        run(tmp_path / "run", STRONG, exchange="summed")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_pays_for_what_it_does_again(tmp_path, kill_after, killed):
    def spent(name):
        ledgers = (tmp_path / name / "privacy").glob("node-*/ledger.jsonl")
        return sum(len(path.read_text().splitlines()) for path in ledgers)

    folder = tmp_path / "run"
    with kill_after(None) as writes:
        run(tmp_path / "whole", SamplePrivacy(noise_multiplier=3.0, epsilon=8.0))
    assert spent("whole") == 18
    with kill_after(writes.count // 2), pytest.raises(killed):
        run(folder, SamplePrivacy(noise_multiplier=3.0, epsilon=8.0))
    before = spent("run")
    result = run(folder, SamplePrivacy(noise_multiplier=3.0, epsilon=8.0), resume=True)
    assert result.summary.status == "completed"
    assert spent("run") >= max(before, 18)


def test_a_node_store_and_a_ledger_share_a_folder(tmp_path):
    app = client_app(Digits(), privacy=STRONG, node_store=tmp_path / "nodes")
    with InProcessGrid(app, 6, workers=0) as grid:
        train_on(
            grid,
            Digits(),
            privacy=STRONG,
            num_rounds=1,
            training=TRAINING,
            loops=(),
            output_dir=tmp_path / "run",
            progress="quiet",
        )
    assert len(list((tmp_path / "nodes" / "privacy").glob("node-*/ledger.jsonl"))) == 6
    assert NodeStore(tmp_path / "nodes").next_sequence("default", 0) >= 1
    # Only nodes know what they have spent.
    assert load(tmp_path / "run").summary.privacy is None
