"""What is signed or hashed has one reading only, and boxes open for nobody else."""

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from daafl.secure import Secret, boxes, masks, shamir
from daafl.secure.encoding import DOMAIN, digest, encoded, nodes_digest
from daafl.secure.messages import BOX_BYTES

Values = list[bytes | str | int]
VALUES = st.lists(
    st.one_of(st.binary(max_size=9), st.text(max_size=9), st.integers(0, 2**64 - 1)), max_size=4
)


def test_an_encoding_by_hand() -> None:
    """Each value: a letter, its length in eight bytes, its bytes; the domain comes first."""
    assert DOMAIN == "daafl secure 1"
    expected = (
        b"s" + (14).to_bytes(8, "big") + b"daafl secure 1"
        b"s" + (1).to_bytes(8, "big") + b"p"
        b"i" + (8).to_bytes(8, "big") + (258).to_bytes(8, "big")
        + b"b" + (2).to_bytes(8, "big") + b"\x00\x01"
    )  # fmt: skip
    assert encoded("p", 258, b"\x00\x01") == expected


@given(st.text(max_size=3), VALUES, st.text(max_size=3), VALUES)
def test_other_values_have_another_encoding(
    purpose: str,
    values: Values,
    other_purpose: str,
    other: Values,
) -> None:
    is_same = (purpose, values) == (other_purpose, other)
    assert (encoded(purpose, *values) == encoded(other_purpose, *other)) == is_same
    assert (digest(purpose, *values) == digest(other_purpose, *other)) == is_same


@pytest.mark.parametrize("value", [-1, 2**64])
def test_integers_are_bounded(value: int) -> None:
    with pytest.raises(OverflowError):
        encoded("p", value)


def test_lists_of_nodes_are_told_apart() -> None:
    lists = [(), (1,), (2,), (1, 2), (2, 1), (258,), (1, 2, 3)]
    assert len({nodes_digest("p", b"s", nodes) for nodes in lists}) == len(lists)
    assert nodes_digest("p", b"s", (1,)) != nodes_digest("q", b"s", (1,))
    assert nodes_digest("p", b"s", (1,)) != nodes_digest("p", b"t", (1,))


@pytest.fixture
def keys() -> tuple[Secret, Secret]:
    return masks.new_private_key(), masks.new_private_key()


def boxed(keys: tuple[Secret, Secret], ends: tuple[int, int] = (1, 2)) -> bytes:
    held = boxes.Held(*(Secret(shamir.share_to_bytes(x)) for x in (7, shamir.PRIME - 1)))
    public = masks.public_key(keys[1])
    return boxes.sealed(b"s", ends, end=masks.Agreement(keys[0]), public=public, held=held)


def test_a_box_opens_for_its_receiver(keys: tuple[Secret, Secret]) -> None:
    box = boxed(keys)
    assert len(box) == BOX_BYTES
    end, public = masks.Agreement(keys[1]), masks.public_key(keys[0])
    found = boxes.opened(b"s", (1, 2), end=end, public=public, box=box)
    assert found is not None
    shares = [shamir.share_from_bytes(x.reveal()) for x in (found.of_seed, found.of_key)]
    assert shares == [7, shamir.PRIME - 1]
    assert "hidden" in repr(Secret(b"")) and box.hex() not in repr(found)


def test_a_box_opens_for_nobody_else_and_not_after_a_change(keys: tuple[Secret, Secret]) -> None:
    box = boxed(keys)
    end, public = masks.Agreement(keys[1]), masks.public_key(keys[0])
    stranger = masks.Agreement(masks.new_private_key())
    assert boxes.opened(b"s", (1, 2), end=stranger, public=public, box=box) is None
    for session, ends in ((b"t", (1, 2)), (b"s", (2, 1)), (b"s", (1, 3))):
        assert boxes.opened(session, ends, end=end, public=public, box=box) is None
    for bad in (b"", box[:-1], box + b"x", bytes(len(box)), bytes([box[0] ^ 1]) + box[1:]):
        assert boxes.opened(b"s", (1, 2), end=end, public=public, box=bad) is None


def test_a_box_holds_nothing_but_two_shares(keys: tuple[Secret, Secret]) -> None:
    """An authentic sender that puts something else in is treated like a box that is broken."""
    end, public = masks.Agreement(keys[1]), masks.public_key(keys[0])
    held = boxes.Held(Secret(b"\xff" * 33), Secret(bytes(33)))
    box = boxes.sealed(
        b"s", (1, 2), end=masks.Agreement(keys[0]), public=masks.public_key(keys[1]), held=held
    )
    assert boxes.opened(b"s", (1, 2), end=end, public=public, box=box) is None


def test_each_direction_has_a_key_of_its_own(keys: tuple[Secret, Secret]) -> None:
    """The nonce is always zero, so that no key may ever seal two boxes."""
    end, public = masks.Agreement(keys[0]), masks.public_key(keys[1])
    there = end.key(public, encoded("box", b"s", 1, 2)).reveal()
    back = end.key(public, encoded("box", b"s", 2, 1)).reveal()
    assert there != back
    info = encoded("box", b"s", 1, 2)
    assert len(AESGCM(there).decrypt(bytes(12), boxed(keys), info)) == 66
    with pytest.raises(InvalidTag):
        AESGCM(back).decrypt(bytes(12), boxed(keys), info)
