"""No bytes from outside crash, hang or fill the memory: whatever is not right is refused by name.

Every parser gets right input that was damaged at random, and input that was never right. It may
return something, which must then be written and read again the same, or raise one of our errors.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daafl.errors import ConfigError, DaaflError, DataError, MessageError
from daafl.secure import (
    Advertisements,
    HeaderSum,
    Identity,
    Node,
    Policy,
    Roster,
    Secret,
    SignedRoster,
    Statement,
    Terms,
    audit,
    boxes,
    key_files,
    masks,
    messages,
    roster_files,
    shamir,
)
from daafl.secure.he import messages as he
from daafl.secure.header import HEADER_SLOTS, Header
from daafl.secure.identity import is_signed_by
from daafl.secure.suspension import resumed, suspended

FAST: Final = 30
CASES: Final = 100_000
NODES: Final = (1, 5, 9)
ROWS: Final = {width: tuple(bytes([n]) * width for n in NODES) for width in (32, 33, 64, 80, 82)}
IDENTITY: Final = Identity.new()
KEY: Final = masks.new_private_key()
ROSTER: Final = SignedRoster.by(
    Identity.new(),
    Roster("fed", 2, Identity.new().public, {0: IDENTITY.public}, frozenset({b"r" * 32})),
)
STATEMENT: Final = Statement("fed", "main", 3, 7, 11, b"m" * 32, b"p" * 32, b"c" * 32)
HELD: Final = boxes.Held(*(Secret(shamir.share_to_bytes(x)) for x in (1, 2)))
BOX: Final = boxes.sealed(
    b"s", (1, 2), end=masks.Agreement(KEY), public=masks.public_key(KEY), held=HELD
)


@dataclass(frozen=True)
class Parser:
    """Something that reads bytes or values from outside.

    Parameters
    ----------
    example
        Right input.
    read
        Reads it; may raise what is in ``errors``, and nothing else.
    write
        Writes what was read, the same as it was; ``None`` where there is nothing to write.
    """

    example: Any
    read: Callable[[Any], Any]
    errors: tuple[type[DaaflError], ...] = (MessageError,)
    write: Callable[[Any], Any] | None = None


def message(example: Any) -> Parser:
    return Parser(example.to_dict(), type(example).from_dict, write=lambda one: one.to_dict())


def opened(box: object) -> object:
    """Open a box that may be of any length, as a neighbour would after the schema was checked."""
    if not isinstance(box, bytes):
        raise MessageError("schema", "not bytes")
    end = masks.Agreement(KEY)
    return boxes.opened(b"s", (1, 2), end=end, public=masks.public_key(KEY), box=box)


def agreed(public: object) -> object:
    if not isinstance(public, bytes):
        raise MessageError("schema", "not bytes")
    masks.check_public(public)
    return masks.agreed_key(KEY, public, b"")


def share(data: object) -> int:
    if not isinstance(data, bytes):
        raise DataError("not bytes")
    return shamir.share_from_bytes(data)


def summed(words: object) -> object:
    """Read a summed header as it comes out of a sum: 32-bit words, of any number."""
    if not isinstance(words, bytes):
        raise DataError("not bytes")
    return HeaderSum.of(np.frombuffer(words[: len(words) // 4 * 4], "<u4"), 2, 2)


def statement(values: Any) -> Statement:
    if not isinstance(values, dict) or set(values) != {entry.name for entry in fields(Statement)}:
        raise MessageError("schema", "other fields")
    return Statement(**values)


def signature(values: Any) -> bool:
    if not isinstance(values, bytes) or len(values) < 96:
        raise MessageError("schema", "too short")
    return is_signed_by(values[:32], values[96:], values[32:96])


def file_reader(read: Callable[[Path], Any]) -> Callable[[Any], Any]:
    """Return a reader of bytes out of a reader of files."""

    def from_bytes(data: object) -> Any:
        if not isinstance(data, bytes):
            raise ConfigError("not bytes")
        path = SCRATCH[0] / "file"
        path.write_bytes(data)
        path.chmod(0o600)
        return read(path)

    return from_bytes


def pem() -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public


def log_bytes() -> bytes:
    head, lines = audit.Head(), []
    for index in range(3):
        line, head = audit.line_of(head, "event", {"index": index, "who": None})
        lines.append(f"{line}\n")
    return "".join(lines).encode()


def header_bytes() -> bytes:
    total = np.zeros(HEADER_SLOTS, np.uint32)
    for one in (Header(10, 1.0), Header(3)):
        total += one.slots(2)
    return total.astype("<u4").tobytes()


def put_aside() -> dict[str, Any]:
    """Return a session of ten nodes as one of them puts it aside before it confirms."""
    identities = {n: Identity.new() for n in range(10)}
    roster = Roster("fed", 1, Identity.new().public, {n: i.public for n, i in identities.items()})
    terms = Terms(roster, "main", 3, 0, bytes(32), bytes(32), 4, POLICY)
    nodes = {n: Node(terms, n, identity) for n, identity in identities.items()}
    keys = Advertisements(terms)
    for node in nodes.values():
        keys.receive(node.advertisement)
    shares, cohort = keys.close()
    for node in nodes.values():
        shares.receive(node.share(cohort))
    _, deliveries = shares.close()
    nodes[0].mask(deliveries[0], np.zeros(4, np.uint32))
    SESSION[:] = [roster, POLICY, identities[0]]
    return dict(suspended(nodes[0]))


POLICY: Final = Policy(0.1, 0.3)
SESSION: list[Any] = []
SCRATCH: list[Path] = []
PRIVATE, PUBLIC = pem()
PARSERS: Final[dict[str, Parser]] = {
    "Advertisement": message(messages.Advertisement(3, b"m" * 32, b"s" * 32, b"g" * 64)),
    "Cohort": message(messages.Cohort(NODES, ROWS[32], ROWS[32], ROWS[64])),
    "SealedShares": message(messages.SealedShares(3, b"c" * 32, ROWS[82], b"g" * 64)),
    "Delivery": message(messages.Delivery(NODES, ROWS[82])),
    "MaskedInput": message(
        messages.MaskedInput(3, b"p" * 32, NODES, np.arange(6, dtype=np.uint32), b"g" * 64)
    ),
    "Survivors": message(messages.Survivors(NODES, ROWS[32], ROWS[64])),
    "Confirmation": message(messages.Confirmation(3, b"g" * 64)),
    "Confirmations": message(messages.Confirmations(NODES, ROWS[64])),
    "Revelation": message(messages.Revelation(3, NODES, (2,), ROWS[33], ROWS[33][:1], b"g" * 64)),
    "KeyAdvertisement": message(he.KeyAdvertisement(3, b"k" * 32, b"g" * 64)),
    "KeyCohort": message(he.KeyCohort(NODES, ROWS[32], ROWS[64])),
    "DealtKeys": message(he.DealtKeys(3, NODES, ROWS[80], ROWS[64])),
    "KeyBox": message(he.KeyBox(1, b"k" * 32, b"g" * 64, NODES, b"b" * 80, b"g" * 64)),
    "EncryptedInput": message(
        he.EncryptedInput(3, b"c" * 99, np.arange(6, dtype=np.uint32), b"g" * 64)
    ),
    "SumList": message(he.SumList(NODES)),
    "SumToDecrypt": message(he.SumToDecrypt(b"c" * 99, NODES, ROWS[64])),
    "DecryptedSum": message(he.DecryptedSum(3, np.arange(6, dtype=np.uint32), b"g" * 64)),
    "roster": Parser(ROSTER.to_dict(), SignedRoster.from_dict, write=SignedRoster.to_dict),
    "roster file": Parser(
        json.dumps(roster_files.roster_document(ROSTER)).encode(),
        file_reader(roster_files.read_roster),
        (ConfigError,),
    ),
    "private key file": Parser(PRIVATE, file_reader(key_files.read_identity), (ConfigError,)),
    "public key file": Parser(PUBLIC, file_reader(key_files.read_public), (ConfigError,)),
    "X25519 key": Parser(masks.public_key(KEY), agreed),
    "box": Parser(BOX, opened),
    "share": Parser(shamir.share_to_bytes(7), share, (DataError,), shamir.share_to_bytes),
    "signature": Parser(IDENTITY.public + IDENTITY.sign(b"content") + b"content", signature),
    "statement": Parser({e.name: getattr(STATEMENT, e.name) for e in fields(Statement)}, statement),
    "audit log": Parser(log_bytes(), file_reader(audit.verify), (audit.AuditError, ConfigError)),
    "session put aside": Parser(
        put_aside(),
        lambda values: resumed(values, *SESSION),
        (MessageError, ConfigError),
        lambda node: dict(suspended(node)),
    ),
    "summed header": Parser(header_bytes(), summed, (DataError,)),
}
ODD: Final[Sequence[Any]] = (
    None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**40, 0.0, 1.5, float("nan"),
    float("inf"), b"", b"\x00", bytes(32), b"\xff" * 64, "", "x", "\x00", "\ud800", [], [0], [0, 0],
    [2, 1], [-1], [None], ["a"], [[1]], {}, {"a": 1}, (1, 2), range(3), object,
)  # fmt: skip


def damaged(value: Any, rng: random.Random) -> Any:
    """Return a value with something wrong, one to three times over."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _damaged(value, rng)
    return value


