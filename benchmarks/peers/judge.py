"""Read what systems have left, and judge their models: all by the same code, on the same examples.

    python judge.py WORK DATA RESULT...

Prints one JSON line per result; the first line is about the starting weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _models import model
from _work import WORKS, Data, Floats, Work, load
from torch.nn import functional


def judged(work: Work, data: Data, weights: Sequence[Floats]) -> dict[str, float]:
    """Return the mean loss and the accuracy of a model on the test examples."""
    targets = torch.from_numpy(data.test_targets)
    with torch.no_grad():
        outputs = model(work, weights)(torch.from_numpy(data.test_inputs))
    return {
        "loss": float(functional.cross_entropy(outputs, targets)),
        "accuracy": float((outputs.argmax(1) == targets).double().mean()),
    }


def main() -> None:
    """Judge the results of the command line."""
    name, path, *results = sys.argv[1:]
    work, data = WORKS[name], load(Path(path))
    print(json.dumps(judged(work, data, data.weights)))
    for result in results:
        with np.load(result) as file:
            weights = [file[f"weight{i}"] for i in range(len(work.shapes))]
            stamps, remark = file["stamps"].tolist(), str(file["remark"])
        print(json.dumps({**judged(work, data, weights), "stamps": stamps, "remark": remark}))


if __name__ == "__main__":
    main()
