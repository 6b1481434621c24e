"""``daafl audit verify`` on logs that are whole, changed, cut and torn."""

import json
from pathlib import Path

import pytest

from daafl.cli.app import exit_code
from daafl.secure.trail import Trail

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of four lines in the folder in which we stand."""
    monkeypatch.chdir(tmp_path)
    path = Path("audit.jsonl")
    with Trail(path) as trail:
        for number in range(4):
            trail.note("update_accepted", node=number, round=1)
    return path


def verified(capfd: Captured, *arguments: str) -> tuple[int, dict[str, object]]:
    capfd.readouterr()
    code = exit_code(["audit", "verify", "audit.jsonl", *arguments, "--json"])
    document: dict[str, object] = json.loads(capfd.readouterr().out)
    return code, document


def test_a_whole_log(log: Path, capfd: Captured) -> None:
    code, document = verified(capfd)
    own = json.loads(log.read_text().splitlines()[-1])["hash"]
    assert code == 0
    assert document == {
        "file": "audit.jsonl",
        "whole": True,
        "lines": 4,
        "head": f"4:{own}",
        "broken_line": None,
        "problem": None,
    }
    assert exit_code(["audit", "verify", "audit.jsonl", "--head", f"4:{own}"]) == 0
    assert f"4 lines, none changed; it ends at 4:{own}" in capfd.readouterr().out


def test_the_first_changed_line_is_named(log: Path, capfd: Captured) -> None:
    lines = log.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"node":2', '"node":3')
    log.write_text("".join(lines))
    code, document = verified(capfd)
    assert (code, document["broken_line"], document["whole"]) == (1, 3, False)
    assert exit_code(["audit", "verify", "audit.jsonl"]) == 1
    assert "audit line 3 does not match its own hash" in capfd.readouterr().out


def test_lines_cut_off_show_against_a_head(log: Path, capfd: Captured) -> None:
    _, whole = verified(capfd)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    assert verified(capfd)[0] == 0
    code, document = verified(capfd, "--head", str(whole["head"]))
    assert (code, document["broken_line"]) == (1, 3)
    assert "it had 4 lines" in str(document["problem"])


def test_a_torn_line_is_not_taken_for_a_whole_one(log: Path, capfd: Captured) -> None:
    log.write_bytes(log.read_bytes()[:-1])
    code, document = verified(capfd)
    assert (code, document["broken_line"]) == (1, 4)
    assert "is not complete" in str(document["problem"])


def test_the_folder_of_a_run_stands_for_its_log(log: Path, capfd: Captured) -> None:
    assert exit_code(["audit", "verify", "."]) == 0
    assert "audit.jsonl: 4 lines, none changed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.jsonl"], "cannot read the audit log none.jsonl"),
        ([".."], "cannot read the audit log audit.jsonl"),
        (["audit.jsonl", "--head", "4"], "is not LINES:HASH"),
        ([], "Missing argument"),
    ],
)
def test_input_that_cannot_be_used(
    arguments: list[str], sentence: str, log: Path, capfd: Captured
) -> None:
    assert exit_code(["audit", "verify", *arguments]) == 2
    assert sentence in capfd.readouterr().err
