"""Make one virtual environment per peer, since their requirements exclude each other.

    python benchmarks/peers/environments.py              # all of them, a few GB
    python benchmarks/peers/environments.py pfl plain    # some
    python benchmarks/peers/environments.py --into /elsewhere

They lie in ``.peers`` in the repository, or where ``DAAFL_PEERS`` says. An environment whose
requirements have not changed is left as it is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
PEERS: Final = ("plain", "pfl", "fedjax", "flower")
_STAMP: Final = "requirements.installed"


def folder() -> Path:
    """Return where the environments lie."""
    default = HERE.parents[1] / ".peers"
    return Path(os.environ.get("DAAFL_PEERS") or default).resolve()


def python_of(peer: str, into: Path) -> Path:
    """Return the interpreter of a peer's environment, whether or not it is there."""
    scripts = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    return into / peer / scripts


def is_made(peer: str, into: Path) -> bool:
    """Return whether a peer's environment holds what its requirements say."""
    stamp = into / peer / _STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _requirements(peer).read_text(
        encoding="utf-8"
    )


def make(peer: str, into: Path) -> None:
    """Make a peer's environment.

    Raises
    ------
    subprocess.CalledProcessError
        If pip cannot install the requirements.
    """
    venv.create(into / peer, clear=True, with_pip=True)
    requirements = _requirements(peer)
    subprocess.run(
        [python_of(peer, into), "-m", "pip", "install", "--quiet", "-r", requirements], check=True
    )
    stamp = into / peer / _STAMP
    stamp.write_text(requirements.read_text(encoding="utf-8"), encoding="utf-8")


def versions(peer: str, into: Path) -> dict[str, str]:
    """Return the versions of everything in a peer's environment."""
    listed = subprocess.run(
        [python_of(peer, into), "-m", "pip", "freeze"], check=True, capture_output=True, text=True
    )
    pairs = (line.split("==") for line in listed.stdout.splitlines() if "==" in line)
    return {name: version for name, version in pairs}


def _requirements(peer: str) -> Path:
    return HERE / "requirements" / f"{peer}.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments that are named, or all, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("peers", nargs="*", metavar="peer", help=", ".join(PEERS))
    parser.add_argument("--into", type=Path, default=folder(), help="folder (%(default)s)")
    options = parser.parse_args(arguments)
    unknown = set(options.peers) - set(PEERS)
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    for peer in options.peers or PEERS:
        if is_made(peer, options.into):
            print(f"{peer}: there already, in {options.into / peer}")
            continue
        print(f"{peer}: installing into {options.into / peer}", flush=True)
        make(peer, options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
