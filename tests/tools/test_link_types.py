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
    link_types: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("daafl/__init__.py", "daafl/py.typed", "strategies/robust/krum.py"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    for folder in ("clients", "conf"):
        (tmp_path / folder).mkdir()
    view = tmp_path / ".types" / "daafl"
    view.mkdir(parents=True)
    (view / "gone.py").symlink_to(tmp_path / "daafl" / "gone.py")
    monkeypatch.setattr(link_types, "ROOT", tmp_path)
    monkeypatch.setattr(link_types, "VIEW", view)

    link_types.main()
    (tmp_path / "strategies/robust/krum.py").write_text("KEPT = 3\n")

    files = {str(f.relative_to(view)) for f in view.rglob("*") if not f.is_dir()}
    assert files == {"__init__.py", "py.typed", "strategies/robust/krum.py"}
    assert (view / "strategies/robust/krum.py").read_text() == "KEPT = 3\n"
