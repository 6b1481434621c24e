import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ZshComplete

from daafl.cli.completion import candidates, completion_script, install_completion

BASH = shutil.which("bash")


def values(words: list[str], incomplete: str) -> list[str]:
    return [value for value, _ in candidates(words, incomplete) if value.startswith(incomplete)]


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "loop/health=", ["loop/health=default", "loop/health=off"]),
        ([], "strategy=fedad", ["strategy=fedadagrad", "strategy=fedadam"]),
        ([], "strategy=fedavg,fedad", ["strategy=fedavg,fedadagrad", "strategy=fedavg,fedadam"]),
        ([], "strat", ["strategy=", "strategy."]),
        ([], "stopp", ["stopping="]),
        (["stopping=target"], "stopp", ["stopping=", "stopping."]),
        ([], "num_", ["num_nodes=", "num_rounds="]),
        ([], "loop.", ["loop.health.", "loop.learning_rate.", "loop.quality."]),
        ([], "baseline=", ["baseline=true", "baseline=false"]),
        ([], "num_rounds=", ["num_rounds=60"]),
        (["experiment=quickstart", "num_rounds=7"], "num_rounds=", ["num_rounds=7"]),
        (["strategy=fedprox"], "strategy.", ["strategy.proximal_mu="]),
        (["strategy=fedprox"], "strategy.proximal_mu=", ["strategy.proximal_mu=0.1"]),
        (["nonsense=1"], "num_r", ["num_rounds="]),
        ([], "strategy.nope.", []),
        ([], "nope=", []),
        ([], "overrides=", []),
    ],
)
def test_what_an_override_may_go_on_with(
    words: list[str], incomplete: str, expected: list[str]
) -> None:
    assert values(words, incomplete) == expected


def test_options_come_with_their_descriptions() -> None:
    found = dict(candidates([], "pacing="))
    assert found["pacing=synchronous"] == "Ten nodes train, and all of them are waited for"


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("daafl rep", ["replay", "report"]),
        ("daafl run --mul", ["--multirun"]),
        ("daafl run strategy=fedav", ["fedavg", "fedavgm"]),
        ("daafl run strategy=fedprox strategy.", ["strategy.proximal_mu="]),
        ("daafl run loop/lea", ["loop/learning_rate="]),
        ("daafl list pac", ["pacing"]),
    ],
)
def test_bash_completes_a_line(line: str, expected: list[str], tmp_path: Path) -> None:
    """Runs the installed script in a real bash, set up as readline does it."""
    assert BASH is not None
    program = tmp_path / "daafl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m daafl "$@"\n')
    program.chmod(0o755)
    script = f"""
        {completion_script("bash")}
        compopt() {{ :; }}
        COMP_LINE={line!r}
        COMP_POINT=${{#COMP_LINE}}
        COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
        _daafl_completion {program}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([BASH, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_zsh_adds_no_space_after_a_key() -> None:
    assert "compadd -S '' -U" in completion_script("zsh")
    assert "compadd -S '' -U" not in ZshComplete.source_template


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installing_twice_is_installing_once(shell: str, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("alias a=b")
    script = completion_script(shell)
    first = install_completion(shell, script, tmp_path)
    text = first.read_text()
    assert "daafl" in text
    assert install_completion(shell, script, tmp_path) == first
    assert first.read_text() == text
    assert (tmp_path / ".bashrc").read_text().startswith("alias a=b")
