"""Everything daafl raises on purpose.

::

    DaaflError
    ├── ConfigError        a setting, key or file given by the user is wrong (exit 2)
    ├── DataError          examples or a partition cannot be used as asked
    ├── MessageError       a message from the network breaks the protocol
    ├── PlanError          a change does not fit the plan it is applied to
    ├── CodecError         a value does not fit its JSON, or the JSON its type
    ├── JournalError       a journal is damaged or does not replay
    ├── StoreError         a run folder, checkpoint or node store cannot be read or written
    ├── BudgetError        a release would cost more privacy than is left
    └── FederationError    the run cannot go on (too few nodes, nobody answers)
        └── WorkerError    a worker process of the simulation cannot be used

Every message names what is wrong, where, the rule it breaks and what to do about it.
"""


class DaaflError(Exception):
    """Base of all errors that daafl raises on purpose."""


class ConfigError(DaaflError):
    """A setting given by the user is wrong; the command line exits with 2."""


class DataError(DaaflError):
    """Examples, a data set or a partition cannot be used as asked."""


class MessageError(DaaflError):
    """A message breaks the protocol and is not used.

    Parameters
    ----------
    reason
        Short name of the broken rule in snake_case, counted per run (``shape``, ``dtype`` ...).
    detail
        One sentence for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PlanError(DaaflError):
    """A change names an unknown knob or an old value that no longer holds."""


class CodecError(DaaflError):
    """A value cannot be written as JSON, or JSON does not describe the expected value."""


class JournalError(DaaflError):
    """A journal is damaged or does not replay to the same decisions."""


class StoreError(DaaflError):
    """Something on disk cannot be read or written."""


class BudgetError(DaaflError):
    """A release costs more privacy than an account has left; nothing was debited."""


class FederationError(DaaflError):
    """The run cannot go on."""


class WorkerError(FederationError):
    """A worker process of the simulation cannot be started or used."""
