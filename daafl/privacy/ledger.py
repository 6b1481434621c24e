"""The write-ahead ledger of spent privacy: debited before training, never given back.

One line of JSON per debit, appended and on the disk before what it pays for may start, so a process
that is killed at any instant has at most paid for something it did not do. Each line carries a
checksum over itself and the line before (a chain), by which a line that was changed, taken out, put
in or moved is found. A line that a kill left unfinished has paid for nothing and is cut off when
the ledger is opened next. Whatever else does not fit is refused: a ledger is not repaired by
guessing. The chain finds damage, not fraud: who may write to the folder can make up a new one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daafl.errors import ConfigError, StoreError
from daafl.privacy.accountant import merged
from daafl.privacy.release import Release
from daafl.store.atomic import sync_folder
from daafl.store.folder_lock import FolderLock
from daafl.store.lines import append_line, synced_size, truncate_lines

FILE: Final = "ledger.jsonl"
HEAD: Final = "ledger.head"  # how long the ledger was when it was last written
FORMAT: Final = 1
MAX_NAME_LENGTH: Final = 200
MAX_LINE_BYTES: Final = 4096

_START: Final = f"daafl privacy ledger {FORMAT}"


@dataclass(frozen=True)
class Debit:
    """One expense of an account.

    Attributes
    ----------
    account
        Whose privacy is spent.
    key
        What for, such as branch, version and purpose; the same again is another expense unless the
        noise is the same, too.
    release
        How much.

    Raises
    ------
    ConfigError
        If a name is empty or longer than 200 characters.
    """

    account: str
    key: str
    release: Release

    def __post_init__(self) -> None:
        """Check the names, since a line must stay short."""
        for what, name in (("account", self.account), ("key", self.key)):
            if not 0 < len(name) <= MAX_NAME_LENGTH:
                raise ConfigError(
                    f"the {what} of a debit has {len(name)} characters; it must have 1 to "
                    f"{MAX_NAME_LENGTH}"
                )


class Ledger:
    """What all accounts of a run or a node have spent; one process at a time has it open.

    Parameters
    ----------
    folder
        A folder for the ledger alone, outside checkpoints; made if it is missing.
    must_exist
        Whether something was spent before, such as by a run that is resumed, so that a missing
        ledger is a lost one.

    Raises
    ------
    StoreError
        If the ledger is damaged or missing, or cannot be read or written.
    ConfigError
        If another process has it open.
    """

    def __init__(self, folder: Path, *, must_exist: bool = False) -> None:
        self.path = folder / FILE
        if must_exist and not self.path.exists():
            raise _damaged(self.path, "it is missing")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
            self.path.touch()
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot hold a privacy ledger ({error.strerror or error}); check its "
                "permissions and the space on its disk"
            ) from error
        self._is_broken = False
        self._spent: dict[str, tuple[Release, ...]] = {}
        self._known: set[Debit] = set()
        self._chain = _START
        self._size = 0
        self._num_lines = 0
        noted, chain = self._noted()
        for line in self._whole_lines():
            debit, self._chain = _parsed(line, self._chain, self.path)
            self._num_lines += 1
            self._take(debit)
            if self._num_lines == noted and self._chain != chain:
                raise _damaged(self.path, "it is another one than was written here")
        if self._num_lines < noted:
            raise _damaged(self.path, f"{noted - self._num_lines} debits are missing at its end")

    def spent(self, account: str) -> tuple[Release, ...]:
        """Return what an account has released, equal mechanisms merged into one."""
        return self._spent.get(account, ())

    def has(self, debit: Debit) -> bool:
        """Return whether this very expense was debited before."""
        return debit in self._known

    @property
    def accounts(self) -> tuple[str, ...]:
        """Accounts that have spent something, in the order of their first debits."""
        return tuple(self._spent)

    def write(self, debits: Sequence[Debit]) -> None:
        """Debit; when this returns, all are on the disk, with one sync for them together.

        A first part of them may be debited when the process is killed meanwhile.

        Raises
        ------
        StoreError
            If a line cannot be written or is not on the disk for sure. The ledger takes no further
            debits then; those of this call may count when it is opened again.
        """
        if self._is_broken:
            raise StoreError(f"{self.path} failed before and takes no debit; open it again")
        if not debits:
            return
        lines = []
        chain = self._chain
        for debit in debits:
            line, chain = _written(debit, chain)
            lines.append(line)
        self._is_broken = True
        if synced_size(self.path) != self._size:
            raise StoreError(
                f"{self.path} was changed by something else while it was open; nothing was debited"
            )
        append_line(self.path, "\n".join(lines))
        self._size += sum(len(line.encode()) + 1 for line in lines)
        if synced_size(self.path) != self._size:
            raise StoreError(f"{self.path} has another size than what was written to it")
        self._is_broken = False
        self._chain = chain
        self._num_lines += len(debits)
        self._note()
        for debit in debits:
            self._take(debit)

    def _noted(self) -> tuple[int, str]:
        """Return how many lines there were when the last one was written, and their checksum."""
        try:
            text = self.path.with_name(HEAD).read_text(encoding="ascii")
            if not text:  # lost with the power, as nobody waits for it to be on the disk
                return 0, _START
            count, chain = text.split()
            return int(count), chain
        except FileNotFoundError:
            return 0, _START
        except (OSError, ValueError):
            raise _damaged(self.path, f"{HEAD} beside it cannot be read") from None

    def _note(self) -> None:
        """Take down the number of lines, so that it shows when some at the end are lost."""
        head, new = self.path.with_name(HEAD), self.path.with_name(f"{HEAD}.new")
        try:
            new.write_text(f"{self._num_lines} {self._chain}\n", encoding="ascii")
            new.replace(head)
        except OSError as error:
            raise StoreError(f"{head} cannot be written: {error.strerror or error}") from error

    def _take(self, debit: Debit) -> None:
        before = self._spent.get(debit.account, ())
        self._spent[debit.account] = merged((*before, debit.release))
        self._known.add(debit)

    def _whole_lines(self) -> Iterable[bytes]:
        """Cut off an unfinished line, and return the others."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from error
        self._size = data.rfind(b"\n") + 1
        if self._size < len(data):
            if len(data) - self._size > MAX_LINE_BYTES:
                raise _damaged(self.path, "its last line is longer than any debit")
            truncate_lines(self.path, self._size)
        return data[: self._size].splitlines()


