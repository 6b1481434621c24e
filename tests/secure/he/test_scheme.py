"""Ciphertexts are small, random and bounded before SEAL reads them; keys are what was dealt."""

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daafl.errors import ConfigError, DataError, MessageError
from daafl.secure.he.ciphertexts import FRESH_BYTES, SUM_BYTES, form, passage
from daafl.secure.he.library import coefficient_modulus, context, context_of, sealapi
from daafl.secure.he.packing import DEGREE, batching_prime
from daafl.secure.he.parallel import Cipher
from daafl.secure.he.scheme import (
    KEY_BLOB_BYTES,
    HeKey,
    Summation,
    decrypted,
    encrypted,
    noise_budget,
)
from daafl.secure.he.tags import TAG_SLOTS, tagged, tags, untagged
from daafl.secure.hidden import Secret

MODULUS = batching_prime(44)
KEY = HeKey(Secret(b"k" * 32))
CHUNK = np.arange(DEGREE, dtype=np.int64)[None] * 4_294_967_291
ONE = encrypted(KEY, MODULUS, CHUNK)[0]


def reason_of(data: bytes, count: int = 1) -> str:
    with pytest.raises(MessageError) as caught:
        Summation(MODULUS, count).add(data)
    return caught.value.reason


def test_sizes_per_slot() -> None:
    """A fresh ciphertext is one polynomial of 60-bit coefficients and a seed; a sum is two."""
    total = Summation(MODULUS, 1)
    total.add(ONE)
    assert len(ONE) == 8 * 4096 + 64
    assert len(total.to_bytes()) == 16 * 4096


def test_two_encryptions_of_the_same_under_the_same_key_differ() -> None:
    """The generator that makes the key must not make the noise or the seeds as well."""
    other = encrypted(KEY, MODULUS, CHUNK)[0]
    again = encrypted(HeKey(Secret(b"k" * 32)), MODULUS, CHUNK)[0]
    tails = {part[-4000:] for part in (ONE, other, again)}
    assert len(tails) == 3
    for part in (ONE, other, again):
        assert np.array_equal(decrypted(KEY, MODULUS, [part]), CHUNK)


def test_another_key_does_not_decrypt() -> None:
    found = decrypted(HeKey.new(), MODULUS, [ONE])
    assert np.mean(found == CHUNK) < 0.01


def test_a_key_travels_whole_or_not_at_all() -> None:
    blob = KEY.to_secret()
    assert len(blob.reveal()) == KEY_BLOB_BYTES == 64
    again = HeKey.from_secret(blob)
    assert again.root == KEY.root
    assert np.array_equal(decrypted(again, MODULUS, [ONE]), CHUNK)
    for wrong in (blob.reveal()[:-1], bytes(64), blob.reveal()[:32] + bytes(32)):
        with pytest.raises(MessageError, match="key"):
            HeKey.from_secret(Secret(wrong))
    assert "hidden" not in repr(KEY) and "kkkk" not in repr(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_a_fresh_ciphertext_has_the_noise_of_a_fresh_one() -> None:
    """At most 21 per coefficient: 60 - 1 - 44 - log2(21) = 10.6 bits are left, and 15 at most."""
    assert 10 <= noise_budget(KEY, MODULUS, ONE) <= 15


def test_malformed_ciphertexts_are_refused() -> None:
    assert reason_of(b"") == "ciphertext"
    assert reason_of(ONE + ONE) == "ciphertext"
    assert reason_of(ONE, 2) == "ciphertext"
    assert reason_of(ONE[:-1]) == "ciphertext"
    assert reason_of(b"\xff" * len(ONE)) == "ciphertext"
    above = coefficient_modulus().to_bytes(8, "little")
    assert reason_of(above + ONE[8:]) == "ciphertext"
    with pytest.raises(MessageError, match="no ciphertext"):
        decrypted(KEY, MODULUS, [ONE[:-1]])
    with pytest.raises(MessageError, match="hides nothing"):
        decrypted(KEY, MODULUS, [ONE[: 8 * DEGREE] + bytes(8 * DEGREE)])


def test_sizes_inside_a_ciphertext_are_those_of_the_reader() -> None:
    """Nothing of SEAL's own headers travels, so that no wrong size reaches it."""
    with passage(MODULUS) as way:
        seen = way.read(ONE)
        assert (seen.size(), seen.poly_modulus_degree(), seen.is_ntt_form()) == (2, DEGREE, False)
        _, content = way.content(seen)
    for is_fresh, width in ((True, FRESH_BYTES), (False, SUM_BYTES)):
        found = form(MODULUS, is_fresh)
        assert found.length - len(found.before) - len(found.between) == width
    with pytest.raises(DataError, match="another form"):
        form(MODULUS, False).numbers(b"\x01" + content[1:])


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None, database=None)
@given(st.integers(0, 2**63))
def test_no_damage_makes_a_ciphertext_harmful(seed: int) -> None:
    """It is refused by name, or read as a ciphertext of the usual size; 100,000 cases."""
    rng = random.Random(seed)
    total = Summation(MODULUS, 1)
    total.add(ONE)
    for _ in range(20):
        try:
            total.add(_damaged(rng))
        except MessageError as error:
            assert error.reason == "ciphertext"
    assert len(total.to_bytes()) == SUM_BYTES


