"""What to say about nodes and votes as a run goes on: each thing once, in one short line."""

from __future__ import annotations

from collections.abc import Iterable

from daafl.observability.events import StepRecord, Vote
from daafl.observability.units import number, plural

_MANY = 6  # nodes that are named in a line


class Remarks:
    """Remembers what was said already.

    Attributes
    ----------
    suspects
        Nodes that were suspected in any step so far, in the order of their first time.
    """

    def __init__(self) -> None:
        self.suspects: list[int] = []
        self._quarantined: frozenset[int] = frozenset()

    def of(self, record: StepRecord) -> list[str]:
        """Return what is new in a step."""
        new = {
            flag.node: flag
            for flag in record.flags
            if flag.is_suspect and flag.node not in self.suspects
        }
        self.suspects += new
        lines = [f"suspects {node_text(node)}: {flag.sentence}" for node, flag in new.items()]
        if record.vote is not None and record.vote.outcome == "rejected":
            lines.append(vote_text(record.vote))
        if record.kind == "train":
            lines += self._moves(frozenset(record.quarantined))
        return lines

    def _moves(self, now: frozenset[int]) -> list[str]:
        """Return who went into quarantine and who came out of it."""
        came, left = now - self._quarantined, self._quarantined - now
        self._quarantined = now
        lines = [f"quarantine: no work for {nodes_text(came)}"] if came else []
        return [*lines, *([f"quarantine ends for {nodes_text(left)}"] if left else [])]


def vote_text(vote: Vote) -> str:
    """Return a committee's verdict in words."""
    voted = vote.in_favour + vote.against
    votes = f"{vote.in_favour} of {plural(voted, 'vote')} in favour"
    if vote.outcome == "rejected":
        return f"a committee rejected version {vote.version}: {votes}, {_needed(vote)}"
    if vote.outcome == "adopted":
        return f"a committee adopted version {vote.version}: {votes}"
    return f"too few of {vote.seated} nodes voted on version {vote.version}: {votes}"


def node_text(node: int) -> str:
    """Return a node by its number; the identity of a real one is long and is cut."""
    text = str(node)
    return f"node {text}" if len(text) <= _MANY else f"node …{text[-4:]}"


def nodes_text(nodes: Iterable[int]) -> str:
    """Return nodes by their numbers, the first few if there are many.

    Examples
    --------
    >>> nodes_text([3]), nodes_text([5, 2]), nodes_text(range(9))
    ('node 3', 'nodes 2, 5', 'nodes 0, 1, 2, 3, 4, 5 and 3 more')
    """
    ordered = sorted(nodes)
    names = [node_text(node).removeprefix("node ") for node in ordered[:_MANY]]
    left = len(ordered) - len(names)
    noun = "node" if len(ordered) == 1 else "nodes"
    return f"{noun} {', '.join(names)}" + (f" and {left} more" if left else "")


def _needed(vote: Vote) -> str:
    return f"{number(100 * vote.threshold)} % needed"
