"""Norm proofs: what a node and the server compute, what travels, and what is refused.

All times are CPU seconds of one thread. An update of normal values is clipped to the bound,
quantised for a sum of 100 nodes, committed to and proved; the server reads bytes and verifies. The
generators are made once per process and are a figure of their own. The five attempts to cheat are
made at full size: a changed response, another commitment, three times the bound with the prover's
own code, a proof of another node, and a sum that is off by one in one place.

Budget: three minutes on one core, 1 GiB of memory.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import py_arkworks_bls12381  # noqa: F401 - without it, the dispatcher leaves this part out
from _apart import measured_apart, peak_mib_of
from _report import Figure

from daafl.errors import MessageError
from daafl.secure.proof import (
    ORDER,
    Claim,
    Commitment,
    Committed,
    Context,
    Proof,
    Statement,
    binding,
    centred,
    centred_sum,
    claim_for,
    commit,
    prove,
    prover,
    quantiser_for,
    slack,
    verify,
)
from daafl.secure.proof.group import GENERATORS, random_scalar
from daafl.secure.proof.scale import Integers
from daafl.secure.quantisation import Words

SEED: Final = 0
SEEDS: Final = (SEED,)
SCRIPT: Final = str(Path(__file__).with_name("secure.py"))
BOUND: Final = 1.0
NUM_NODES: Final = 100
MAX_PROVE_S: Final = 1.5
MAX_VERIFY_S: Final = 0.4
BAR_DIMENSION: Final = 100_000
BAR_PROJECTIONS: Final = (128, 256)
QUANTISER: Final = quantiser_for(BOUND, NUM_NODES)


def statement(claim: Claim, node: int = 1) -> Statement:
    """Return what node ``node`` proves."""
    digest = bytes(32)
    return Statement(claim, Context("benchmark", digest, digest, digest, 1, node))


def words(dimension: int, node: int = 1, scale: float = 1.0) -> Words:
    """Return an update with a norm of ``scale`` times the bound, as it is summed."""
    rng = np.random.default_rng((SEED, node))
    update = rng.normal(size=dimension)
    update *= scale * BOUND / np.linalg.norm(update)
    return QUANTISER.quantised(update, rng)


def integers(dimension: int, node: int = 1, scale: float = 1.0) -> Integers:
    """Return the same as it is proved."""
    return centred(words(dimension, node, scale), QUANTISER)


def measured(dimension: int, projections: int, repetitions: int) -> dict[str, Any]:
    """Return times of every step, sizes and memory."""
    claim = claim_for(BOUND, QUANTISER, dimension, projections=projections)
    values, about = integers(dimension), statement(claim)
    start = time.process_time()
    GENERATORS.vector(claim.num_generators)
    generators = time.process_time() - start
    turns = [_turn(values, about) for _ in range(repetitions)]
    return {
        "generators": generators,
        "turns": turns,
        "commitment_bytes": claim.commitment_bytes,
        "proof_bytes": claim.proof_bytes,
        "randomness_words": binding.num_words(claim),
        "prove_mib": peak_mib_of(lambda: prove(commit(values, about), bytes(32))),
    }


def _turn(values: Integers, about: Statement) -> dict[str, float]:
    seconds: dict[str, float] = {}

    def timed(step: str, act: Callable[[], Any]) -> Any:
        wall, start = time.perf_counter(), time.process_time()
        result = act()
        seconds[step] = time.process_time() - start
        seconds[f"{step} wall"] = time.perf_counter() - wall
        return result

    claim, seed = about.claim, secrets.token_bytes(32)
    committed = timed("commit", lambda: commit(values, about))
    proof = timed("prove", lambda: prove(committed, seed).to_bytes())
    data = committed.commitment.to_bytes()

    def received() -> None:
        read = Commitment.from_bytes(data, claim), Proof.from_bytes(proof, claim)
        verify(read[0], seed, read[1], about)

    timed("verify", received)
    # The check of a sum costs the same whoever the nodes are: take one node many times.
    commitments = [committed.commitment] * NUM_NODES
    randomness = [scalar * NUM_NODES % ORDER for scalar in committed.randomness]
    timed("sum", lambda: binding.check_sum(commitments, values * NUM_NODES, randomness, claim))
    return seconds


def refusals(dimension: int, projections: int) -> dict[str, bool]:
    """Return, for the honest proof and each attempt to cheat, whether the right thing happens."""
    claim = claim_for(BOUND, QUANTISER, dimension, projections=projections)
    about, seed = statement(claim), secrets.token_bytes(32)
    committed = commit(integers(dimension), about)
    proof = prove(committed, seed)
    point = committed.commitment
    response = ((proof.row_response[0] + 1) % ORDER, *proof.row_response[1:])
    tampered = replace(proof, row_response=response)
    other = commit(integers(dimension), about).commitment
    large = commit(integers(dimension, scale=3.0), about)
    forged = _unchecked(large, seed)
    second = commit(integers(dimension, 2), statement(claim, 2))
    total = centred_sum(words(dimension) + words(dimension, 2), 2, QUANTISER)
    off = total.copy()
    off[dimension // 2] += 1
    randomness = binding.randomness_in(
        binding.words_of(committed.randomness) + binding.words_of(second.randomness), claim
    )
    both = [point, second.commitment]
    return {
        "honest proof": not _is_refused(lambda: verify(point, seed, proof, about)),
        "tampered response": _is_refused(lambda: verify(point, seed, tampered, about)),
        "other commitment": _is_refused(lambda: verify(other, seed, proof, about)),
        "three times the bound": _is_refused(lambda: verify(large.commitment, seed, forged, about)),
        "replayed for another node": _is_refused(
            lambda: verify(point, seed, proof, statement(claim, 2))
        ),
        "true sum": not _is_refused(lambda: binding.check_sum(both, total, randomness, claim)),
        "sum off by one": _is_refused(lambda: binding.check_sum(both, off, randomness, claim)),
    }


def _unchecked(committed: Committed, seed: bytes) -> Proof:
    """Return what the prover's own code makes when nothing stops it at the limit."""
    claim = committed.statement.claim
    mask = [random_scalar() for _ in range(claim.width)]
    parts = prover.projected_parts(committed, mask, seed)
    rest = claim.limit - sum(value**2 for value in prover.projections_in(parts))
    return prover.proof_of(committed, seed, mask, parts, rest)


