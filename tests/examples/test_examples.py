"""Every example runs as its user would run it, in a folder of its own, and learns something."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
SAYS = {
    "custom_strategy.py": ["LoudestSilenced: accuracy", "SignDescent: accuracy"],
    "new_policy.py": ["diligence work more: local_steps 10", "accuracy"],
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_trains_a_model(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for words in SAYS[script.name]:
        assert words in done.stdout
    # What it prints itself; always saying "benign" is right for 63 % of the patients.
    accuracies = re.findall(r"^(?:\w+: )?accuracy (0\.\d+)", done.stdout, re.MULTILINE)
    assert accuracies
    assert all(float(accuracy) > 0.85 for accuracy in accuracies), done.stdout
    assert list(tmp_path.glob("runs/*/report.html"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_is_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
