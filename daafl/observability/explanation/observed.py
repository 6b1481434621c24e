"""What loops observe, in words: the meaning and the unit of every fact of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from daafl.observability.units import duration, number, plural, size

_MANY: Final = 8  # values of a list that are spelled out


@dataclass(frozen=True)
class Reading:
    """One field of an observation.

    Parameters
    ----------
    name
        Of the field.
    value
        As recorded, JSON.
    meaning, text
        What it is, and its value with its unit.
    """

    name: str
    value: object
    meaning: str
    text: str


MEANINGS: Final[Mapping[str, str]] = {
    "step": "step that was looked at",
    "version": "model version after it",
    "lr": "learning rate of the step",
    "loss": "median of the losses nodes report for the model they received",
    "trimmed_loss": "mean of those losses without the extreme fifths",
    "first_loss": "first finite loss of the run",
    "loss_version": "oldest model version those losses are about",
    "loss_mad": "spread of those losses, as a standard deviation",
    "evaluation_loss": "loss of the evaluated model",
    "accuracy": "accuracy of the evaluated model",
    "cosine": "cosine between this mean update and the last",
    "update_norm": "length of the mean update",
    "mean_client_norm": "mean length of the single updates",
    "pace": "updates combined over assignments out",
    "num_updates": "updates combined",
    "num_rejected": "updates refused",
    "num_failures": "messages that failed",
    "num_examples": "examples behind the combined updates",
    "staleness": "versions the oldest combined update was behind",
    "nonfinite_fraction": "share of replies with NaN or infinity",
    "round_seconds": "duration of the step",
    "restored": "whether the model had gone back before the step",
    "probe_rates": "learning rates tried on throw-away copies",
    "probe_log_losses": "log loss for each of them, median over nodes",
    "num_nodes": "members of the branch",
    "bytes_up": "payload from nodes",
    "bytes_down": "payload to nodes",
    "num_screened": "updates that screening looked at",
    "num_flagged": "updates that it left out",
    "flagged_nodes": "senders of those",
    "suspects": "nodes whose record speaks against them",
    "num_known": "nodes of which there is a record",
    "trusted_scores": "scores of updates from nodes in good standing",
    "num_trusted_flagged": "updates of such nodes that were left out",
    "num_groups": "sums of groups that screening looked at in place of updates",
    "clip_bound": "longest update that nodes were told to send, 0 for any",
    "within_clip": "share of the nodes whose update was within it",
    "member_norm": "about how long one node's update is, told from sums",
    "vote_outcome": "what a committee decided about the model",
    "vote_share": "share of the committee in favour",
    "troubled_nodes": "nodes put into quarantine in this step",
    "troubles": "last fault of each of them",
    "num_quarantined": "nodes without assignment because of it",
}
"""Meaning of a fact by its name."""

_COUNTED: Final[Mapping[str, str]] = {
    "num_updates": "update",
    "num_rejected": "update",
    "num_failures": "message",
    "num_examples": "example",
    "staleness": "version",
    "num_nodes": "node",
    "num_screened": "update",
    "num_flagged": "update",
    "num_known": "node",
    "num_trusted_flagged": "update",
    "num_groups": "sum",
    "num_quarantined": "node",
}
_BYTES: Final = frozenset({"bytes_up", "bytes_down"})
_PERCENT: Final = frozenset({"nonfinite_fraction", "vote_share", "pace", "within_clip"})
_IDENTITIES: Final = frozenset({"step", "version", "loss_version"})
_IDENTITY_LISTS: Final = frozenset({"flagged_nodes", "suspects", "troubled_nodes"})


def readings(observation: object) -> tuple[Reading, ...]:
    """Return the fields of an observation in the order recorded; none if it was refused."""
    if not isinstance(observation, Mapping):
        return ()
    return tuple(
        Reading(
            str(name), value, MEANINGS.get(name, str(name).replace("_", " ")), _text(name, value)
        )
        for name, value in observation.items()
    )


def _text(name: str, value: object) -> str:
    """Return a value with its unit.

    Examples
    --------
    >>> _text("bytes_up", 20480), _text("num_updates", 1), _text("pace", 0.5), _text("loss", None)
    ('20.5 kB', '1 update', '50 %', 'not known')
    """
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number_text(name, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        plain = name in _IDENTITY_LISTS
        shown = [f"{v}" if plain else _text(name, v) for v in value[:_MANY]]
        left = len(value) - len(shown)
        return ", ".join([*shown, *([f"and {left} more"] if left else [])]) or "none"
    return str(value) or "none"


def _number_text(name: str, value: float) -> str:
    if name in _IDENTITIES:
        return f"{value:g}"
    if name in _COUNTED:
        return plural(round(value), _COUNTED[name])
    if name in _BYTES:
        return size(value)
    if name in _PERCENT:
        return f"{number(100 * value)} %"
    if name.endswith(("_seconds", "_s")):
        return duration(value)
    return number(value, 4)
