"""How a cohort's training is computed, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from daafl.errors import DataError

Method = Literal["dense", "functional", "eager"]


@dataclass(frozen=True)
class Choice:
    """How the members of a cohort are trained.

    Attributes
    ----------
    method
        ``dense``, ``functional``, or ``eager``: one member after the other.
    reason
        Why, in words.
    seconds
        Measured time of one member's training, by method.

    Examples
    --------
    >>> choice = Choice("eager", "it has dropout", {"eager": 0.002})
    >>> Choice.from_json(choice.to_json()) == choice
    True
    """

    method: Method
    reason: str
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the choice as JSON values."""
        return {"method": self.method, "reason": self.reason, "seconds": dict(self.seconds)}

    @classmethod
    def from_json(cls, value: object) -> Choice:
        """Return the choice that `to_json` wrote.

        Raises
        ------
        DataError
            If the value is anything else.
        """
        match value:
            case {"method": str(method), "reason": str(reason), "seconds": dict(seconds)} if (
                method in get_args(Method)
                and all(type(name) is str and type(s) is float for name, s in seconds.items())
            ):
                return cls(_METHODS[method], reason, seconds)
        raise DataError(
            "a choice of training method must have a method (dense, functional or eager), a reason "
            "and the seconds by method"
        )


_METHODS: Final[dict[str, Method]] = {method: method for method in get_args(Method)}