def _damaged(value: Any, rng: random.Random) -> Any:
    if rng.random() < 0.05:
        return rng.choice(ODD)
    if isinstance(value, bytes):
        return _other_bytes(value, rng)
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        how = rng.randrange(8)
        if how == 0:
            return {key: kept for key, kept in value.items() if key != name}
        if how == 1:
            return {**value, rng.choice(("more", "", 7, None, f"{name}_")): value[name]}
        if how == 2:
            return {**value, name: rng.choice(ODD)}
        if how == 3:
            return {**value, name: value[rng.choice(list(value))]}
        return {**value, name: _damaged(value[name], rng)}
    if isinstance(value, list) and value:
        place, how = rng.randrange(len(value)), rng.randrange(5)
        if how == 0:
            return value[:place] + value[place + 1 :]
        if how == 1:
            return value[:place] + [value[place]] * rng.choice((2, 50)) + value[place + 1 :]
        if how == 2:
            return rng.sample(value, len(value))
        new = rng.choice(ODD) if how == 3 else _damaged(value[place], rng)
        return [*value[:place], new, *value[place + 1 :]]
    if type(value) is int:
        return rng.choice((value + 1, value - 1, -value, value ^ (1 << rng.randrange(70))))
    return rng.choice(ODD)


def _other_bytes(value: bytes, rng: random.Random) -> bytes:
    how, place = rng.randrange(6), rng.randrange(len(value) + 1)
    if how == 0:
        return value[:place]
    if how == 1:
        return value[:place] + rng.randbytes(rng.choice((1, 4, 33, 1000))) + value[place:]
    if how == 2:
        return value[:place] + value[place + rng.randrange(1, 40) :]
    if how == 3:
        return value * rng.choice((0, 2, 3))
    if how == 4 and value:
        start = rng.randrange(len(value))
        return value[:place] + value[start : start + 64] + value[place:]
    flipped = bytearray(value or b"\x00")
    for _ in range(rng.choice((1, 1, 8))):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


