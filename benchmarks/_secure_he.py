"""Homomorphic sums: bytes and CPU time beside the way NVFLARE does it by default, in one run.

NVFLARE 2.9 (``lighter/impl/he.py``, ``app_opt/he``) encrypts with CKKS at degree 8192, coefficient
modulus [60, 40, 40] and scale 2**40, symmetrically, one vector per layer, each sent with the whole
context and its relinearisation keys; its server builds that context again for every layer, adds,
and multiplies by one over the number of examples. It is built here with the same TenSEAL, once with
60 layers as it does it and once with the whole model as one vector, which flatters it.

Times are CPU seconds of one process: a client's from its float32 update to bytes, the server's from
one client's bytes to the running sum, a decryptor's from bytes to numbers.

Budget: two minutes on one core, 3 GiB of memory.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import tenseal
from _report import Figure

from daafl.secure import Identity, Quantiser, Roster
from daafl.secure.he import (
    EpochTerms,
    HeldKey,
    Inputs,
    KeyGroup,
    Packing,
    Selection,
    SumNode,
    SumTerms,
)
from daafl.secure.he.messages import SumToDecrypt
from daafl.secure.he.scheme import HeKey
from daafl.secure.he.tags import num_chunks

SEED: Final = 0
SEEDS: Final = (SEED,)
NOTES: Final = (
    "BFV, degree 4096, 60-bit modulus; packing for 16 nodes: two 23-bit fields per slot.",
    "Ratios are NVFLARE's default (60 layers) over daafl, in the same run; the form in which "
    "it would encrypt the whole model as one vector is beside it.",
)
SIZES: Final = (100_000, 1_000_000)
LARGE: Final = 10_000_000
LAYERS: Final = 60
NUM_NODES: Final = 16
CLIP: Final = 0.15
EXACT_FOR: Final = (2, 16, 64, 250, 1000)
EXACT_LENGTH: Final = 20_000
REPETITIONS: Final = 5

DEFAULT: Final = f"NVFLARE, {LAYERS} layers"
ONE_VECTOR: Final = "NVFLARE, one vector"
OURS: Final = "daafl, 2 values per slot"

Row = dict[str, Any]


def nvflare(vector: np.ndarray, layers: int) -> Row:
    """Return bytes and times of one client and the server, NVFLARE's way."""
    made = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    made.generate_relin_keys()
    made.global_scale = 2**40
    keys = {"save_galois_keys": False, "save_relin_keys": True}
    client = tenseal.context_from(
        made.serialize(save_public_key=True, save_secret_key=True, **keys)
    )
    parts, examples = np.array_split(vector, layers), 10.0

    def encrypted() -> list[tuple[bytes, bytes]]:
        vectors = [tenseal.ckks_vector(client, part * np.float64(examples)) for part in parts]
        return [(one.serialize(), one.context().serialize()) for one in vectors]

    def read(sent: list[tuple[bytes, bytes]]) -> list[Any]:
        return [tenseal.ckks_vector_from(tenseal.context_from(c), v) for v, c in sent]

    def added() -> None:
        for place, one in enumerate(read(sent)):
            total[place] = total[place] + one

    def opened() -> np.ndarray:
        read_back = [tenseal.ckks_vector_from(client, one) for one, _ in down]
        return np.concatenate([one.decrypt(client.secret_key()) for one in read_back])

    sent, encrypt_s = timed(encrypted)
    total = read(sent)
    _, add_s = timed(added)
    mean = [one * (1 / (2 * examples)) for one in total]
    down = [(one.serialize(), one.context().serialize()) for one in mean]
    found, decrypt_s = timed(opened)
    if np.abs(found - vector).max() > 1e-5:
        raise AssertionError("the mean of two equal updates is another")
    return {
        "what": DEFAULT if layers > 1 else ONE_VECTOR,
        "length": len(vector),
        "up": sum(map(len, (part for pair in sent for part in pair))) / len(vector),
        "down": sum(map(len, (part for pair in down for part in pair))) / len(vector),
        "encrypt_s": encrypt_s,
        "add_s": add_s,
        "decrypt_s": decrypt_s,
    }


def ours(vector: np.ndarray, values_per_slot: int = 2) -> Row:
    """Return bytes and times of one client and the server, ours, with every check."""
    packing = Packing(NUM_NODES, values_per_slot)
    quantiser = Quantiser(CLIP, NUM_NODES, packing.modulus)
    phase, nodes = session(len(vector), packing)
    words = [quantiser.quantised(vector)]
    first, encrypt_s = timed(lambda: nodes[0].encrypt(quantiser.quantised(vector)))
    second = nodes[1].encrypt(words[0])
    phase.receive(first)
    _, add_s = timed(lambda: phase.receive(second))
    confirming, listed = phase.close()
    for node in nodes:
        confirming.receive(node.confirm(listed))
    decrypting = confirming.close()
    message: SumToDecrypt = decrypting.message
    asked = nodes[decrypting.ask()[0]]

    def opened() -> np.ndarray:
        decrypting.receive(asked.decrypt(message))
        return quantiser.sum_of(decrypting.close().words, 2)

    found, decrypt_s = timed(opened)
    if np.abs(found - 2 * vector).max() > quantiser.error_bound(2, is_stochastic=False) + 1e-9:
        raise AssertionError("the sum of two updates is off by more than rounding")
    return {
        "what": f"daafl, {values_per_slot} values per slot",
        "length": len(vector),
        "up": len(first.ciphertexts) / len(vector),
        "down": len(message.ciphertexts) / len(vector),
        "encrypt_s": encrypt_s,
        "add_s": add_s,
        "decrypt_s": decrypt_s,
    }


