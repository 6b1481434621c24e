"""What README and docs tell to type works: Python blocks, `daafl` commands, `make` targets."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code in a document; ``line`` is where it starts."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    """Return the blocks of a language in all documents."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(document, line, match[1], match[2]))
    return [block for block in found if block.language == language]


def commands(program: str) -> list[list[str]]:
    """Return the arguments of every command of a program, without comments, in order."""
    texts = [block.text.replace("\\\n", " ") for block in blocks("bash")]
    lines = [line for text in texts for line in text.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [found[1:] for found in words if found[:1] == [program]]


def daafl(arguments: list[str], folder: Path) -> str:
    """Run a `daafl` command and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "daafl", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"daafl {shlex.join(arguments)}:\n{done.stderr}"
    return done.stdout


# Each block has names of its own; one process for all spares importing torch for each.
RUN_BLOCKS = """
import json, sys
for where, text in json.load(sys.stdin):
    exec(compile(text, where, "exec"), {"__name__": "__main__"})
"""


@pytest.mark.parametrize("name", sorted({block.document.name for block in blocks("python")}))
def test_the_python_blocks_of_a_document_run(name: str, tmp_path: Path) -> None:
    found = [(str(b), b.text) for b in blocks("python") if b.document.name == name]
    done = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKS],
        input=json.dumps(found),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_commands_that_only_show_something_run(tmp_path: Path) -> None:
    shown = [words for words in commands("daafl") if words[0] == "list" or "--cfg" in words]
    assert len(shown) >= 2
    for words in shown:
        assert daafl(words, tmp_path)


@pytest.mark.system
def test_every_command_runs_in_the_order_of_the_documents(tmp_path: Path) -> None:
    for words in commands("daafl"):
        if words[0] == "run" and "--cfg" not in words:
            words = [*words, "num_rounds=2"]  # what is tested is that they fit together
        newest = max(tmp_path.glob("runs/*"), default=None, key=lambda path: path.stat().st_mtime)
        daafl([word.replace("runs/NAME", str(newest)) for word in words], tmp_path)
    assert len(list(tmp_path.glob("runs/*"))) >= 5


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert commands("make")
    for words in commands("make"):
        assert words[0] in targets


def test_files_that_are_mentioned_exist() -> None:
    paths = re.compile(r"`((?:daafl|strategies|clients|conf|examples|docs|tests)/[\w./-]*)`")
    for document in DOCUMENTS:
        for mentioned in paths.findall(document.read_text(encoding="utf-8")):
            assert (ROOT / mentioned).exists(), f"{document.name} mentions {mentioned}"
