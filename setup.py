"""Map the repository's top-level folders into the one import package ``daafl``.

Everything else about the distribution is in ``pyproject.toml``; only the list of packages is here,
because it is computed: a new sub-package is found without an edit.
"""

from setuptools import find_packages, setup

MAPPED_FOLDERS = ("strategies", "clients", "conf")
"""Folders that lie beside ``daafl/`` in the repository and inside it when installed."""

mapped_packages = [
    f"daafl.{package}"
    for folder in MAPPED_FOLDERS
    for package in find_packages(".", include=[folder, f"{folder}.*"])
]

setup(
    packages=find_packages(".", include=["daafl", "daafl.*"]) + mapped_packages,
    package_dir={"daafl": "daafl", **{f"daafl.{folder}": folder for folder in MAPPED_FOLDERS}},
)
