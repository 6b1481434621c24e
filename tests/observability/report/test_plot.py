import math

import pytest

from daafl.observability.report.plot import Curve, Plot, band, bar, curves, level, thinned
from daafl.observability.report.scale import Scale

PLOT = Plot(Scale(0, 10), Scale(0, 2), height=100)


def test_a_curve_goes_through_its_points() -> None:
    group = curves(PLOT, [Curve("loss", [(0, 0.0), (5, 1.0), (10, 2.0)], "s1")])
    path = group.find(".//path")
    assert path is not None
    # x in thousandths of the width, y in pixels from the top
    assert path.get("d") == "M0 100L500 50L1000 0"


def test_a_held_value_moves_at_the_next_point() -> None:
    group = curves(PLOT, [Curve("lr", [(0, 0.0), (5, 1.0)], "s1", is_step=True)])
    path = group.find(".//path")
    assert path is not None
    assert path.get("d") == "M0 100H500V50"


def test_a_value_that_is_not_finite_interrupts_and_leaves_dots() -> None:
    points = [(0, 1.0), (1, 1.0), (2, math.nan), (3, 1.0), (4, None), (5, 1.0), (6, 2.0)]
    group = curves(PLOT, [Curve("loss", points, "s1")])
    path = group.find(".//path")
    assert path is not None
    assert path.get("d") == "M0 50L100 50M500 50L600 0"
    assert [dot.get("cx") for dot in group.findall("circle")] == ["30%"]


def test_bands_bars_and_levels_lie_where_their_values_are() -> None:
    stretch = band(PLOT, 2, 4.5, "undone", "rollback")
    assert (stretch.get("x"), stretch.get("width")) == ("20%", "25.00%")
    block = bar(PLOT, (1, 2), (0.5, 1.5), "step 1", "s1")
    assert [block.get(k) for k in ("x", "width", "y", "height")] == ["10.00%", "10.00%", "25", "50"]
    line = level(PLOT, 1.5, "centralised", "baseline").find("line")
    assert line is not None
    assert line.get("y1") == "25"


def test_thinning_keeps_ends_spikes_and_interruptions() -> None:
    points = [(float(i), 1.0) for i in range(5000)]
    points[1234] = (1234.0, 99.0)
    points[2345] = (2345.0, -99.0)
    points[3456] = (3456.0, math.nan)
    kept = thinned(points, limit=400)
    assert len(kept) <= 510
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert points[1234] in kept
    assert points[2345] in kept
    assert any(math.isnan(value or 0.0) for _, value in kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


@pytest.mark.parametrize("count", [0, 1, 400])
def test_short_series_are_not_thinned(count: int) -> None:
    points = [(float(i), 0.0) for i in range(count)]
    assert thinned(points, limit=400) == points
