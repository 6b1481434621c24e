"""What can be chosen: the configuration files that are shipped, and those of a user's own folder.

Reads folder names and first lines only, so that lists, completion and error sentences need not
wait for Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

CONFIG_MODULE = "daafl.conf"


@dataclass(frozen=True)
class Option:
    """One file of a group.

    Parameters
    ----------
    name
        As it is chosen: ``fedavg`` in ``strategy=fedavg``.
    description
        The file's first line of comment; empty if there is none.
    """

    name: str
    description: str


def option_groups(folder: Path | None = None) -> dict[str, tuple[Option, ...]]:
    """Return the options of every group, both in alphabetical order.

    Parameters
    ----------
    folder
        A user's own configuration folder; its files come in addition and win over shipped ones.

    Examples
    --------
    >>> [option.name for option in option_groups()["loop/health"]]
    ['default', 'off']
    """
    found: dict[str, dict[str, Option]] = {}
    for root in [files(CONFIG_MODULE), *([folder] if folder else [])]:
        for group, option in _walk(root):
            found.setdefault(group, {})[option.name] = option
    return {
        group: tuple(options[name] for name in sorted(options))
        for group, options in sorted(found.items())
    }


def option_names(groups: Mapping[str, tuple[Option, ...]], group: str) -> list[str]:
    """Return the names of a group's options."""
    return [option.name for option in groups[group]]


def default_options() -> dict[str, str]:
    """Return the option of every group that is chosen unless a user says otherwise.

    Examples
    --------
    >>> default_options()["strategy"]
    'fedavg'
    """
    text = files(CONFIG_MODULE).joinpath("config.yaml").read_text(encoding="utf-8")
    entries = yaml.safe_load(text)["defaults"]
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return {group: option for group, option in pairs if option is not None}


def _walk(folder: Traversable | Path, group: str = "") -> Iterator[tuple[str, Option]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{group}/{entry.name}".lstrip("/"))
        elif group and entry.name.endswith(".yaml"):
            yield group, Option(entry.name.removesuffix(".yaml"), _first_comment(entry))


def _first_comment(file: Traversable | Path) -> str:
    """Return the first comment that is not one of Hydra's own, such as ``# @package``."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("#").strip()
        if text and not text.startswith("@"):
            return text
    return ""
