"""Make ``.types/daafl``, the package as it looks when installed, for mypy and import-linter.

Static tools read folders and do not run ``setup.py``, so they cannot know that ``strategies/`` is
``daafl.strategies``. The view consists of links, is git-ignored and is made anew each time.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAPPED_FOLDERS = ("strategies", "clients", "conf")


def link_package(root: Path) -> Path:
    """Replace the view below `root` by one of the present tree; return its folder."""
    view = root / ".types" / "daafl"
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True)
    for source in [*(root / "daafl").iterdir(), *(root / folder for folder in MAPPED_FOLDERS)]:
        (view / source.name).symlink_to(source, target_is_directory=source.is_dir())
    return view


if __name__ == "__main__":
    link_package(ROOT)
