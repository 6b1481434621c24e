"""The configuration as it may be shown and stored: without secrets.

Two kinds are kept out. What comes from the environment is shown as the interpolation that reads
it, wherever it is used; what stands under a name that sounds like a secret is shown as stars.
"""

from __future__ import annotations

import re
from typing import Any, Final

from omegaconf import DictConfig, OmegaConf

MASK: Final = "***"
_SECRET_NAME: Final = re.compile(
    r"(^|_)(token|secret|secrets|password|passwd|passphrase|credential|credentials)($|_)"
    r"|(api|access|private|secret|encryption|signing)_?key",
    re.IGNORECASE,
)
_FROM_ENVIRONMENT: Final = re.compile(r"(?<!\\)\$\{\s*oc\.env\s*:")


def presentable(config: DictConfig, *, resolve: bool) -> dict[str, Any]:
    """Return the configuration as plain values, without secrets.

    Parameters
    ----------
    config
        The composed configuration.
    resolve
        Whether to replace interpolations other than those of the environment.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    if resolve:
        # An escaped interpolation resolves to its own text, also through others that refer to it.
        escaped = OmegaConf.create(_escaped(raw))
        raw = OmegaConf.to_container(escaped, resolve=True)
    masked = _masked(raw)
    return {str(key): value for key, value in masked.items()}


def _escaped(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_escaped(value) for value in node]
    if isinstance(node, str):
        return _FROM_ENVIRONMENT.sub(lambda match: "\\" + match.group(), node)
    return node


def _masked(node: Any, name: str = "") -> Any:
    if isinstance(node, dict):
        return {key: _masked(value, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [_masked(value, name) for value in node]
    if _SECRET_NAME.search(name) and isinstance(node, str | int | float) and not _is_open(node):
        return MASK
    return node


def _is_open(value: object) -> bool:
    """Return whether a value gives nothing away: a flag, nothing at all, or an interpolation."""
    return isinstance(value, bool) or value == "" or str(value).startswith("${")