def _is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except MessageError:
        return True
    return False


def figures(*, quick: bool) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Return the figures and the raw rows."""
    sizes = (
        [(10_000, 128), (10_000, 256)]
        if quick
        else [(10_000, 256), (100_000, 128), (100_000, 256), (100_000, 512), (1_000_000, 256)]
    )
    repetitions = 2 if quick else 5
    found: list[Figure] = []
    rows: list[dict[str, Any]] = []
    for dimension, projections in sizes:
        result = measured_apart(SCRIPT, "proof.measured", dimension, projections, repetitions)
        turns = result.pop("turns")
        rows += [{"dimension": dimension, "k": projections, **turn} for turn in turns]
        rows.append({"dimension": dimension, "k": projections, **result})
        found += _figures(dimension, projections, turns, result)
    of = (10_000 if quick else 100_000, 256)
    outcome = measured_apart(SCRIPT, "proof.refusals", *of)
    rows.append({"dimension": of[0], "k": of[1], **outcome})
    for name, is_right in outcome.items():
        verdict = "accepted" if name in ("honest proof", "true sum") else "refused"
        found.append(Figure.of(f"{name} {verdict}", [float(is_right)], "", at_least=1))
    return found, rows


def _figures(
    dimension: int, projections: int, turns: list[dict[str, float]], result: dict[str, Any]
) -> list[Figure]:
    of = f"{dimension // 1000}k parameters, k = {projections}"
    is_barred = dimension == BAR_DIMENSION and projections in BAR_PROJECTIONS
    prove_bar = {"at_most": MAX_PROVE_S} if is_barred else {}
    verify_bar = {"at_most": MAX_VERIFY_S} if is_barred else {}
    both = [turn["commit"] + turn["prove"] for turn in turns]
    claim = claim_for(BOUND, QUANTISER, dimension, projections=projections)
    travelling = result["commitment_bytes"] + result["proof_bytes"] + 4 * result["randomness_words"]
    return [
        Figure.of(f"commit and prove, {of}", both, "s", **prove_bar),
        Figure.of("  of it committing", [turn["commit"] for turn in turns], "s"),
        Figure.of("  read and verify", [turn["verify"] for turn in turns], "s", **verify_bar),
        Figure.of(f"  check the sum of {NUM_NODES}", [turn["sum"] for turn in turns], "s"),
        Figure.of("  generators, once per process", [result["generators"]], "s"),
        Figure.of("  sent per parameter", [travelling / dimension], "B"),
        Figure.of("  memory of proving", [result["prove_mib"]], "MiB"),
        Figure.of("  slack at 2^-40, approximate", [slack.slack(claim, is_rigorous=False)], "x"),
    ]


MEASUREMENTS: Final[dict[str, Callable[..., Any]]] = {
    "measured": measured,
    "refusals": refusals,
}
NOTES: Final = (
    "CPU time of one thread. k: random projections. Slack: ratio of a norm to the bound from which "
    "it passes with a probability of at most 2^-40, by a chi-square approximation; "
    "docs/norm-proof.md has the rigorous bound. Experimental, unaudited.",
)