ANYTHING: Final = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=200), st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=6,
)  # fmt: skip


def check(parser: Parser, value: Any) -> None:
    try:
        found = parser.read(value)
    except parser.errors as error:
        assert len(str(error)) < 1000
        return
    if parser.write is not None:
        again = parser.write(found)
        written = parser.write(parser.read(again))
        assert written == again


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path) -> None:
    SCRATCH[:] = [tmp_path]


def fuzz(name: str, cases: int) -> None:
    """Run so many cases of one parser: nine of ten damaged, the others anything at all."""
    parser = PARSERS[name]
    common: dict[str, Any] = {
        "deadline": None,
        "database": None,
        "suppress_health_check": list(HealthCheck),
    }

    @settings(max_examples=cases * 9 // 10, **common)
    @given(st.integers(0, 2**64))
    def with_damaged(seed: int) -> None:
        check(parser, damaged(parser.example, random.Random(seed)))

    @settings(max_examples=cases // 10, **common)
    @given(ANYTHING)
    def with_anything(value: Any) -> None:
        check(parser, value)

    with_damaged()
    with_anything()


@pytest.mark.parametrize("name", PARSERS)
def test_right_input_is_read(name: str) -> None:
    parser = PARSERS[name]
    found = parser.read(parser.example)
    assert found is not None and found is not False
    if parser.write is not None:
        assert parser.write(found) == parser.example


@pytest.mark.parametrize("name", PARSERS)
def test_a_few_damaged_inputs(name: str) -> None:
    fuzz(name, FAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_very_many_damaged_inputs(name: str) -> None:
    fuzz(name, -(-CASES // len(PARSERS) // 90) * 100)


def test_the_long_run_has_as_many_cases_as_it_says() -> None:
    each = -(-CASES // len(PARSERS) // 90) * 100
    assert (each * 9 // 10 + each // 10) * len(PARSERS) >= CASES


@pytest.mark.parametrize("name", ["box", "signature", "audit log"])
def test_damage_is_never_taken_for_the_real_thing(name: str) -> None:
    """Authenticated input: no damaged form is accepted as right."""
    parser = PARSERS[name]
    rng = random.Random(0)
    for _ in range(200):
        value = _other_bytes(parser.example, rng)
        if value == parser.example or (name == "audit log" and parser.example.startswith(value)):
            continue  # a log that was cut at a line is still whole: only a noted head shows it
        with suppress(*parser.errors):
            assert not parser.read(value)
