"""User-level privacy over updates that nobody sees: the same models as over those in the clear."""

from pathlib import Path

import numpy as np
import pytest

import daafl
from daafl.data.partition import Iid
from daafl.learning.tasks.digits import Digits
from daafl.privacy.user_level import UserPrivacy
from daafl.secure.settings import EncryptedSums, MaskedSums, Security
from daafl.strategies import Pacing

NUM_NODES = 12


def weights(folder: Path, secure: Security | None) -> np.ndarray:
    """Return the model of a short run, flat."""
    result = daafl.run(
        Digits(partitioner=Iid(seed=0)),
        num_nodes=NUM_NODES,
        num_rounds=2,
        pacing=Pacing(NUM_NODES, NUM_NODES),
        privacy=UserPrivacy(rng="seeded", bound=0.5, clipping="fixed"),
        secure=secure,
        loops=(),
        workers=0,
        evaluate_every=0,
        output_dir=folder,
        progress="quiet",
    )
    return np.concatenate([array.ravel() for array in result.arrays.values()])


@pytest.mark.parametrize(
    "secure", [MaskedSums(dropout_fraction=0.0, corrupt_fraction=0.0), EncryptedSums()]
)
def test_hidden_updates_give_the_model_of_those_in_the_clear(
    secure: Security, tmp_path: Path
) -> None:
    # Draws and noise are the same; sums differ by rounding, which the noise grows for by as much.
    in_the_clear = weights(tmp_path / "clear", None)
    hidden = weights(tmp_path / "hidden", secure)
    assert np.linalg.norm(in_the_clear) > 1.0
    assert hidden == pytest.approx(in_the_clear, abs=2e-2)
    assert np.abs(hidden - in_the_clear).mean() < 2e-3