def _written(debit: Debit, chain: str) -> tuple[str, str]:
    """Return the line of a debit and its checksum."""
    release = debit.release
    fields = [
        debit.account,
        debit.key,
        float(release.noise_multiplier),
        release.steps,
        float(release.rate),
        release.sampling,
    ]
    checksum = _checksum(fields, chain)
    return json.dumps([*fields, checksum], allow_nan=False, separators=(",", ":")), checksum


def _parsed(line: bytes, chain: str, path: Path) -> tuple[Debit, str]:
    """Return the debit of a line and its checksum, which must follow ``chain``."""
    try:
        value = json.loads(line) if len(line) <= MAX_LINE_BYTES else None
    except (ValueError, RecursionError):
        value = None
    match value:
        case [
            str(account),
            str(key),
            float(noise),
            int(steps),
            float(rate),
            ("poisson" | "fixed_size" | "shuffled" | "all") as sampling,
            str(checksum),
        ] if type(steps) is int:
            pass
        case _:
            raise _damaged(path, "a line is no debit")
    if checksum != _checksum(value[:-1], chain):
        raise _damaged(path, "a line does not follow the line before it")
    try:
        return Debit(account, key, Release(noise, steps, rate, sampling)), checksum
    except ConfigError as error:
        raise _damaged(path, str(error)) from error


def _checksum(fields: Sequence[object], chain: str) -> str:
    text = json.dumps([chain, *fields], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"the privacy ledger {path} is damaged ({what}), so what has been spent is not known; "
        "restore it from a backup that is not older than the last training, or start with new data "
        "and a new ledger"
    )
