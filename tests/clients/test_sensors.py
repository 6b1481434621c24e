"""Sensors: what nodes report of themselves."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from daafl.clients import client_app
from daafl.clients.sensors import SIMULATED, measured
from daafl.errors import MessageError
from daafl.learning import Task, TorchTrainer
from daafl.messages import Assignment
from daafl.simulation import InProcessGrid
from daafl.simulation.fleet import Compute, DeviceClass, Fleet, Link


class Thermometer:
    """Sensors of a machine whose battery cannot be read."""

    def __init__(self, temperature_c: float) -> None:
        self.temperature_c = temperature_c

    def readings(self, context: Context) -> Mapping[str, float]:
        return {"temperature_c": self.temperature_c, "battery_fraction": math.nan}


def test_readings_travel_with_every_answer_that_took_work(
    toy: Task, trainer: TorchTrainer, message: Callable[..., Message], context: Context
) -> None:
    app = client_app(toy, sensors=Thermometer(41.5))
    for kind in ("train", "evaluate"):
        ask = message(kind, trainer.initial(seed=1), Assignment(local_steps=2).to_record())
        telemetry = app(ask, context).content["telemetry"]
        assert set(telemetry) == {"steps", "seconds", "temperature_c"}
        assert telemetry["temperature_c"] == 41.5


def test_a_sensor_out_of_bounds_is_an_error_of_the_node(
    toy: Task, trainer: TorchTrainer, message: Callable[..., Message], context: Context
) -> None:
    app = client_app(toy, sensors=Thermometer(1e4))
    with pytest.raises(MessageError, match="temperature_c is 10000"):
        app(message("train", trainer.initial(seed=1), Assignment().to_record()), context)


def test_simulated_sensors_read_the_configuration_of_the_node() -> None:
    config: dict[str, Any] = {"partition-id": 3, "sensor.uplink_mbps": 8, "sensor.tab_visible": 1.0}
    context = Context(1, 1, config, RecordDict(), {})
    assert measured(SIMULATED, context) == {"uplink_mbps": 8.0, "tab_visible": 1.0}
    config["sensor.colour"] = 1.0
    with pytest.raises(MessageError, match="no reading 'colour'"):
        measured(SIMULATED, context)


def test_what_a_fleet_shows_arrives_at_the_coordinator(toy: Task, trainer: TorchTrainer) -> None:
    device = DeviceClass(Compute(1.0), Link(8.0, 16.0, latency_s=0.25), price_per_hour=2.0)
    fleet = Fleet.of({"device": device}, 5, seed=0)
    with InProcessGrid(client_app(toy), 5, fleet=fleet, workers=0) as grid:
        model = ArrayRecord({"packed": Array(np.asarray(trainer.initial(seed=1)))})
        content = RecordDict({"arrays": model, "config": Assignment(local_steps=3).to_record()})
        (reply,) = grid.send_and_receive([Message(content, grid.get_node_ids()[2], "train")])
    telemetry = dict(reply.content["telemetry"])
    assert telemetry.pop("seconds") > 0
    assert telemetry == {
        "steps": 3,
        "latency_s": 0.25,
        "uplink_mbps": 8.0,
        "downlink_mbps": 16.0,
        "memory_mib": 4096.0,
        "price_per_hour": 2.0,
    }
