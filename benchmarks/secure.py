"""What secure aggregation costs: masked sums, homomorphic sums, norm proofs and whole runs.

Every part is a file of its own, ``_secure_PART.py``, with a function ``figures(*, quick)`` that
returns the figures and the raw rows, and may name ``NOTES``, ``SEEDS`` and, for what is measured in
a process of its own, ``MEASUREMENTS`` by name. A part writes ``results/secure_PART.json``. One
whose library is not installed is left out with a sentence, and is an error when asked for.

Budget: see each part.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from _report import Benchmark

PARTS: Final = ("masking", "he", "proof", "runs")


class PartMissing(Exception):
    """A part cannot be measured here; the message says what it lacks."""


def part_module(part: str) -> ModuleType:
    """Return the module of a part.

    Raises
    ------
    PartMissing
        If its file, or a library that it needs, is not there.
    """
    name = f"_secure_{part}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        lacks = "its file" if error.name == name else f"the library {error.name}"
        raise PartMissing(f"part {part} cannot be measured: {lacks} is missing") from None


def measure(parts: Sequence[str], *, quick: bool, is_asked_for: bool) -> int:
    """Measure parts one after another, report each, and return the exit code."""
    code = 0
    for part in parts:
        try:
            module = part_module(part)
        except PartMissing as missing:
            print(missing, file=sys.stderr)
            code = max(code, 2 if is_asked_for else 0)
            continue
        figures, rows = module.figures(quick=quick)
        benchmark = Benchmark(f"secure_{part}", quick=quick, seeds=getattr(module, "SEEDS", ()))
        notes = getattr(module, "NOTES", ())
        code = max(code, benchmark.finish(figures, rows=rows, notes=notes))
    return code


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    parser.add_argument("--only", choices=PARTS, nargs="+", help="these parts and no others")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        # `measured_apart(secure.py, "PART.WHAT", ...)` calls this script so.
        what, arguments = options.measure
        part, _, name = what.partition(".")
        print(json.dumps(part_module(part).MEASUREMENTS[name](*json.loads(arguments))))
        return 0
    return measure(
        options.only or PARTS, quick=options.quick, is_asked_for=options.only is not None
    )


if __name__ == "__main__":
    sys.exit(main())
