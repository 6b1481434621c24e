"""Masked sums: what the server computes from masked vectors to their sum, and what a node does.

All times are CPU seconds of one thread, from masked vectors in memory to the exact sum. Aggregating
is adding vectors, recovering secrets, agreeing on the keys of masks and expanding them; verifying
is the signatures and hashes of vectors, confirmations and shares, which any protocol with signed
updates pays. A tenth of the nodes shares its secrets and then sends nothing, the most expensive
moment to be lost. The nodes are real; only the signatures that a thousand nodes would each verify
on the same lists are verified once.

Budget: three minutes on one core, 1 GiB of memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from _apart import measured_apart
from _report import Figure

from daafl.secure import Advertisements, Identity, Node, Policy, Roster, Terms, client, masks
from daafl.secure.masks import Words
from daafl.secure.messages import Confirmation, MaskedInput, Revelation
from daafl.secure.server import Inputs
from daafl.secure.terms import Group

SEED: Final = 0
SEEDS: Final = (SEED,)
PHASES: Final = ("keys", "share", "mask", "confirm", "reveal")
SCRIPT: Final = str(Path(__file__).with_name("secure.py"))
EVERYWHERE: Final = Policy(0.05, 0.44)  # a tenth lost at each of the phases after keys
AGGREGATING: Final = ("adding vectors", "share recovery", "key agreement", "mask expansion")
VERIFYING: Final = ("checking vectors", "confirming", "checking shares")


@dataclass(frozen=True)
class Recorded:
    """What the server of one session received, from the masked vectors on."""

    group: Group
    commitments: dict[int, bytes]
    inputs: list[MaskedInput]
    confirmations: list[Confirmation]
    revelations: list[Revelation]
    expected: Words
    node_ms: dict[str, float]


def terms_of(num_nodes: int, length: int, policy: Policy) -> tuple[Terms, dict[int, Identity]]:
    """Return the terms of a federation and its nodes' keys."""
    identities = {node: Identity.new() for node in range(num_nodes)}
    keys = {node: identity.public for node, identity in identities.items()}
    roster = Roster("benchmark", 1, Identity.new().public, keys)
    return Terms(roster, "main", 1, 0, bytes(32), bytes(32), length, policy), identities


def recorded(num_nodes: int, length: int, num_lost: int, policy: Policy) -> Recorded:
    """Return a session in which ``num_lost`` nodes are lost when their vectors are expected.

    The last survivor verifies everything itself and is timed.
    """
    terms, identities = terms_of(num_nodes, length, policy)
    rng = np.random.default_rng(SEED)
    lost = set(rng.permutation(num_nodes)[:num_lost].tolist())
    *others, timed_node = sorted(set(identities) - lost)
    node_ms: dict[str, float] = {}
    phase = Advertisements(terms)
    states: dict[int, Any] = {}
    for node, identity in identities.items():
        states[node], message = client.advertised(terms, node, identity)
        phase.receive(message)
    shares, cohort = phase.close()
    with timed(node_ms, "keys of the cohort checked, secrets shared"):
        states[timed_node].share(cohort)
    for node, state in states.items():
        states[node], sealed = state.share_in(shares.group)
        shares.receive(sealed)
    inputs, deliveries = shares.close()
    expected, sent = np.zeros(length, np.uint32), []
    for node in (*others, timed_node):
        words = rng.integers(0, 2**32, length, dtype=np.uint32)
        expected += words
        with timed(node_ms, "boxes opened, masks made and added"):
            states[node], masked = states[node].mask(deliveries[node], words)
        inputs.receive(masked)
        sent.append(masked)
    confirming, lists = inputs.close()
    confirmed = []
    for node, survivors in lists.items():
        with timed(node_ms, "list of survivors confirmed"):
            states[node], confirmation = states[node].confirm(survivors)
        confirming.receive(confirmation)
        confirmed.append(confirmation)
    _, confirmations = confirming.close()
    with timed(node_ms, "confirmations checked, shares revealed"):
        states[timed_node].reveal(confirmations)
    revealed = [states[node].revelation() for node in lists]
    commitments = dict(inputs.commitments)
    return Recorded(
        confirming.group,
        commitments,
        sent,
        confirmed,
        revealed,
        expected,
        {what: 1000 * seconds for what, seconds in node_ms.items()},
    )


