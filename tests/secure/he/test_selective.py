"""Layers are chosen by name; what is taken apart goes together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import ConfigError, DataError
from daafl.secure.he import Selection

ROWS = [("body.weight", 0, 6), ("body.bias", 6, 8), ("empty", 8, 8), ("head.weight", 8, 12)]


@pytest.mark.parametrize(
    ("patterns", "num_wide", "hidden"),
    [
        (["head.*"], 0, ((8, 12),)),
        (["head.*"], 3, ((0, 3), (11, 15))),
        (["body.*"], 3, ((0, 11),)),
        (["*.weight"], 0, ((0, 6), (8, 12))),
        (["body.bias", "head.weight"], 0, ((6, 12),)),
        (["*"], 2, ((0, 14),)),
    ],
)
def test_layers_by_name(
    patterns: list[str], num_wide: int, hidden: tuple[tuple[int, int], ...]
) -> None:
    selection = Selection.of(ROWS, patterns, num_wide=num_wide)
    assert selection.hidden == hidden
    assert selection.length == 12 + num_wide


def test_a_pattern_that_fits_nothing_and_layers_with_gaps_are_refused() -> None:
    with pytest.raises(ConfigError, match="no layer is called 'tail"):
        Selection.of(ROWS, ["head.*", "tail.*"])
    with pytest.raises(ConfigError, match="gaps"):
        Selection.of([("a", 0, 2), ("b", 3, 4)], ["a"])
    with pytest.raises(ConfigError, match="nothing"):
        Selection.of(ROWS, ["empty"])
    for hidden in (((0, 5), (4, 6)), ((2, 2),), ((5, 6), (0, 2))):
        with pytest.raises(ConfigError, match="ascending"):
            Selection(10, hidden)
    with pytest.raises(ConfigError, match="more than is"):
        Selection(10, ((0, 11),))


@given(st.integers(1, 60), st.data())
def test_joined_undoes_split(length: int, data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(0, length), min_size=2).filter(lambda x: len(x) % 2 == 0))
    edges = sorted(cuts)
    selection = Selection(length, tuple(zip(edges[::2], edges[1::2], strict=True)))
    words = np.arange(length, dtype=np.uint32)
    hidden, clear = selection.split(words)
    assert (len(hidden), len(clear)) == (selection.num_hidden, selection.num_clear)
    assert set(hidden.tolist()).isdisjoint(clear.tolist())
    assert np.array_equal(selection.joined(hidden, clear), words)
    with pytest.raises(DataError):
        selection.split(words[:-1])
    with pytest.raises(DataError):
        selection.joined(hidden[:-1], clear)
