"""Every example in a docstring prints what the docstring says."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def module_names() -> list[str]:
    """Return the modules with examples, under their installed names."""
    files = [
        file
        for folder in ("daafl", "strategies", "clients")
        for file in sorted((ROOT / folder).rglob("*.py"))
        if ">>> " in file.read_text(encoding="utf-8")
    ]
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in files]
    named = [path if path[0] == "daafl" else ("daafl", *path) for path in parts]
    return [".".join(path).removesuffix(".__init__") for path in named]


@pytest.mark.parametrize("name", module_names())
def test_examples_in_docstrings(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
