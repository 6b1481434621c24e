"""What `import daafl` loads and offers, and what the folders at the top of a checkout refuse."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daafl

ROOT = Path(__file__).resolve().parents[2]


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)


def test_importing_daafl_loads_no_library(tmp_path: Path) -> None:
    code = "import sys, daafl; print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(ast.literal_eval(run_python(code, tmp_path).stdout))
    heavy = {"flwr", "hydra", "numpy", "omegaconf", "plotly", "ray", "rich", "scipy", "torch"}
    assert "daafl" in loaded
    assert not loaded & heavy


@pytest.mark.parametrize("name", daafl.__all__)
def test_every_public_name_loads_on_first_use(name: str) -> None:
    assert getattr(daafl, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'daafl' has no attribute 'rum'"):
        _ = daafl.rum


@pytest.mark.parametrize("folder", ["strategies", "clients", "conf"])
def test_a_mapped_folder_refuses_a_second_identity(folder: str) -> None:
    done = run_python(f"import {folder}", ROOT)
    assert done.returncode == 1
    assert done.stderr.endswith(f"ImportError: import daafl.{folder}, not {folder}\n")
