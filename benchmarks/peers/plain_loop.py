"""Federated averaging as a plain loop in PyTorch, without a framework: one process, one thread."""

from __future__ import annotations

import numpy as np
import torch
from _job import job, stamp
from _models import arrays, model
from _work import LR
from torch.nn import functional


def main() -> None:
    """Do the job of the command line."""
    torch.set_num_threads(1)
    given = job()
    work, data = given.work, given.data
    inputs = data.clients(torch.from_numpy(data.inputs))
    targets = data.clients(torch.from_numpy(data.targets))
    module = model(work, data.weights)
    rng = np.random.default_rng(given.seed)
    torch.manual_seed(given.seed)
    stamps = [stamp()]
    for _ in range(given.rounds):
        sent = {name: value.clone() for name, value in module.state_dict().items()}
        total = {name: torch.zeros_like(value) for name, value in sent.items()}
        cohort = rng.choice(work.clients, work.cohort, replace=False)
        num_examples = sum(len(targets[client]) for client in cohort)
        for client in cohort:
            module.load_state_dict(sent)
            optimizer = torch.optim.SGD(module.parameters(), LR)
            for batch in torch.randperm(len(targets[client])).split(work.batch):
                optimizer.zero_grad()
                outputs = module(inputs[client][batch])
                functional.cross_entropy(outputs, targets[client][batch]).backward()
                optimizer.step()
            share = len(targets[client]) / num_examples
            for name, value in module.state_dict().items():
                total[name].add_(value, alpha=share)
        module.load_state_dict(total)
        stamps.append(stamp())
    given.finish(stamps, arrays(module))


if __name__ == "__main__":
    main()
