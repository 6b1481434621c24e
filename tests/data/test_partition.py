"""Who gets what: every example once, the skew that was asked for, and clear refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.data.partition import (
    ConceptShift,
    Dirichlet,
    FeatureShift,
    Iid,
    Partitioner,
    QuantitySkew,
    Shards,
)
from daafl.errors import ConfigError, DataError
from daafl.learning.examples import Examples

ALL = (
    Iid(),
    Dirichlet(0.1),
    Dirichlet(100.0, min_examples=0),
    Shards(2),
    QuantitySkew(0.3),
    FeatureShift(base=Dirichlet(0.5)),
    ConceptShift(base=Shards(3)),
)


def classes(n: int, seed: int = 0, num_classes: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, num_classes, n)


@settings(deadline=None)
@given(st.sampled_from(ALL), st.integers(240, 900), st.integers(1, 30), st.integers(0, 5))
def test_every_example_goes_to_exactly_one_node(
    partitioner: Partitioner, n: int, num_nodes: int, seed: int
) -> None:
    labels = classes(n, seed)
    parts = partitioner.split(labels, num_nodes)
    assert len(parts) == num_nodes
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    again = partitioner.split(labels, num_nodes)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@settings(deadline=None)
@given(st.floats(0.01, 10.0), st.integers(1, 30), st.integers(0, 10), st.integers(0, 20))
def test_every_node_gets_the_minimum(alpha: float, nodes: int, least: int, seed: int) -> None:
    for partitioner in (Dirichlet(alpha, least, seed), QuantitySkew(alpha, least, seed)):
        sizes = [len(part) for part in partitioner.split(classes(301), nodes)]
        assert min(sizes) >= least
        assert sum(sizes) == 301


@pytest.mark.parametrize("kind", [Iid, Dirichlet, Shards, QuantitySkew])
def test_seeds_change_the_division(kind: type[Partitioner]) -> None:
    labels = classes(500)
    first, second = (np.concatenate(kind(seed=seed).split(labels, 5)) for seed in (0, 1))
    assert first.tolist() != second.tolist()


def test_iid_sizes_differ_by_at_most_one() -> None:
    assert [len(part) for part in Iid().split(np.zeros(11), 4)] == [3, 3, 3, 2]


def label_entropy(partitioner: Partitioner, labels: np.ndarray, num_nodes: int = 20) -> float:
    """Return the mean entropy of a node's labels in nats: log(10) = 2.30 when they are even."""
    entropies = []
    for part in partitioner.split(labels, num_nodes):
        shares = np.bincount(labels[part], minlength=10) / len(part)
        shares = shares[shares > 0]
        entropies.append(-(shares * np.log(shares)).sum())
    return float(np.mean(entropies))


def test_a_smaller_alpha_gives_fewer_classes() -> None:
    labels = classes(4000)
    entropies = [label_entropy(Dirichlet(alpha), labels) for alpha in (0.1, 0.3, 1.0, 100.0)]
    assert entropies == sorted(entropies)
    assert entropies[0] < 1.2 and entropies[-1] > 2.2


def test_dirichlet_works_where_whole_classes_go_to_one_node() -> None:
    sizes = [len(part) for part in Dirichlet(1e-3).split(classes(1000), 50)]
    assert min(sizes) >= 8


def test_shards_are_runs_of_sorted_labels() -> None:
    labels = np.repeat(np.arange(10), 10)
    parts = Shards(shards_per_node=2).split(labels, 5)
    # Ten shards of ten: each is one class, so each node has exactly two classes.
    assert all(len(part) == 20 and len(np.unique(labels[part])) == 2 for part in parts)


def test_quantity_skew_is_in_size_alone() -> None:
    labels = classes(10_000)
    even, skewed = (
        np.sort([len(part) for part in QuantitySkew(alpha).split(labels, 20)])
        for alpha in (1000.0, 0.3)
    )
    assert even[-1] < 1.3 * even[0]
    assert skewed[-5:].sum() > 0.6 * 10_000
    biggest = max(QuantitySkew(0.3).split(labels, 20), key=len)
    shares = np.bincount(labels[biggest], minlength=10) / len(biggest)
    assert abs(shares - 0.1).max() < 0.03


def examples(n: int = 1000) -> Examples:
    rng = np.random.default_rng(0)
    inputs = rng.normal(3.0, 2.0, (n, 4)).astype(np.float32)
    return Examples(inputs, classes(n), np.arange(n))


