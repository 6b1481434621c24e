"""A quiet world to put faults into."""

import numpy as np
import pytest

from daafl.simulation.devices import Devices


@pytest.fixture
def quiet() -> Devices:
    """Ten nodes, half a second per step, one second each way."""
    return Devices(np.full(10, 0.5), np.full(10, 1.0))
