import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import daafl
from daafl.clients import client_app
from daafl.errors import ConfigError, DataError, FederationError
from daafl.federation import RunResult, train_on
from daafl.learning import Examples
from daafl.observability.events import RunInfo, RunSummary, StepRecord
from daafl.simulation import InProcessGrid
from daafl.store.run_folder import load
from daafl.strategies import Autonomous, EarlyStopping, LocalTraining, Override


class Halves(daafl.Task):
    """Points left and right of a plane; nothing slow."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))

    def training(self) -> Examples:
        return self.points(240, seed=0)

    def evaluation(self) -> Examples | None:
        return self.points(100, seed=1)

    @staticmethod
    def points(number: int, *, seed: int) -> Examples:
        inputs = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
        return Examples(inputs, (inputs[:, 0] > 0).astype(np.int64))


class WithoutEvaluation(Halves):
    def evaluation(self) -> None:
        return None


class Broken(WithoutEvaluation):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError("no loss")


class NoEvaluationData(Halves):
    def evaluation(self) -> Examples:
        raise OSError("gone")


class NotANumber(Halves):
    def training(self) -> Examples:
        examples = super().training()
        return Examples(np.full_like(examples.inputs, np.nan), examples.targets)


class Tied(Halves):
    def model(self) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
        model[2].weight = model[0].weight
        return model


class Interrupts:
    """Observer that presses Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, info: RunInfo) -> None:
        """Do nothing."""

    def stepped(self, record: StepRecord) -> None:
        """Interrupt."""
        if record.kind == "train" and record.step == self.step:
            raise KeyboardInterrupt

    def finished(self, summary: RunSummary) -> None:
        """Do nothing."""


def small_run(path: Path, *, task: daafl.Task | None = None, **options: object) -> RunResult:
    settings = {"num_nodes": 6, "num_rounds": 4, "workers": 0, "progress": "quiet"} | options
    return daafl.run(task or Halves(), output_dir=path, **settings)  # type: ignore[arg-type]


def story(path: Path) -> tuple[list[StepRecord], str]:
    """Return all steps without wall-clock times, and the text of the journal."""
    steps = [replace(step, wall_seconds=0.0) for step in load(path).steps]
    return steps, (path / "journal.jsonl").read_text()


def test_the_result_is_the_model_the_summary_and_the_folder(tmp_path: Path) -> None:
    task = Halves()
    result = small_run(tmp_path / "run", task=task)
    assert result.status == "completed"
    assert result.output_dir == tmp_path / "run"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["rounds"] == result.summary.rounds == 4
    assert summary["seed"] == 0
    assert {path.name for path in result.output_dir.iterdir()} == {
        "checkpoints",
        "info.json",
        "journal.jsonl",
        "report.html",
        "rounds.jsonl",
        "summary.json",
    }
    # The accuracy, computed anew from the returned model.
    examples = task.evaluation_data()
    assert examples is not None
    with torch.no_grad():
        outputs = result.model()(torch.tensor(np.asarray(examples.inputs)))
    right = (outputs.argmax(1).numpy() == np.asarray(examples.targets)).mean()
    assert result.summary.final_accuracy == pytest.approx(right, abs=1e-6)
    assert right > 0.8


def test_the_final_model_is_in_the_folder(tmp_path: Path) -> None:
    result = small_run(tmp_path / "run")
    with np.load(tmp_path / "run" / "checkpoints" / "model.npz") as stored:
        assert set(stored) == set(result.arrays) == set(Halves().model().state_dict())
        for name in stored:
            np.testing.assert_array_equal(stored[name], result.arrays[name])


def test_the_same_seed_gives_the_same_run_with_any_number_of_workers(tmp_path: Path) -> None:
    results = [small_run(tmp_path / str(n), workers=n, seed=3) for n in (0, 1, 2)]
    for n in (1, 2):
        assert story(tmp_path / str(n)) == story(tmp_path / "0")
        for name, array in results[0].arrays.items():
            np.testing.assert_array_equal(array, results[n].arrays[name])
    other = small_run(tmp_path / "other", seed=4)
    assert any((other.arrays[name] != array).any() for name, array in results[0].arrays.items())


