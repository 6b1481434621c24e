"""Learning-rate probes: what nodes' losses were after a few steps at each tried rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from daafl.observability.report.markup import element
from daafl.observability.report.plot import Curve, Plot, axes, canvas, curves, figure, upright
from daafl.observability.report.scale import scale_over
from daafl.observability.run import Run
from daafl.observability.units import number, plural

_RATES = "probe_rates"
_LOG_LOSSES = "probe_log_losses"
_MAX_CURVES = 4


@dataclass(frozen=True)
class Probe:
    """One probe.

    Parameters
    ----------
    tick
        The loop's tick that saw it.
    rates, losses
        Tried learning rates, ascending, and the median loss over nodes for each.
    """

    tick: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def best_rate(self) -> float:
        """The rate with the lowest loss."""
        return self.rates[min(range(len(self.losses)), key=self.losses.__getitem__)]


def probes(run: Run) -> tuple[Probe, ...]:
    """Return the probes that the journal's observations hold, in order."""
    found: list[Probe] = []
    for record in run.journal:
        observations = record.get("observations")
        for observation in observations.values() if isinstance(observations, Mapping) else ():
            probe = _probe(record.get("tick"), observation)
            if probe is not None and (not found or found[-1] != probe):
                found.append(probe)
    return tuple(found)


def probe_section(found: Sequence[Probe]) -> Element | None:
    """Return the chart of losses by tried rate; ``None`` when nothing was probed."""
    if not found:
        return None
    shown = found[-_MAX_CURVES:]
    rates = [rate for probe in shown for rate in probe.rates]
    losses = [loss for probe in shown for loss in probe.losses]
    plot = Plot(scale_over(rates, is_log=True), scale_over(losses), height=170)
    series = [
        Curve(_name(probe), tuple(zip(probe.rates, probe.losses, strict=True)), f"s{i + 1}")
        for i, probe in enumerate(shown)
    ]
    best = shown[-1].best_rate
    marker = element(
        "g",
        upright(plot, best, "line"),
        element("text", f"best {number(best)}", x=plot.left(best), y=12, dx=5, class_="start"),
        class_="level cap",
    )
    points = [
        element(
            "circle",
            element("title", f"rate {number(rate)}: loss {number(loss)}"),
            cx=plot.left(rate),
            cy=plot.top(loss),
            r=4,
            class_=f"dot s{i + 1}",
        )
        for i, probe in enumerate(shown)
        for rate, loss in zip(probe.rates, probe.losses, strict=True)
    ]
    return element(
        "section",
        element("h2", "Learning-rate probe"),
        figure(
            "Loss after a few local steps, by learning rate",
            "median over nodes, on copies that are thrown away",
            [(curve.label, curve.style) for curve in series] if len(series) > 1 else [],
            canvas(
                plot,
                f"{plural(len(found), 'probe')}; the best rate of the last one is {number(best)}.",
                axes(plot, number, number, name_x="", about_x=4),
                marker,
                curves(plot, series),
                *points,
                is_timeline=False,
            ),
        ),
        id="probe",
    )


def _probe(tick: object, observation: object) -> Probe | None:
    """Return the probe an observation holds; damaged ones are as good as none for a picture."""
    if not isinstance(observation, Mapping) or not isinstance(tick, int):
        return None
    rates, logs = _floats(observation.get(_RATES)), _floats(observation.get(_LOG_LOSSES))
    if not rates or len(rates) != len(logs) or min(rates) <= 0:
        return None
    pairs = sorted(zip(rates, logs, strict=True))
    # exp overflows beyond 709; a probe caps its log losses far below.
    losses = tuple(math.exp(min(log, 700.0)) for _, log in pairs)
    return Probe(tick, tuple(rate for rate, _ in pairs), losses)


def _floats(value: object) -> list[float]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [float(item) for item in value if isinstance(item, int | float)]


def _name(probe: Probe) -> str:
    return f"probe at tick {probe.tick}"