def session(length: int, packing: Packing, *, num_nodes: int = 2) -> tuple[Inputs, list[SumNode]]:
    """Return the server's phase and nodes that hold a key."""
    identities = [Identity.new() for _ in range(num_nodes)]
    publics = {node: identity.public for node, identity in enumerate(identities)}
    roster = Roster("benchmark", 1, Identity.new().public, publics)
    group = KeyGroup(EpochTerms(roster, "main", 1), 0, tuple(range(num_nodes)))
    terms = SumTerms(group, 1, 0, bytes(32), bytes(32), Selection.whole(length), packing)
    held = HeldKey(group, HeKey.new())
    nodes = [SumNode(terms, node, identity, held) for node, identity in enumerate(identities)]
    return Inputs(terms), nodes


def wrong_values(num_nodes: int) -> int:
    """Return how many values of a sum over so many nodes are not exact, of `EXACT_LENGTH`."""
    packing = Packing(num_nodes)
    rng = np.random.default_rng(SEED)
    phase, nodes = session(EXACT_LENGTH, packing, num_nodes=num_nodes)
    expected = np.zeros(EXACT_LENGTH, np.int64)
    for node in nodes:
        words = rng.integers(0, packing.levels, EXACT_LENGTH, np.uint32, endpoint=True)
        words[:100] = packing.levels  # the largest sum there can be
        expected += words
        phase.receive(node.encrypt(words))
    confirming, listed = phase.close()
    for node in nodes:
        confirming.receive(node.confirm(listed))
    decrypting = confirming.close()
    (asked,) = decrypting.ask()
    decrypting.receive(nodes[asked].decrypt(decrypting.message))
    return int(np.count_nonzero(decrypting.close().words != expected))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep TenSEAL's own warning, that a vector takes more than one ciphertext, off the screen."""
    sys.stdout.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its CPU seconds."""
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def figures(*, quick: bool) -> tuple[list[Figure], list[Row]]:
    """Return what was measured, and every repetition."""
    rng = np.random.default_rng(SEED)

    def drawn(length: int) -> np.ndarray:
        return np.clip(rng.normal(0, 0.02, length), -CLIP, CLIP).astype(np.float32)

    rows: list[Row] = []
    with quiet():
        ours(drawn(10_000))  # libraries load, caches fill
        nvflare(drawn(10_000), 1)
        for length in SIZES:
            vector = drawn(length)
            for _ in range(1 if quick else REPETITIONS):
                rows += [ours(vector), nvflare(vector, LAYERS), nvflare(vector, 1)]
    coarse = ours(vector, values_per_slot=3)
    rows.append(coarse)
    if not quick:
        rows.append(ours(drawn(LARGE)))
    found: list[Figure] = []
    for length in (*SIZES, *([] if quick else [LARGE])):
        mine = [row for row in rows if row["length"] == length and row["what"] == OURS]
        at = f"at {length:,} parameters"
        is_held = length == 1_000_000
        for name, key, bar in (("up", "up", 4.2), ("down", "down", 8.5)):
            values = [row[key] for row in mine]
            found.append(
                Figure.of(
                    f"bytes {name} {at}", values, "B/parameter", at_most=bar if is_held else None
                )
            )
        for name in ("encrypt", "add", "decrypt"):
            values = [1000 * row[f"{name}_s"] for row in mine]
            found.append(Figure.of(f"{name}, {at}", values, "ms CPU"))
        for layers in (DEFAULT, ONE_VECTOR):
            theirs = [row for row in rows if row["length"] == length and row["what"] == layers]
            if theirs:
                bars = (12.0, 7.0) if is_held else (None, None)
                if layers == ONE_VECTOR:  # not its default: what it could save is shown, not held
                    bars = (bars[0], None)
                found += compared(mine, theirs, f"{layers}, {at}", bars)
    name = "with three 15-bit fields per slot, at 1,000,000 parameters"
    found.append(Figure.of(f"bytes up {name}", [coarse["up"]], "B/parameter"))
    found.append(Figure.of(f"encrypt, {name}", [1000 * coarse["encrypt_s"]], "ms CPU"))
    for num_nodes in EXACT_FOR:
        wrong = wrong_values(num_nodes)
        rows.append({"what": "exact", "num_nodes": num_nodes, "wrong": wrong})
        found.append(
            Figure.of(
                f"wrong values in a sum of {num_nodes} nodes, of {EXACT_LENGTH:,}",
                [wrong],
                "",
                at_most=0,
            )
        )
    slots = Packing(NUM_NODES).num_slots(SIZES[-1])
    rows.append({"what": "ciphertexts", "length": SIZES[-1], "count": num_chunks(slots)})
    return found, rows


def compared(
    mine: list[Row], theirs: list[Row], name: str, bars: tuple[float | None, float | None]
) -> list[Figure]:
    """Return how many times more NVFLARE's way takes, repetition by repetition.

    Parameters
    ----------
    bars
        For bytes up, and for the time of encryption.
    """
    bytes_bar, time_bar = bars

    def ratios(key: str) -> list[float]:
        return [other[key] / own[key] for own, other in zip(mine, theirs, strict=True)]

    return [
        Figure.of(f"times fewer bytes up than {name}", ratios("up"), "x", at_least=bytes_bar),
        Figure.of(f"times fewer bytes down than {name}", ratios("down"), "x"),
        Figure.of(
            f"times faster encryption than {name}", ratios("encrypt_s"), "x", at_least=time_bar
        ),
        Figure.of(f"times faster addition than {name}", ratios("add_s"), "x"),
        Figure.of(f"times faster decryption than {name}", ratios("decrypt_s"), "x"),
    ]
