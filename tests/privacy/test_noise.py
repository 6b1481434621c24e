import os
import pickle

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional

from daafl.errors import ConfigError, DataError
from daafl.privacy.central import noised_mean
from daafl.privacy.clipping import AdaptiveClip
from daafl.privacy.dpsgd import PrivateGradients, SampleLevel
from daafl.privacy.gaussian import deviation_of, grid_step, noised, standard_normal
from daafl.privacy.keystream import BLOCK_WORDS, Keystream, keystream_for, poisson_sample
from daafl.privacy.local import LocalRandomiser


def test_words_are_the_aes_256_ctr_keystream():
    # AES-256 of a zero block under a zero key (NIST, AESAVS, GFSbox/KeySbox all-zero case).
    first = Keystream(bytes(32), is_secret=False).words(2).tobytes()
    assert first == bytes.fromhex("dc95c078a2408989ad48a21492842087")


def test_words_do_not_depend_on_how_they_are_drawn():
    count = 2 * BLOCK_WORDS + 5
    whole = Keystream.seeded(3).words(count)
    parts = Keystream.seeded(3)
    assert np.array_equal(whole, np.concatenate([parts.words(7), parts.words(count - 7)]))
    cipher = Cipher(algorithms.AES256(bytes(32)), modes.CTR(bytes(16))).encryptor()
    expected = np.frombuffer(cipher.update(bytes(8 * count)), "<u8")
    assert np.array_equal(Keystream(bytes(32), is_secret=False).words(count), expected)


def test_seeds_and_fresh_streams_differ():
    streams = [Keystream.seeded(1), Keystream.seeded(2), Keystream.seeded(1, 2)]
    streams += [Keystream.fresh(), Keystream.fresh()]
    assert len({int(stream.words(1)[0]) for stream in streams}) == len(streams)


def test_a_stream_is_neither_shown_nor_copied():
    assert repr(Keystream.fresh()) == "Keystream(secret)"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Keystream.fresh())


def test_a_forked_process_gets_other_words(monkeypatch):
    key = bytes(range(32))
    stream, twin = Keystream(key, is_secret=True), Keystream(key, is_secret=True)
    seeded = Keystream.seeded(1)
    pid = os.getpid()
    monkeypatch.setattr("daafl.privacy.keystream.os.getpid", lambda: pid + 1)
    assert not np.array_equal(stream.words(4), twin.words(4))
    with pytest.raises(RuntimeError, match="forked"):
        seeded.words(1)


def test_seeds_are_for_simulations():
    assert not keystream_for("seeded", 1, is_simulated=True).is_secret
    assert keystream_for("secret", 1, is_simulated=True).is_secret
    with pytest.raises(ConfigError, match="simulations only"):
        keystream_for("seeded", 1, is_simulated=False)
    with pytest.raises(ConfigError, match="not known"):
        keystream_for("other", is_simulated=True)


def test_samples_are_standard_normal():
    samples = standard_normal(400_000, Keystream.seeded("statistics"))
    assert stats.kstest(samples, "norm").pvalue > 0.01
    # Standard errors of mean, variance and fourth moment: 1, sqrt(2), sqrt(96) over sqrt(n).
    root = 400_000**0.5
    assert abs(samples.mean()) < 4 / root
    assert abs(samples.var() - 1) < 4 * 2**0.5 / root
    assert abs((samples**4).mean() - 3) < 4 * 96**0.5 / root
    beyond = (np.abs(samples) > 4).sum()
    assert stats.binomtest(int(beyond), 400_000, 2 * stats.norm.sf(4)).pvalue > 0.001


def test_samples_of_a_pair_are_independent():
    pairs = standard_normal(BLOCK_WORDS, Keystream.seeded("pairs")).reshape(2, -1)
    assert abs(np.corrcoef(pairs)[0, 1]) < 4 / (BLOCK_WORDS / 2) ** 0.5
    assert abs(np.corrcoef(pairs**2)[0, 1]) < 4 / (BLOCK_WORDS / 2) ** 0.5


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.lists(st.floats(-1e3, 1e3), max_size=20))
def test_everything_released_is_on_a_grid_that_the_values_do_not_change(z, sensitivity, values):
    released = noised(
        np.array(values),
        noise_multiplier=z,
        sensitivity=sensitivity,
        keystream=Keystream.seeded(0),
    )
    multiples = released / grid_step(z * sensitivity)
    assert np.array_equal(multiples, np.rint(multiples))


def test_noise_has_the_stated_variance():
    values = np.full(200_000, 0.3)
    released = noised(
        values, noise_multiplier=2.0, sensitivity=0.5, keystream=Keystream.seeded("variance")
    )
    deviation = deviation_of(2.0, 0.5, len(values))
    # Step 2**-20, so the sensitivity grows by 2**-20 * sqrt(200000) = 0.000427.
    assert deviation == pytest.approx(2.0 * (0.5 + 2.0**-20 * 200_000**0.5), rel=1e-12)
    assert released.std() / deviation == pytest.approx(1.0, abs=4 / (2 * 200_000) ** 0.5)
    assert abs(released.mean() - 0.3) < 4 * deviation / 200_000**0.5
    assert values[0] == 0.3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_noise_cannot_hide_is_refused_without_being_shown(value):
    with pytest.raises(DataError) as caught:
        noised(
            np.array([value]), noise_multiplier=1.0, sensitivity=1.0, keystream=Keystream.fresh()
        )
    assert str(value) not in str(caught.value)


def test_a_poisson_sample_has_binomial_size():
    stream = Keystream.seeded("sample")
    sizes = [len(poisson_sample(100, 0.2, stream)) for _ in range(2000)]
    # Mean 20, variance 100 * 0.2 * 0.8 = 16.
    assert abs(np.mean(sizes) - 20) < 4 * 4 / 2000**0.5
    assert abs(np.var(sizes) / 16 - 1) < 4 * (2 / 2000) ** 0.5


def all_paths(stream):
    """Draw from every mechanism there is, and return the outcomes."""
    torch_model = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in torch_model.parameters():
            parameter.fill_(0.1)
    private = PrivateGradients(torch_model, functional.cross_entropy, SampleLevel(1.0, 1.0), stream)
    gradients = private.step(torch.ones(20, 3), torch.zeros(20, dtype=torch.int64), 5)
    means = {"bound": 1.0, "noise_multiplier": 1.0, "expected_users": 3.0}
    return [
        *(gradient.flatten().numpy() for gradient in gradients),
        noised_mean(np.zeros(3), **means, keystream=stream),
        LocalRandomiser(1.0, 1.0).randomised(np.ones(3, np.float32), stream),
        np.array([AdaptiveClip().share_within(3, 5, expected=5.0, keystream=stream)]),
    ]


def test_no_path_draws_from_a_global_generator(monkeypatch):
    nn.Linear(3, 2)  # whatever torch sets up on first use
    torch.manual_seed(1)
    np.random.seed(1)

    def refuse(*_, **__):
        raise AssertionError("a DP path asked numpy for a generator")

    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: None)
    monkeypatch.setattr(np.random, "default_rng", refuse)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), np.random.get_state()[2]
    first = np.concatenate(all_paths(Keystream.fresh()))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert np.random.get_state()[2] == states[2]
    torch.manual_seed(1)
    np.random.seed(1)
    second = np.concatenate(all_paths(Keystream.fresh()))
    assert (first != second).all()


def test_seeded_paths_repeat():
    for one, other in zip(
        all_paths(Keystream.seeded(5)), all_paths(Keystream.seeded(5)), strict=True
    ):
        assert np.array_equal(one, other)
