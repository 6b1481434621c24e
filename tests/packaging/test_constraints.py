"""The pinned versions cover what the project declares, and the declared versions agree."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import daafl

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [
    Requirement(line) for group in (PROJECT["dependencies"], *EXTRAS.values()) for line in group
]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, version in pairs}


@pytest.mark.parametrize(
    "requirement", [r for r in DECLARED if r.name != "daafl"], ids=lambda r: str(r)
)
def test_every_declared_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_all_names_every_extra_but_the_developers() -> None:
    (everything,) = (Requirement(line) for line in EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all", "dev"}


def test_an_edge_node_needs_no_torch() -> None:
    names = {Requirement(line).name for line in [*PROJECT["dependencies"], *EXTRAS["edge"]]}
    assert not names & {"torch", "ray", "scikit-learn"}


def test_make_installs_the_pinned_torch() -> None:
    assert f"TORCH := torch=={pins()['torch']}\n" in (ROOT / "Makefile").read_text()


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{daafl.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