def served(session: Recorded) -> dict[str, float]:
    """Return the CPU seconds of every stage of the server, which arrives at the exact sum."""
    seconds: dict[str, float] = {}
    phase = Inputs(session.group, session.commitments)
    with timed(seconds, "checking and adding vectors"):
        for message in session.inputs:
            phase.receive(message)
    with timed(seconds, "confirming"):
        confirming, _ = phase.close()
        for confirmation in session.confirmations:
            confirming.receive(confirmation)
        revealing, _ = confirming.close()
    with timed(seconds, "checking shares"):
        for revelation in session.revelations:
            revealing.receive(revelation)
    with timed(seconds, "share recovery"):
        secrets, _ = revealing.recovered()
    with timed(seconds, "key agreement"):
        keys = list(revealing.masks_left(secrets))
    total = revealing.total
    with timed(seconds, "mask expansion"):
        masks.add_masks(total, keys)
    if not np.array_equal(total, session.expected):
        raise AssertionError("the sum is not the sum of the survivors' vectors")
    # How the first stage divides, measured on the same vectors.
    again = np.zeros_like(total)
    adding: dict[str, float] = {}
    with timed(adding, "adding vectors"):
        for message in session.inputs:
            np.add(again, message.words, out=again)
    together = seconds.pop("checking and adding vectors")
    return {
        "checking vectors": together - adding["adding vectors"],
        **adding,
        **seconds,
        "masks": float(len(keys)),
    }


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note the CPU time of a stage."""
    start = time.process_time()
    yield
    seconds[stage] = time.process_time() - start


def server_times(
    num_nodes: int, length: int, num_lost: int, server: str, repetitions: int
) -> dict[str, Any]:
    """Return the CPU seconds of each stage, turn by turn, and what a node needs for its mask."""
    policy = Policy(0.1, num_lost / num_nodes, server=server)  # type: ignore[arg-type]
    session = recorded(num_nodes, length, num_lost, policy)
    degree = session.group.degree
    return {
        "turns": [served(session) for _ in range(repetitions)],
        "degree": degree.degree,
        "threshold": degree.threshold,
        "node_ms": session.node_ms,
    }


def sums_are_exact(num_nodes: int, length: int, silent: Mapping[str, int], policy: Policy) -> bool:
    """Return whether the sum is exact with so many nodes falling silent at each phase."""
    terms, identities = terms_of(num_nodes, length, policy)
    rng = np.random.default_rng(SEED)
    gone = iter(rng.permutation(num_nodes).tolist())
    nodes = {n: Node(terms, n, identity) for n, identity in identities.items()}
    vectors = {n: rng.integers(0, 2**32, length, dtype=np.uint32) for n in nodes}

    def alive(phase: str) -> list[int]:
        for _ in range(silent.get(phase, 0)):
            del nodes[next(gone)]
        return list(nodes)

    keys = Advertisements(terms)
    for n in alive("keys"):
        keys.receive(nodes[n].advertisement)
    shares, cohort = keys.close()
    for n in alive("share"):
        shares.receive(nodes[n].share(cohort))
    inputs, deliveries = shares.close()
    for n in alive("mask"):
        inputs.receive(nodes[n].mask(deliveries[n], vectors[n]))
    confirming, lists = inputs.close()
    for n in alive("confirm"):
        confirming.receive(nodes[n].confirm(lists[n]))
    revealing, confirmations = confirming.close()
    for n in alive("reveal"):
        revealing.receive(nodes[n].reveal(confirmations))
    result = revealing.close()
    expected = np.sum([vectors[n] for n in result.nodes], axis=0, dtype=np.uint32)
    return bool(np.array_equal(result.words, expected))


def figures(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and the raw rows."""
    num_nodes, length, repetitions = (200, 10_000, 2) if quick else (1000, 100_000, 5)
    num_lost = num_nodes // 10
    found: list[Figure] = []
    rows: list[dict[str, Any]] = []
    for server in ("curious", "malicious"):
        result = measured_apart(
            SCRIPT, "masking.server_times", num_nodes, length, num_lost, server, repetitions
        )
        turns = result["turns"]
        rows += [{"server": server, "turn": i, **turn} for i, turn in enumerate(turns)]
        of = (
            f"{server} server, {num_nodes:,} nodes x {length // 1000}k, {num_lost} lost, "
            f"k = {result['degree']}, t = {result['threshold']}"
        )
        bar = {"at_most": 1.0} if server == "curious" else {}
        for what, stages in ((f"aggregating, {of}", AGGREGATING), ("verifying", VERIFYING)):
            totals = [sum(turn[stage] for stage in stages) for turn in turns]
            found.append(Figure.of(what, totals, "s", **(bar if what != "verifying" else {})))
            found += [Figure.of(f"  {x}", [turn[x] for turn in turns], "s") for x in stages]
        totals = [sum(turn[x] for x in AGGREGATING + VERIFYING) for turn in turns]
        found.append(Figure.of("both together", totals, "s"))
        found.append(Figure.of("masks taken off", [turns[0]["masks"]], ""))
        node_ms = result["node_ms"]
        found.append(Figure.of("a node's part, all phases", [sum(node_ms.values())], "ms"))
        found += [Figure.of(f"  {what}", [value], "ms") for what, value in node_ms.items()]
        rows.append({"server": server, "node_ms": node_ms})
    count, lost = (50, 5) if quick else (100, 10)
    cases: dict[str, tuple[dict[str, int], Policy]] = {
        f"at phase {phase}": ({phase: lost}, Policy(0.1, 0.1)) for phase in PHASES
    }
    cases["at every phase of one sum"] = (dict.fromkeys(PHASES, lost), EVERYWHERE)
    for name, (silent, policy) in cases.items():
        is_exact = sums_are_exact(count, 1000, silent, policy)
        rows.append({"nodes": count, "silent": silent, "exact": is_exact})
        found.append(
            Figure.of(
                f"sum exact, {lost} of {count} lost {name}", [float(is_exact)], "", at_least=1
            )
        )
    return found, rows


MEASUREMENTS: Final[dict[str, Callable[..., Any]]] = {"server_times": server_times}
NOTES: Final = (
    "CPU time of one thread, from masked vectors in memory to the sum; a tenth of the nodes is "
    "lost after its secrets are shared. k: neighbours, t: shares that recover a secret.",
    "Aggregating leaves out signatures and hashes, which are reported below it.",
)
