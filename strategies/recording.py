"""What a run writes for later: its journal, and what it teaches later runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from daafl import __version__
from daafl.autonomy.beliefs import Beliefs
from daafl.autonomy.codec import JSON, encode
from daafl.autonomy.journal import Journal, read_header
from daafl.autonomy.knowledge import Knowledge
from daafl.errors import ConfigError
from daafl.secure.audit import Head
from daafl.secure.trail import Trail
from daafl.store.unbroken import unbroken
from daafl.strategies.design import Design
from daafl.strategies.learner import Learner


class Records:
    """The open journal and knowledge of a run; leaving its ``with`` block closes them.

    Parameters
    ----------
    journal, knowledge
        Their files; ``None`` for none.
    design
        What runs; the journal's header tells it apart from others.
    run
        Identity of the run: what was learned under it is not learned again.
    audit
        File of the audit log; ``None`` for none. It is never cut back.
    audit_head
        Where the log ended at the checkpoint that the run goes on from.
    keep_bytes
        Length to cut the journal back to, for a run that resumes; ``None`` begins a new one.

    Raises
    ------
    JournalError
        If there is a journal already, or it is shorter than that.
    ConfigError
        If the journal is that of another run.
    """

    def __init__(
        self,
        journal: Path | None,
        knowledge: Path | None,
        design: Design,
        *,
        run: str,
        keep_bytes: int | None = None,
        audit: Path | None = None,
        audit_head: Head | None = None,
    ) -> None:
        self.run = run
        self.beliefs: Beliefs = {}
        self.learners: tuple[Learner, ...] = ()
        self.journal_bytes: int | None = None
        self._journal: Journal | None = None
        self.trail: Trail | None = None
        with ExitStack() as stack:
            if knowledge is not None:
                known = stack.enter_context(Knowledge.open(knowledge))
                self.beliefs = known.snapshot()
                self.learners = (Learner(known, run),)
            if audit is not None:
                self.trail = stack.enter_context(Trail(audit, audit_head))
            if journal is not None:
                opened = self._opened(journal, design, keep_bytes)
                self._journal = stack.enter_context(opened)
                self.journal_bytes = journal.stat().st_size
            self._stack = stack.pop_all()

    def append(self, *records: Mapping[str, JSON], is_awaited: bool = True) -> None:
        """Write journal records; those that are awaited are on the disk when this returns."""
        if self._journal is not None:
            with unbroken():
                self.journal_bytes = self._journal.append(*records, is_awaited=is_awaited)

    def sync(self) -> None:
        """Wait until all records are on the disk."""
        if self.trail is not None:
            self.trail.sync()
        if self._journal is not None:
            self._journal.sync()

    def _opened(self, path: Path, design: Design, keep_bytes: int | None) -> Journal:
        header = {
            "seed": design.settings.seed,
            "config_hash": design.digest,
            "version": __version__,
        }
        if keep_bytes is None:
            return Journal.create(path, {**header, "beliefs": encode(self.beliefs)})
        found = read_header(path)
        for name, value in header.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"{path} is the journal of a run with {name} {found.get(name)}, not {value}; "
                    "resume with the release and the arguments that it was started with"
                )
        return Journal(path, keep_bytes=keep_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
