"""The wheel holds the whole package and shares one import name, whatever folder Python runs in."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "daafl": "daafl",
    "strategies": "daafl/strategies",
    "clients": "daafl/clients",
    "conf": "daafl/conf",
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from a copy, because a build writes beside its sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    build = subprocess.run(
        [*command, "--no-index", "--wheel-dir", str(out), str(copy)], capture_output=True, text=True
    )
    assert build.returncode == 0, build.stdout + build.stderr
    (made,) = out.glob("daafl-*.whl")
    return made


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the installed package, to be put first on the path."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def python(code: str, *, cwd: Path, site: Path) -> str:
    """Return what `code` prints when run in `cwd` with the packages of `site` and the libraries."""
    first = f"import sys; sys.path.insert(0, {str(site)!r}); "
    # `python -c` puts the working folder on the path, as a user's own scripts would have it.
    done = subprocess.run(
        [sys.executable, "-c", first + code], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_holds_every_file_of_the_four_folders(wheel: Path) -> None:
    expected = {
        f"{target}/{file.relative_to(ROOT / folder)}"
        for folder, target in FOLDERS.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_the_installed_command_and_licence_are_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        text = archive.read(entry_points).decode()
    assert "daafl = daafl.cli:main" in text
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_package_imports_from_another_folder(site: Path, tmp_path: Path) -> None:
    code = "import daafl.strategies, daafl.clients, daafl.conf; print(daafl.strategies.__file__)"
    where = python(code, cwd=tmp_path, site=site)
    assert where == str(site / "daafl" / "strategies" / "__init__.py")


def test_the_installed_package_needs_no_fallback_path(site: Path, tmp_path: Path) -> None:
    paths = python("import daafl; print(list(daafl.__path__))", cwd=tmp_path, site=site)
    assert paths == str([str(site / "daafl")])


@pytest.mark.parametrize("folder", ["strategies", "clients", "conf"])
def test_no_top_level_name_but_daafl_is_installed(folder: str, site: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u; print(u.find_spec({folder!r}))"
    assert python(code, cwd=tmp_path, site=site) == "None"


def test_a_users_app_keeps_its_own_strategies_package(site: Path, tmp_path: Path) -> None:
    own = tmp_path / "strategies"
    own.mkdir()
    (own / "__init__.py").write_text("OWNER = 'the app'\n")
    code = "import daafl.strategies, strategies; print(strategies.OWNER, daafl.strategies.__name__)"
    assert python(code, cwd=tmp_path, site=site) == "the app daafl.strategies"


def test_a_checkout_works_without_any_install(tmp_path: Path) -> None:
    code = "import daafl.strategies; print(daafl.strategies.__file__)"
    where = python(code, cwd=tmp_path, site=ROOT)
    assert where == str(ROOT / "strategies" / "__init__.py")
