"""What a run's report says about whom its updates are protected from."""

from __future__ import annotations

from daafl.errors import ConfigError
from daafl.secure.graph import chosen
from daafl.secure.settings import EncryptedSums, MaskedSums, Security, SignedUpdates

_SIGNED = (
    "Every update is signed by its node with the key that the roster pins, over model, plan, round "
    "and content: nobody sends in another's name, twice or late. The coordinator sees each update."
)
_MASKED = (
    "Masked sums (SecAgg+): the coordinator sees the sum of a group's updates with its examples, "
    "mean loss and clip statistics, and no node's own."
)
_ENCRYPTED = (
    "Encrypted sums (BFV): the coordinator, which has no key, sees the decrypted sum of a group's "
    "updates with its examples, mean loss and clip statistics. This holds against a coordinator "
    "that is curious and works with no node: whoever holds the key reads every ciphertext that it "
    "gets hold of."
)
_NOT = (
    "Not protected: what the sums and the model themselves tell about data (that takes "
    "differential privacy), who takes part, how many examples each node says it holds, and the "
    "losses with which single nodes answer probes and votes."
)


def guarantees(settings: Security | None, *, cohort: int, num_values: int) -> tuple[str, ...]:
    """Return in sentences who is protected from whom, under which assumption, and what is not.

    Parameters
    ----------
    settings
        How updates travel; ``None`` for in the clear.
    cohort
        Nodes of a step.
    num_values
        Values of an update.
    """
    match settings:
        case None:
            return ()
        case SignedUpdates():
            return (_SIGNED,)
        case MaskedSums():
            return (
                f"{_MASKED} {_assumption(settings, cohort)}",
                *_norm(settings, num_values),
                _NOT,
            )
        case EncryptedSums():
            return (_ENCRYPTED, _NOT)


def _assumption(settings: MaskedSums, cohort: int) -> str:
    try:
        degree = chosen(min(settings.group_size or cohort, cohort), settings.policy)
    except ConfigError:  # a smaller federation than a step asks for; the sums say so themselves
        return ""
    return degree.statement(settings.policy)


def _norm(settings: MaskedSums, num_values: int) -> tuple[str, ...]:
    if settings.norm_bound is None:
        return ()
    from daafl.secure.norm_bound import NormBound  # proofs are for those who ask for them
    from daafl.secure.proof.slack import sentence

    text = sentence(NormBound(settings, num_values).claim, settings.quantiser(1).step)
    if settings.norm_checked < 1:
        text += f" Of the proofs, {settings.norm_checked:.0%} are verified, drawn in secret."
    return (text,)
