"""The static tools see the package as it looks when installed."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def link_types() -> ModuleType:
    spec = importlib.util.spec_from_file_location("link_types", ROOT / "tools" / "link_types.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_view_replaces_an_older_one_and_follows_edits(
    link_types: ModuleType, tmp_path: Path
) -> None:
    for path in ("daafl/__init__.py", "daafl/py.typed", "strategies/robust/krum.py"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    for folder in ("clients", "conf"):
        (tmp_path / folder).mkdir()
    old = tmp_path / ".types" / "daafl" / "gone.py"
    old.parent.mkdir(parents=True)
    old.symlink_to(tmp_path / "daafl" / "gone.py")

    view = link_types.link_package(tmp_path)
    (tmp_path / "strategies/robust/krum.py").write_text("KEPT = 3\n")
    (tmp_path / "strategies/new.py").write_text("ADDED = 4\n")

    names = {entry.name for entry in view.iterdir()}
    assert names == {"__init__.py", "py.typed", "strategies", "clients", "conf"}
    assert (view / "strategies/robust/krum.py").read_text() == "KEPT = 3\n"
    assert (view / "strategies/new.py").read_text() == "ADDED = 4\n"
