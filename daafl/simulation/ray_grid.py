"""A grid whose nodes run on Ray: a cluster, or the processors of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from flwr.clientapp import ClientApp

from daafl.errors import ConfigError
from daafl.simulation.cohorts import CohortApp
from daafl.simulation.grid import InProcessGrid
from daafl.simulation.world import World


def ray_grid(
    client_app: ClientApp,
    num_nodes: int,
    *,
    address: str | None = None,
    fleet: World | None = None,
    cohorts: CohortApp | None = None,
    is_registered: bool = False,
    workers: int | None = None,
    message_timeout_s: float = 120.0,
    run_config: Mapping[str, bool | float | int | str] | None = None,
) -> InProcessGrid:
    """Return a grid that runs its nodes in Ray actors, with the results of `InProcessGrid`.

    Time and order of events stay in this process, so replies and their times are the same.
    Floating-point sums are too, as long as all machines have the same kind of processor and the
    same libraries.

    Parameters
    ----------
    client_app, num_nodes, fleet, cohorts, is_registered, message_timeout_s, run_config
        As for `InProcessGrid`. The app and the cohorts are pickled.
    address
        ``host:port`` or ``ray://host:port`` of a cluster, ``auto`` for the one that this machine
        belongs to, or ``None`` for a Ray of this machine that ends with the grid.
    workers
        Actors to run nodes in, one processor each; ``None`` is one per processor.

    Raises
    ------
    ConfigError
        If Ray is not installed or cannot be reached, or the ClientApp cannot be pickled.
    ValueError
        If a number is out of range.
    """
    try:
        # Ray is an extra, and takes a second to load: only who asks for it pays.
        from daafl.simulation.ray_crew import RayCrew
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise ConfigError("grid=ray needs Ray: pip install 'daafl[simulation]'") from error
    return InProcessGrid(
        client_app,
        num_nodes,
        fleet=fleet,
        cohorts=cohorts,
        is_registered=is_registered,
        workers=workers,
        message_timeout_s=message_timeout_s,
        run_config=run_config,
        crew=partial(RayCrew, address=address),
    )
