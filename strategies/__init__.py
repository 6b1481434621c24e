"""Server side of a federation: the autonomous strategy and the parts it is made of.

Installed as ``daafl.strategies``; the folder lies at the top of the repository.
"""

if __name__ != "daafl.strategies":
    raise ImportError("import daafl.strategies, not strategies")

from daafl.strategies.assignment import LocalTraining
from daafl.strategies.autonomous import Autonomous
from daafl.strategies.fedexp import FedExP
from daafl.strategies.flower_optimizer import FlowerOptimizer
from daafl.strategies.optimizer import ServerOptimizer
from daafl.strategies.pacing import Pacing
from daafl.strategies.regime import Regime
from daafl.strategies.robust import (
    Bucketing,
    CentredClipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    MultiKrum,
    TrimmedMean,
)
from daafl.strategies.robust_optimizer import RobustOptimizer
from daafl.strategies.schedule import Override
from daafl.strategies.settings import Settings
from daafl.strategies.stopping import EarlyStopping

__all__ = [
    "Autonomous",
    "Bucketing",
    "CentredClipping",
    "CoordinateMedian",
    "EarlyStopping",
    "FedExP",
    "FlowerOptimizer",
    "GeometricMedian",
    "Krum",
    "LocalTraining",
    "MultiKrum",
    "Override",
    "Pacing",
    "Regime",
    "RobustOptimizer",
    "ServerOptimizer",
    "Settings",
    "TrimmedMean",
]
