"""Shell completion: groups, options and keys for ``daafl run``, and the scripts that ask for them.

bash breaks words at ``=`` and ``:``, so its script hands over the line as typed and gets back only
what follows the last break.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from daafl.config.groups import option_groups
from daafl.errors import ConfigError

PROGRAM: Final = "daafl"
VARIABLE: Final = "_DAAFL_COMPLETE"
_LINE: Final = "_DAAFL_LINE"
_BREAKS: Final = "_DAAFL_BREAKS"

_BASH_SCRIPT: Final = """\
%(complete_func)s() {
    local IFS=$'\\n'
    COMPREPLY=($(_DAAFL_LINE="${COMP_LINE:0:COMP_POINT}" _DAAFL_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1"))
    # What ends like this is to be continued.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=./] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -o default -F %(complete_func)s %(prog_name)s
"""


class LineBashComplete(BashComplete):
    """Completion for bash that knows words with ``=`` in them."""

    source_template = _BASH_SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor's, and the cursor's as far as it is typed."""
        line = os.environ[_LINE]
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        self._shown_from = _after_last_break(incomplete, os.environ.get(_BREAKS, ""))
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return the part of a completion that bash inserts."""
        # Files are left to bash, which completes them when it gets nothing else.
        return str(item.value)[self._shown_from :] if item.type == "plain" else ""


class OpenZshComplete(ZshComplete):
    """Completion for zsh that adds no space after ``key=``."""

    source_template = ZshComplete.source_template.replace("compadd -U", "compadd -S '' -U")


add_completion_class(LineBashComplete)
add_completion_class(OpenZshComplete)


def complete_overrides(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return what an override may go on with: ``strategy=``, ``strategy=fedavg``, ``seed=0``."""
    words = context.params.get("overrides") or ()
    return [
        CompletionItem(value, help=text or None)
        for value, text in candidates(words, incomplete)
        if value.startswith(incomplete)
    ]


def candidates(words: Sequence[str], incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield overrides and descriptions that may follow ``words``.

    Examples
    --------
    >>> [value for value, _ in candidates([], "loop/health=")]
    ['loop/health=default', 'loop/health=off']
    """
    groups = option_groups()
    key, is_assigned, value = incomplete.partition("=")
    name = key.lstrip("+~")
    if not is_assigned:
        yield from ((f"{group}=", "") for group in groups)
        yield from ((text, "") for text in _keys(_configuration(words), key))
    elif name in groups:
        listed, comma, _ = value.rpartition(",")
        for option in groups[name]:
            yield f"{key}={listed}{comma}{option.name}", option.description
    else:
        yield from ((f"{key}={text}", "") for text in _values(_configuration(words), name))


@click.command(
    epilog="""
    \b
    Examples:
      daafl completion bash --install
      eval "$(daafl completion zsh)"          for this terminal only
    """
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--install", is_flag=True, help="Set it up for every new terminal.")
def completion(shell: str, *, install: bool) -> None:
    """Print the completion script of a shell."""
    script = completion_script(shell)
    if not install:
        click.echo(script)
        return
    path = install_completion(shell, script, Path.home())
    click.echo(f"installed in {path}; open a new terminal to use it")


def completion_script(shell: str) -> str:
    """Return what a shell must run so that it completes ``daafl``."""
    kind = get_completion_class(shell)
    if kind is None:
        raise ConfigError(f"completion is not known for {shell}; choose bash, zsh or fish")
    root = click.Command(PROGRAM)
    return kind(root, {}, PROGRAM, VARIABLE).source()


def install_completion(shell: str, script: str, home: Path) -> Path:
    """Write the script where the shell looks for it, and return where; twice changes nothing.

    Raises
    ------
    ConfigError
        If it cannot be written there.
    """
    try:
        if shell == "fish":
            path = home / ".config" / "fish" / "completions" / f"{PROGRAM}.fish"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script, encoding="utf-8")
            return path
        path = home / f".{shell}rc"
        line = f'command -v {PROGRAM} > /dev/null && eval "$({PROGRAM} completion {shell})"'
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        if line not in present.splitlines():
            separator = "" if present.endswith("\n") or not present else "\n"
            path.write_text(f"{present}{separator}{line}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from error
    return path


def _configuration(words: Sequence[str]) -> Mapping[str, Any]:
    """Return the configuration that the words before the cursor make, as far as they are right."""
    from daafl.config.composition import compose

    try:
        return compose(words).unresolved
    except ConfigError:
        return compose().unresolved


def _keys(node: Mapping[str, Any], typed: str) -> Iterator[str]:
    """Yield the keys of the level that is being typed: ``seed=``, ``strategy.``."""
    parent, dot, _ = typed.rpartition(".")
    found = _at(node, parent) if dot else node
    if not isinstance(found, Mapping):
        return
    for key, value in found.items():
        is_off = value == {}
        if not key.startswith("_") and not is_off:
            yield f"{parent}{dot}{key}{'.' if isinstance(value, Mapping) else '='}"


def _values(node: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield values for a key: both of a switch, else the present one."""
    value = _at(node, key)
    if isinstance(value, bool):
        yield from ("true", "false")
    elif value is not None and not isinstance(value, Mapping | list):
        yield str(value)


def _at(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _after_last_break(word: str, breaks: str) -> int:
    """Return where the part of ``word`` starts that bash replaces."""
    return max((word.rfind(mark) + 1 for mark in "=:" if mark in breaks), default=0)
