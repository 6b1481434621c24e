"""The light part of `daafl.learning` runs where there is no torch."""

import subprocess
import sys


def test_layout_and_update_load_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import daafl.learning, daafl.learning.update, daafl.data.partition\n"
        "print(daafl.learning.Layout.__name__, daafl.learning.LocalWork.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Layout LocalWork\n"
