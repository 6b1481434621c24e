"""Ciphertexts are small, random and bounded before SEAL reads them; keys are what was dealt."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daafl.errors import ConfigError, DataError, MessageError
from daafl.secure.he.library import (
    MAX_CIPHERTEXT_BYTES,
    context,
    context_of,
    passage,
    sealapi,
    split,
)
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
    assert 8 * DEGREE < len(ONE) < 8 * DEGREE + 512
    assert 16 * DEGREE < len(total.to_bytes()) < MAX_CIPHERTEXT_BYTES


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
    assert reason_of(bytes(len(ONE))) == "ciphertext"
    flipped = bytearray(ONE)
    for place in range(60, 130):  # the description of the ciphertext
        flipped[place] ^= 0xFF
    assert reason_of(bytes(flipped)) == "ciphertext"
    other = encrypted(KEY, batching_prime(45), CHUNK)[0]
    assert reason_of(other) == "ciphertext"


def test_a_frame_that_unfolds_into_much_is_never_given_to_seal() -> None:
    """A Zstandard frame of 2 GB of zeros: run-length blocks of 128 KiB each (RFC 8878, 3.1.1.2)."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = ((128 << 10) << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    frame = bytes.fromhex("28b52ffd") + bytes([0xE0]) + (2**31).to_bytes(8, "little")
    frame += block * (2**14 - 1) + last
    bomb = ONE[:8] + (16 + len(frame)).to_bytes(8, "little") + frame
    assert len(bomb) < MAX_CIPHERTEXT_BYTES
    assert reason_of(bomb) == "ciphertext"
    with pytest.raises(MessageError, match="malformed"):
        split(bomb, 1)


@given(st.integers(0, len(ONE) - 1), st.integers(1, 255), st.booleans())
def test_damaged_ciphertexts_are_refused_or_read_as_one(place: int, xor: int, cut: bool) -> None:
    damaged = bytearray(ONE)
    damaged[place] ^= xor
    data = bytes(damaged[:place] if cut else damaged)
    total = Summation(MODULUS, 1)
    try:
        total.add(data)
    except MessageError as error:
        assert error.reason == "ciphertext"
    else:
        assert len(total.to_bytes()) < MAX_CIPHERTEXT_BYTES


@given(st.binary(max_size=300))
def test_anything_at_all_is_refused(data: bytes) -> None:
    assert reason_of(data) == "ciphertext"
    assert reason_of(ONE[:16] + data) == "ciphertext"


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
    with passage() as way:
        one = way.ciphertext(ONE, MODULUS)
        opposite = sealapi().Ciphertext()
        evaluator.negate(one, opposite)
        data = way.bytes_of(opposite)
    total = Summation(MODULUS, 2)
    total.add(ONE + ONE)
    before = total.to_bytes()
    with pytest.raises(MessageError, match="cancels"):
        total.add(ONE + data)
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
