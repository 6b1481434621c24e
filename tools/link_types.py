"""Make ``.types/daafl``, the package as it looks when installed, for mypy and import-linter.

Static tools read folders and do not run ``setup.py``, so they cannot know that ``strategies/`` is
``daafl.strategies``. The view has real folders, because not every tool follows linked ones, and
links to the files, so that an edit needs no second run. It is git-ignored and made anew each time.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VIEW = ROOT / ".types" / "daafl"
MAPPED_FOLDERS = ("strategies", "clients", "conf")


def link_tree(source: Path, target: Path) -> None:
    """Mirror the Python files of `source` (and its typing marker) as links in `target`."""
    for file in sorted([*source.rglob("*.py"), *source.rglob("py.typed")]):
        link = target / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)


def main() -> None:
    """Replace the view by one of the present tree."""
    shutil.rmtree(VIEW, ignore_errors=True)
    link_tree(ROOT / "daafl", VIEW)
    for folder in MAPPED_FOLDERS:
        link_tree(ROOT / folder, VIEW / folder)


if __name__ == "__main__":
    main()
