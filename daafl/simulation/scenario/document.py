"""YAML with line numbers: plain values only, bounded, and every key once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from daafl.errors import ConfigError

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 20
MAX_KEY: Final = 100

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_BEGINS: Final = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_ENDS: Final = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


@dataclass(frozen=True)
class Document:
    """A YAML file as plain values, and the line of everything in it.

    Parameters
    ----------
    source
        Name of the file, for sentences.
    value
        Mappings, lists, texts, numbers, booleans and ``None``.
    lines
        Line, from 1, of each value by its path: keys of mappings and indices of lists.
    """

    source: str
    value: Any
    lines: Mapping[tuple[str | int, ...], int]

    def place(self, *path: str | int) -> str:
        """Return file and line of a path, or of the nearest part of it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        line = self.lines.get(path)
        return self.source if line is None else f"{self.source}, line {line}"


def parsed(text: str, source: str) -> Document:
    """Return a document of plain values.

    Raises
    ------
    ConfigError
        With file and line: what is no YAML, too large, nested too deeply, or more than plain
        values: a second document, a tag, an alias, a key that is no text or stands there twice.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{source} has more than {MAX_BYTES // 1024} KiB, the most there may be")
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        _check_tokens(text, source)
        root = yaml.compose(text, yaml.SafeLoader)
        value = None if root is None else _value(root, (), source, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = source if mark is None else f"{source}, line {mark.line + 1}"
        raise ConfigError(f"{place}: {error.problem or error.context}, which is no YAML") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} cannot be read: {' '.join(str(error).split())}") from error
    return Document(source, value, lines)


def _check_tokens(text: str, source: str) -> None:
    """Refuse, while it is still cheap, what would take long to put together."""
    depth = 0
    for token in yaml.scan(text, yaml.SafeLoader):
        place = f"{source}, line {token.start_mark.line + 1}"
        if isinstance(token, yaml.AliasToken):
            raise ConfigError(f"{place}: *{token.value} refers to another place; write it out")
        depth += isinstance(token, _BEGINS) - isinstance(token, _ENDS)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{place}: lists and mappings are more than {MAX_DEPTH} deep")


def _value(node: yaml.Node, path: tuple[str | int, ...], source: str, lines: dict[Any, int]) -> Any:
    """Return the plain value of a node; note the lines of all that is in it."""
    line = node.start_mark.line + 1
    lines.setdefault(path, line)  # of a value in a mapping, the line of its key counts
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        return [
            _value(item, (*path, index), source, lines) for index, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        found: dict[str, Any] = {}
        for key_node, item in node.value:
            key, key_line = _key(key_node), key_node.start_mark.line + 1
            if key is None:
                raise ConfigError(f"{source}, line {key_line}: this is no name of a key")
            if key in found:
                raise ConfigError(
                    f"{source}, line {key_line}: {key} is given twice, first in line "
                    f"{lines[(*path, key)]}"
                )
            lines[(*path, key)] = key_line
            found[key] = _value(item, (*path, key), source, lines)
        return found
    if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN:
        return _scalar(node, f"{source}, line {line}")
    raise ConfigError(
        f"{source}, line {line}: {node.value!r:.60} is {node.tag.removeprefix(_TAG)}, but must be "
        "a text, a number, true, false, null, a list or a mapping; quote what is a text"
    )


def _key(node: yaml.Node) -> str | None:
    """Return the name of a key; ``None`` if it is none."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_TAG}str":
        return None
    name = str(node.value)
    return name if name.isprintable() and len(name) <= MAX_KEY else None


def _scalar(node: yaml.ScalarNode, place: str) -> Any:
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_object(node)
    except ValueError as error:  # such as an integer of ten thousand digits
        raise ConfigError(f"{place}: {node.value[:60]!r} cannot be read as a number") from error
