"""``daafl explain`` and ``daafl replay`` on a real run."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import daafl
from daafl.cli.app import exit_code
from daafl.data.partition import Dirichlet
from daafl.learning.tasks.tabular import Wine
from daafl.loops import learning_rate

ARGUMENTS = ["task=digits", "num_rounds=14", "workers=0", "-q", "output_dir=run"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert exit_code(["run", *ARGUMENTS]) == 0
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run in the folder runs/, in which the process stands."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished, tmp_path / "runs" / "first"))


def edit(run: Path, change: Callable[[dict[str, Any]], bool]) -> None:
    """Apply a change to the first journal line that takes it."""
    journal = run / "journal.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert any(change(record) for record in records)
    journal.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def falsified_z(record: dict[str, Any]) -> bool:
    if record["kind"] != "closed":
        return False
    record["insight"]["z"] += 1.0
    return True


def explained(capfd: Captured, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = exit_code(["explain", *arguments, "--json"])
    document: dict[str, Any] = json.loads(capfd.readouterr().out)
    return code, document


def test_every_decision_is_listed_and_every_number_comes_out_as_recorded(
    run: Path, capfd: Captured
) -> None:
    code, document = explained(capfd)
    assert code == 0
    assert document["replay"]["identical"] is True
    lines = (run / "rounds.jsonl").read_text().splitlines()
    told = {d["number"] for line in lines for d in json.loads(line)["decisions"]}
    listed = {decision["number"] for decision in document["decisions"]}
    assert told < listed  # the journal also has the decision before the first step
    assert all(not decision["checks"]["mismatches"] for decision in document["decisions"])
    assert sum(decision["checks"]["made"] for decision in document["decisions"]) > 100
    assert exit_code(["explain"]) == 0
    text = capfd.readouterr().out
    assert text.count("main:") == len(listed) + 1
    assert "learning_rate: " in text
    name = re.search(r"`daafl explain runs/first --decision (main:\d+)` tells one in full", text)
    assert name is not None
    assert exit_code(["explain", "first", "--decision", name[1]]) == 0
    text = capfd.readouterr().out
    assert "all as recorded" in text
    assert "decided" in text


def test_one_loop_and_one_decision(run: Path, capfd: Captured) -> None:
    code, document = explained(capfd, "--loop", "learning_rate", "--decision", "2")
    assert code == 0
    (decision,) = document["decisions"]
    assert (decision["decision"], decision["loop"]) == ("main:2", "learning_rate")
    assert len(decision["seen"]["probe_rates"]["value"]) == 8


def test_a_falsified_number_is_reported_and_fails(run: Path, capfd: Captured) -> None:
    edit(run, falsified_z)
    code, document = explained(capfd)
    assert code == 1
    wrong = [d for d in document["decisions"] if d["checks"]["mismatches"]]
    assert [c["what"] for c in wrong[0]["checks"]["mismatches"]] == ["z"]
    assert document["replay"]["identical"] is False
    assert exit_code(["explain", "--decision", wrong[0]["decision"]]) == 1
    text = capfd.readouterr().out
    assert "1 not as recorded" in text
    assert "insight.z: recorded" in text


def test_the_page_is_written_where_asked(run: Path, capfd: Captured) -> None:
    assert exit_code(["explain", "--html", "why.html"]) == 0
    assert "page: why.html" in capfd.readouterr().out
    assert Path("why.html").read_text().startswith("<!doctype html>")
    assert exit_code(["explain", "--html", "no/such/why.html"]) == 2
    assert "cannot be written" in capfd.readouterr().err


def test_a_run_replays_identically(run: Path, capfd: Captured) -> None:
    assert exit_code(["replay"]) == 0
    assert "judgements come out as recorded" in capfd.readouterr().out
    assert exit_code(["replay", str(run), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    # One cycle of each hub before the first step, one after the probe, one after every step.
    assert document["cycles"] == 2 * (1 + 1 + 14)
    assert document["identical"] is True
    assert document["divergence"] is None


def test_a_replay_says_where_it_diverges(run: Path, capfd: Captured) -> None:
    edit(run, falsified_z)
    assert exit_code(["replay"]) == 1
    text = capfd.readouterr().out
    assert re.search(r"decide differently at main, tick \d+: insight\.z: recorded", text)
    assert exit_code(["replay", "--json"]) == 1
    divergence = json.loads(capfd.readouterr().out)["divergence"]
    assert divergence["target"] == "main"
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("kappa: 0.6", "kappa: 0.5"))
    assert exit_code(["replay"]) == 1
    assert "decisions[1]" in capfd.readouterr().out


def test_a_run_from_python_is_explained_but_not_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    daafl.run(
        Wine(Dirichlet(0.3)), num_nodes=6, num_rounds=8, workers=0, output_dir="out",
        progress="quiet", loops=[learning_rate(kappa=0.4)],
    )  # fmt: skip
    assert exit_code(["replay", "out"]) == 2
    assert "has no config.yaml: it was started from Python" in capfd.readouterr().err
    code, document = explained(capfd, "out")
    assert code == 0
    assert document["replay"]["identical"] is None
    assert document["decisions"]


MISTAKES = [
    (["explain", "--decision", "999"], 2, "there is no decision 999; there are main:1 to"),
    (["explain", "--decision", "first"], 2, "is no number of a decision; write 12, or main:12"),
    (["explain", "--loop", "learning"], 2, "did you mean learning_rate?"),
    (["explain", "nope"], 2, "there is no run folder nope"),
    (["replay", "nope"], 2, "there is no run folder nope"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), MISTAKES)
def test_a_mistake_has_its_sentence(
    arguments: list[str], code: int, sentence: str, run: Path, capfd: Captured
) -> None:
    assert exit_code(arguments) == code
    assert sentence in capfd.readouterr().err


@pytest.mark.parametrize("command", ["explain", "replay"])
def test_a_run_without_a_journal_or_with_a_damaged_one(
    command: str, run: Path, capfd: Captured
) -> None:
    journal = run / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], "{broken", *lines[3:]]) + "\n")
    assert exit_code([command]) == 1
    assert "journal.jsonl, line 4 is damaged" in capfd.readouterr().err
    journal.unlink()
    assert exit_code([command]) == 2
    assert "has no journal.jsonl" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["- a list\n", "loop: [1]\n", "a: [\n"])
def test_a_configuration_that_is_none_is_refused(text: str, run: Path, capfd: Captured) -> None:
    (run / "config.yaml").write_text(text)
    assert exit_code(["replay"]) == 2
    assert "config.yaml" in capfd.readouterr().err
    assert exit_code(["explain"]) == 0
    assert "not replayed" in capfd.readouterr().out


def test_a_damaged_step_is_told_and_what_is_left_is_reported(run: Path, capfd: Captured) -> None:
    rounds = run / "rounds.jsonl"
    lines = rounds.read_text().splitlines()
    rounds.write_text("\n".join([*lines[:4], lines[4][:50], *lines[5:]]) + "\n")
    assert exit_code(["report", "--text"]) == 0
    assert "Line 5 of rounds.jsonl is damaged and left out" in capfd.readouterr().out
    code, document = explained(capfd)
    assert code == 0
    assert "Line 5" in document["notes"][0]


def test_help_teaches_how_decisions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["explain", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--decision main:12" in text
    assert "numbered per target" in text