def test_feature_shift_is_affine_and_one_for_each_node() -> None:
    given_examples = examples()
    shift = FeatureShift(strength=0.5, seed=1)
    fits = []
    for node in range(3):
        shifted = shift.transform(given_examples, node, 3)
        assert shifted.inputs.dtype == np.float32
        assert shifted.targets is given_examples.targets
        assert shifted.groups is given_examples.groups
        gain, offset = np.polyfit(given_examples.inputs.ravel(), shifted.inputs.ravel(), 1)
        np.testing.assert_allclose(shifted.inputs, gain * given_examples.inputs + offset, rtol=1e-3)
        fits.append((round(float(gain), 3), round(float(offset), 3)))
    assert len(set(fits)) == 3
    # By hand: gain exp(.5 g) and offset .5 * s * h, from the node's own generator.
    rng = np.random.default_rng([1, 2])
    gain, offset = math.exp(0.5 * rng.standard_normal()), 0.5 * rng.standard_normal()
    expected = (gain, offset * given_examples.inputs.std())
    assert fits[2] == pytest.approx(expected, abs=2e-3)


def test_no_strength_is_no_shift_and_noise_has_its_size() -> None:
    given_examples = examples()
    same = FeatureShift(strength=0.0).transform(given_examples, 0, 1)
    np.testing.assert_array_equal(same.inputs, given_examples.inputs)
    noisy = FeatureShift(strength=0.0, noise=0.5).transform(given_examples, 0, 1)
    noise = noisy.inputs - given_examples.inputs
    assert noise.std() == pytest.approx(0.5 * given_examples.inputs.std(), rel=0.05)


def test_tensors_are_shifted_too() -> None:
    shifted = FeatureShift(0.3).transform(Examples(torch.ones(2, 2), torch.zeros(2)), 0, 1)
    assert shifted.inputs.shape == (2, 2)


def test_integers_cannot_be_shifted() -> None:
    with pytest.raises(DataError, match="needs floating-point inputs; these are int64"):
        FeatureShift().transform(Examples(np.ones((2, 2), int), np.zeros(2)), 0, 1)


def test_concepts_are_permutations_by_group() -> None:
    shift = ConceptShift(num_groups=3, num_classes=10)
    given_examples = Examples(np.zeros(10), np.arange(10, dtype=np.int32))
    seen = [shift.transform(given_examples, node, 9).targets for node in range(6)]
    assert seen[0].tolist() == list(range(10))
    assert all(sorted(targets) == list(range(10)) for targets in seen)
    assert len({tuple(targets.tolist()) for targets in seen}) == 3
    assert [shift.group(node) for node in range(6)] == [0, 1, 2, 0, 1, 2]
    assert seen[1].tolist() == seen[4].tolist() == shift.permutation(1).tolist()
    assert seen[1].dtype == np.int32


@pytest.mark.parametrize("targets", [np.array([0, 10]), np.array([-1]), np.array([0.5])])
def test_targets_that_are_no_classes_are_refused(targets: np.ndarray) -> None:
    with pytest.raises(DataError, match="needs integer targets from 0 to 9"):
        ConceptShift().transform(Examples(np.zeros(len(targets)), targets), 1, 2)


@pytest.mark.parametrize(
    ("partitioner", "sentence"),
    [
        (Dirichlet(), "10 examples cannot be divided among 2 nodes with at least 8 each"),
        (QuantitySkew(), "use at most 1 nodes"),
        (Shards(6), "with at least 6 each"),
        (Iid(min_examples=6), "with at least 6 each"),
    ],
)
def test_too_few_examples_are_counted(partitioner: Partitioner, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        partitioner.split(classes(10), 2)


def test_no_nodes_is_refused() -> None:
    with pytest.raises(DataError, match="among 0 nodes"):
        Iid().split(classes(10), 0)


@pytest.mark.parametrize("labels", [np.zeros((50, 3), int), np.zeros(50)])
@pytest.mark.parametrize("partitioner", [Dirichlet(), Shards()])
def test_labels_that_are_no_classes_are_refused(
    partitioner: Partitioner, labels: np.ndarray
) -> None:
    with pytest.raises(DataError, match="need one integer for each example"):
        partitioner.split(labels, 2)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Dirichlet(0.0), "alpha=0.0"),
        (lambda: Dirichlet(math.nan), "alpha=nan"),
        (lambda: QuantitySkew(-1.0), "alpha=-1.0"),
        (lambda: Shards(0), "shards_per_node=0"),
        (lambda: FeatureShift(strength=-1.0), "strength=-1.0"),
        (lambda: FeatureShift(noise=math.inf), "noise=inf"),
        (lambda: ConceptShift(num_groups=0), "num_groups=0"),
    ],
)
def test_settings_out_of_range_are_named(make, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make()
