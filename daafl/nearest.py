"""The name a user probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LISTED = 24


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of an error sentence: the nearest known name, or all there are.

    Examples
    --------
    >>> suggestion("digit", ["digits", "wine"])
    'did you mean digits?'
    >>> suggestion("cifar", ["digits", "wine"])
    'choose among digits, wine'
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    if not names:
        return "it takes none"
    listed = ", ".join(names[:MAX_LISTED])
    return f"choose among {listed}" + (" ..." if len(names) > MAX_LISTED else "")
