"""The ClientApp of Flower's side, in a module of its own.

An app in ``__main__`` would be pickled by value with every message, and data and model be made
again each time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch
from _models import model
from _work import LR, WORKS, load
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.nn import functional

torch.set_num_threads(1)

_WORK: Final = WORKS[os.environ["PEER_WORK"]]
_DATA: Final = load(Path(os.environ["PEER_DATA"]))
_INPUTS: Final = _DATA.clients(torch.from_numpy(_DATA.inputs))
_TARGETS: Final = _DATA.clients(torch.from_numpy(_DATA.targets))
_MODULE: Final = model(_WORK, _DATA.weights)

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for one epoch."""
    arrays = message.content["arrays"]
    if not isinstance(arrays, ArrayRecord):
        raise TypeError("the model is missing")
    _MODULE.load_state_dict(arrays.to_torch_state_dict())
    client = int(context.node_config["partition-id"])
    inputs, targets = _INPUTS[client], _TARGETS[client]
    optimizer = torch.optim.SGD(_MODULE.parameters(), LR)
    for batch in torch.randperm(len(targets)).split(_WORK.batch):
        optimizer.zero_grad()
        functional.cross_entropy(_MODULE(inputs[batch]), targets[batch]).backward()
        optimizer.step()
    content = RecordDict(
        {
            "arrays": ArrayRecord(_MODULE.state_dict()),
            "metrics": MetricRecord({"num-examples": len(targets)}),
        }
    )
    return Message(content, reply_to=message)