def _damaged(rng: random.Random) -> bytes:
    data = bytearray(ONE)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.choice((rng.randrange(200), rng.randrange(len(data)), len(data) - 1))
        match rng.randrange(8):
            case 0:
                del data[place : place + rng.choice((1, 8, 1000))]
            case 1:
                data[place:place] = rng.randbytes(rng.choice((1, 8, 1000)))
            case 2 | 3:
                data[place : place + 8] = rng.randbytes(len(data[place : place + 8]))
            case _:
                data[place] ^= 1 << rng.randrange(8)
    return bytes(data)


@given(st.binary(max_size=300))
def test_anything_at_all_is_refused(data: bytes) -> None:
    assert reason_of(data) == "ciphertext"
    assert reason_of(ONE + data + b".") == "ciphertext"


def test_a_refused_ciphertext_leaves_the_sum_as_it_was() -> None:
    total = Summation(MODULUS, 2)
    total.add(ONE + ONE)
    before = total.to_bytes()
    with pytest.raises(MessageError):
        total.add(ONE + ONE[:-1])
    assert total.to_bytes() == before


def test_a_ciphertext_without_a_key_part_is_refused() -> None:
    """The difference of a ciphertext and itself would show its content to everybody."""
    evaluator = sealapi().Evaluator(context(MODULUS))
    total = Summation(MODULUS, 2)
    total.add(ONE + ONE)
    before = total.to_bytes()
    negative = sealapi().Ciphertext()
    evaluator.negate(total._total[1], negative)
    total._total[1] = negative
    with pytest.raises(MessageError, match="cancels"):
        total.add(ONE + ONE)
    evaluator.negate(negative, total._total[1])
    assert total.to_bytes() == before


def test_what_no_slot_holds_is_not_encrypted() -> None:
    for wrong in (CHUNK[0], CHUNK[:, :-1], CHUNK - 1, CHUNK + MODULUS, CHUNK[:0]):
        with pytest.raises(DataError):
            encrypted(KEY, MODULUS, wrong)
    with pytest.raises(DataError, match="no ciphertexts"):
        Summation(MODULUS, 1).to_bytes()


def test_several_processes_give_the_same() -> None:
    chunks = np.concatenate([CHUNK, CHUNK[:, ::-1], CHUNK])
    with Cipher(KEY, MODULUS, processes=2, min_chunks=2) as cipher:
        parts = cipher.encrypted(chunks)
        assert np.array_equal(cipher.decrypted(parts), chunks)
    assert np.array_equal(decrypted(KEY, MODULUS, parts), chunks)
    with Cipher(KEY, MODULUS, processes=2) as cipher:
        assert np.array_equal(cipher.decrypted(cipher.encrypted(chunks)), chunks)
        assert cipher._pool is None


def test_tags_are_of_the_sum_and_differ_by_everything() -> None:
    key, shape = Secret(b"t" * 32), (3, MODULUS)
    own = tags(key, b"s" * 32, 1, shape)
    assert own.shape == (3, TAG_SLOTS)
    assert own.min() >= 0 and own.max() < MODULUS
    assert np.array_equal(own, tags(key, b"s" * 32, 1, shape))
    others = [
        tags(Secret(b"u" * 32), b"s" * 32, 1, shape),
        tags(key, b"r" * 32, 1, shape),
        tags(key, b"s" * 32, 2, shape),
    ]
    values = np.concatenate([own, *others]).reshape(-1)
    assert len(set(values.tolist())) == values.size
    slots = np.arange(9000)
    total = (tagged(slots, own) + tagged(slots, others[2])) % MODULUS
    more = {"key": key, "session": b"s" * 32, "plain_modulus": MODULUS}
    assert np.array_equal(untagged(total, 9000, nodes=(1, 2), **more), 2 * slots)
    for nodes in ((1,), (1, 2, 3), (1, 1)):
        with pytest.raises(MessageError, match="tag"):
            untagged(total, 9000, nodes=nodes, **more)
    with pytest.raises(MessageError, match="range"):
        untagged(total, 8999, nodes=(1, 2), **more)
    with pytest.raises(MessageError, match="shape"):
        untagged(total[:2], 9000, nodes=(1, 2), **more)


def test_tenseal_loads_on_first_use_only() -> None:
    code = "import daafl, daafl.secure, daafl.secure.he, sys; assert 'tenseal' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_tenseal_is_named_with_its_remedy() -> None:
    code = (
        "import sys; sys.modules['tenseal'] = None\n"
        "from daafl.errors import ConfigError\n"
        "from daafl.secure.he.scheme import HeKey\n"
        "try: HeKey.new().fingerprint\n"
        "except ConfigError as error: assert \"pip install 'daafl[he]'\" in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parameters_that_are_not_secure_are_refused() -> None:
    seal = sealapi()
    weak = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    weak.set_poly_modulus_degree(1024)
    weak.set_coeff_modulus(seal.CoeffModulus.Create(1024, [60]))
    weak.set_plain_modulus(12289)
    with pytest.raises(ConfigError, match="SEAL refuses"):
        context_of(weak)
