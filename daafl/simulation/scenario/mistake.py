"""What is wrong with a scenario, and where in it."""

from __future__ import annotations

from daafl.errors import ConfigError


class Mistake(ConfigError):
    """A scenario cannot be played; whoever read it from a file adds the line.

    Parameters
    ----------
    text
        One sentence: the key, its value and the rule.
    key
        The key that it is about; ``None`` for none in particular.
    event
        Index of the event in the list; ``None`` outside the list.
    """

    def __init__(self, text: str, *, key: str | None = None, event: int | None = None) -> None:
        place = "" if event is None else f"events[{event}]" + ("." if key else ": ")
        super().__init__(f"{place}{text}")
        self.text = text
        self.key = key
        self.event = event

    def of(self, event: int) -> Mistake:
        """Return the same mistake as one of an event of the list."""
        return Mistake(self.text, key=self.key, event=event)
