import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.robust.sketch import Sketcher

PERIOD = 131_071


def folded(vector: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return the sketch as its definition says: a sign for each value, added at ``i mod size``."""
    places = np.arange(vector.size)
    signs = (1 - 2 * np.random.default_rng(seed).integers(0, 2, PERIOD))[places % PERIOD]
    sketch = np.zeros(size)
    np.add.at(sketch, places % size, signs * vector)
    return sketch


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_parameters", [102, 202, 203, 32 * 101, 32 * 101 + 1, 300_000])
def test_every_value_is_added_to_its_place_with_its_sign(num_parameters: int, dtype: type) -> None:
    vector = np.random.default_rng(1).normal(size=num_parameters).astype(dtype)
    sketch, norm = Sketcher(num_parameters, size=101, seed=5).sketch_and_norm(vector)
    assert sketch.dtype == np.float32
    np.testing.assert_allclose(sketch, folded(vector, 101, 5), rtol=1e-4, atol=1e-3)
    assert norm == pytest.approx(np.linalg.norm(vector.astype(np.float64)), rel=1e-5)
    assert Sketcher(num_parameters, size=101, seed=5).norm(vector) == norm


@pytest.mark.parametrize("num_parameters", [0, 1, 100, 101])
def test_a_short_vector_is_its_own_sketch(num_parameters: int) -> None:
    vector = np.arange(num_parameters, dtype=np.float32)
    sketch, norm = Sketcher(num_parameters, size=101).sketch_and_norm(vector)
    np.testing.assert_array_equal(sketch, vector)
    assert norm == pytest.approx(np.linalg.norm(vector))
    assert Sketcher(num_parameters, size=101).norm(vector) == norm


def test_inner_products_are_kept_to_about_one_over_the_root_of_the_size() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 50_000)).astype(np.float32)
    errors = []
    for seed in range(60):
        one, other = (Sketcher(50_000, size=997, seed=seed).sketch(v) for v in vectors)
        errors.append(float(one @ other - vectors[0] @ vectors[1]) / 50_000)
    # The standard deviation is 1/sqrt(997) = 0.032; the mean of 60 draws has 0.004.
    assert abs(np.mean(errors)) < 0.013
    assert np.std(errors) == pytest.approx(0.032, rel=0.35)


def test_a_vector_of_equal_values_keeps_its_length() -> None:
    ones = np.ones(1_000_000, np.float32)
    sketch = Sketcher(1_000_000).sketch(ones)
    assert float(sketch @ sketch) == pytest.approx(1_000_000, rel=0.15)


@given(st.integers(0, 5), st.floats(-10, 10, width=32))
def test_sketches_are_linear(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 1000))
    sketcher = Sketcher(1000, size=97, seed=seed)
    both = sketcher.sketch(one + factor * other)
    np.testing.assert_allclose(
        both, sketcher.sketch(one) + np.float32(factor) * sketcher.sketch(other), atol=1e-3
    )


def test_equal_seeds_give_equal_sketches_and_others_do_not() -> None:
    vector = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    first = Sketcher(5000, seed=1).sketch(vector)
    np.testing.assert_array_equal(first, Sketcher(5000, seed=1).sketch(vector))
    assert not np.array_equal(first, Sketcher(5000, seed=2).sketch(vector))


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) .* must have the shape \(4,\)"):
        Sketcher(4).sketch(np.zeros(3, np.float32))


def test_a_length_beyond_the_number_type_is_infinite() -> None:
    vector = np.full(200, 1e30, np.float32)
    assert Sketcher(200, size=101).sketch_and_norm(vector)[1] == np.inf
