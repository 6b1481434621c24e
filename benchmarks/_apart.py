"""Measuring in a process of its own, with one BLAS thread: CPU time and peak memory.

Memory is read from Linux's ``/proc`` and handed back by the GNU C library.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")


def measured_apart(script: str, what: str, *arguments: object) -> Any:
    """Return what a function of ``script`` returns in a process of its own, by way of JSON.

    The script is called as ``script --measure what arguments`` and prints the result.
    """
    command = [sys.executable, script, "--measure", what, json.dumps(arguments)]
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def peak_mib_of(act: Callable[[], object]) -> float:
    """Return the peak memory while ``act`` runs, above what the process held before, in MiB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be used again, unseen
    _CLEAR_REFS.write_text("5")  # the kernel's way to say: forget the peak so far
    before = _memory_mib("VmRSS")
    act()
    return _memory_mib("VmHWM") - before


def _memory_mib(field: str) -> float:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024
