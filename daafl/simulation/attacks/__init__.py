"""Hostile nodes for simulated federations, as a Flower mod around the ordinary app."""

from daafl.simulation.attacks.adaptive import Adaptive
from daafl.simulation.attacks.attack import Attack
from daafl.simulation.attacks.backdoor import Backdoor, attack_success_rate
from daafl.simulation.attacks.behaviour import Behaviour, Poison, Scene
from daafl.simulation.attacks.collusion import Alie, InnerProduct, Sybils
from daafl.simulation.attacks.forgeries import (
    Duplicated,
    NotFinite,
    Oversized,
    Replayed,
    WrongShape,
)
from daafl.simulation.attacks.hostile import hostile
from daafl.simulation.attacks.lies import Lies
from daafl.simulation.attacks.poisons import FreeRider, Gaussian, LabelFlip, SignFlip, Sleeper

__all__ = [
    "Adaptive",
    "Alie",
    "Attack",
    "Backdoor",
    "Behaviour",
    "Duplicated",
    "FreeRider",
    "Gaussian",
    "InnerProduct",
    "LabelFlip",
    "Lies",
    "NotFinite",
    "Oversized",
    "Poison",
    "Replayed",
    "Scene",
    "SignFlip",
    "Sleeper",
    "Sybils",
    "WrongShape",
    "attack_success_rate",
    "hostile",
]