def test_a_grid_of_ones_own_gives_the_same_run(tmp_path: Path) -> None:
    small_run(tmp_path / "run", seed=3)
    with InProcessGrid(client_app(Halves()), 6, workers=0) as grid:
        train_on(
            grid,
            Halves(),
            num_rounds=4,
            seed=3,
            output_dir=tmp_path / "train_on",
            progress="quiet",
        )
    assert story(tmp_path / "train_on") == story(tmp_path / "run")


def test_without_a_folder_a_new_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = daafl.run(Halves(), num_nodes=4, num_rounds=1, workers=0, progress="quiet", seed=9)
    assert first.output_dir.parent == Path("runs")
    assert first.output_dir.name.endswith("-halves-s9")


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    before = (tmp_path / "run" / "rounds.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="already holds a run"):
        small_run(tmp_path / "run")
    assert (tmp_path / "run" / "rounds.jsonl").read_bytes() == before


def test_the_configuration_is_stored_as_given(tmp_path: Path) -> None:
    small_run(tmp_path / "run", config="seed: 0\n")
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 0\n"


def test_centralised_training_is_compared_when_asked(tmp_path: Path) -> None:
    small_run(tmp_path / "run", baseline=True)
    baseline = load(tmp_path / "run").baseline
    assert baseline is not None
    assert baseline.accuracy is not None
    assert baseline.accuracy > 0.9
    assert "600 steps" in baseline.description


def test_without_evaluation_data_the_nodes_evaluate(tmp_path: Path) -> None:
    result = small_run(tmp_path / "run", task=WithoutEvaluation())
    assert result.summary.final_accuracy is not None
    assert result.summary.final_accuracy > 0.8


def test_tied_parameters_come_back_under_all_their_names(tmp_path: Path) -> None:
    model = small_run(tmp_path / "run", task=Tied()).model()
    state = model.state_dict()
    torch.testing.assert_close(state["0.weight"], state["2.weight"], rtol=0, atol=0)


def test_it_stops_early_when_told_so(tmp_path: Path) -> None:
    result = small_run(tmp_path / "run", stopping=EarlyStopping(target=0.5))
    assert result.summary.rounds == 1
    assert "reached the target" in result.summary.reason


def test_a_single_node_is_a_federation_too(tmp_path: Path) -> None:
    assert small_run(tmp_path / "run", num_nodes=1).summary.nodes == 1


def test_a_run_that_fails_says_so_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="no node has sent an update"):
        small_run(tmp_path / "run", task=Broken(), loops=())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "no node has sent an update" in summary["reason"]
    assert (tmp_path / "run" / "report.html").stat().st_size > 0


def test_an_interrupted_run_is_complete_up_to_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "run", progress=Interrupts(step=2))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert summary["rounds"] == 2
    assert (tmp_path / "run" / "report.html").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_nodes": 0}, "num_nodes is 0"),
        ({"num_rounds": 0}, "num_rounds is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"evaluate_every": -1}, "evaluate_every is -1"),
        ({"strategy": Autonomous()}, "cannot wrap Autonomous"),
        ({"overrides": (Override(1, "lrr", 1.0),)}, "no such knob"),
        ({"progress": "loud"}, "progress='loud'"),
    ],
)
def test_wrong_arguments_are_refused_before_a_folder_is_made(
    tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        small_run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_data_that_does_not_suffice_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="240 examples cannot be divided among 300 nodes"):
        small_run(tmp_path / "run", num_nodes=300)
    with pytest.raises(OSError, match="gone"):
        small_run(tmp_path / "run", task=NoEvaluationData())
    assert not (tmp_path / "run").exists()


def test_threads_are_put_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        small_run(tmp_path / "run")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_no_global_random_state_is_touched_or_used(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(1)
    np.random.seed(1)
    small_run(tmp_path / "run")
    torch.testing.assert_close(torch.rand(3), expected[0], rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.rand(3), expected[1])


def test_a_run_that_could_use_no_update_has_failed(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"no update could be used in any of 4 steps.*finite"):
        small_run(tmp_path / "run", task=NotANumber())
    summary = load(tmp_path / "run").summary
    assert summary is not None and summary.status == "failed"


def test_a_last_batch_of_one_costs_no_node_with_batch_normalisation(tmp_path: Path) -> None:
    # 240 points over 8 nodes are 30 each; 29 a batch leaves one.
    result = small_run(tmp_path / "run", num_nodes=8, training=LocalTraining(batch_size=29))
    assert result.summary.status == "completed"
    assert all(not step.failures for step in load(tmp_path / "run").steps)
