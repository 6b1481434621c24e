"""Restore points of a run on disk: written whole or not at all, verified when read.

::

    checkpoints/00000012.checkpoint   the manifest of the state after step 12
                00000011.checkpoint   the one before it, or the one before that
                blobs/3fa9...         their arrays, named by SHA-256 and shared

A write adds arrays first, then puts the manifest in its place, then removes what neither of the
two checkpoints needs. Each stage is on the disk before the next begins, so whenever the process or
the machine stops, the newest manifest is complete. Two checkpoints are kept, because a disk can
damage what was written well. An array that both hold is stored once, and its damage is theirs.
Of the two before a new one, the one that shares more with it is kept, but no checkpoint survives
three writes: a run that keeps some models for long need not store those in between as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daafl.errors import StoreError
from daafl.store.atomic import place_file, sync_folder
from daafl.store.blobs import Blobs
from daafl.store.manifest import MAX_MANIFEST_BYTES, Manifest, encoded, parsed
from daafl.store.tree import Tree

BLOBS: Final = "blobs"

_NAME: Final = re.compile(r"(\d{8,18})\.checkpoint")
_LEFTOVER: Final = re.compile(r"\.\d{8,18}\.checkpoint\..*")
_MAX_TRIES: Final = 20
"""Times that reading starts again because checkpoints were written meanwhile."""


@dataclass(frozen=True)
class Checkpoint:
    """A state that was read back.

    Parameters
    ----------
    step
        The step that it follows.
    state
        What was written; its arrays are new.
    notes
        Sentences about newer checkpoints that are damaged, for people.
    """

    step: int
    state: Tree
    notes: tuple[str, ...] = ()


class Checkpoints:
    """The restore points of one run, of which two are kept: the newest, and an earlier one.

    One process writes; any number may read meanwhile.

    Parameters
    ----------
    folder
        Where they are; made when first written to.

    Examples
    --------
    >>> import tempfile
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()))
    >>> checkpoints.write(12, {"version": 12, "rates": (0.1, 0.2)})
    >>> checkpoints.latest()
    Checkpoint(step=12, state={'version': 12, 'rates': (0.1, 0.2)}, notes=())
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = Blobs(folder / BLOBS)
        self._held: dict[int, frozenset[str]] = {}  # checkpoints known to be good: their blobs
        self._last: int | None = None  # the one that the run goes on from
        self._has_skipped = False  # whether the last one was written beside one that is older

    def write(self, step: int, state: Tree) -> None:
        """Make ``state`` the newest checkpoint; it is on the disk when this returns.

        Checkpoints after ``step`` are removed: the run has gone back, and they are not its own.

        Raises
        ------
        StoreError
            If it cannot be written, with the file and the reason; the last one is as it was.
        TypeError
            If the state holds anything that is not plain data.
        """
        content = encoded(step, state)
        kept = self._before(step, frozenset(content.blobs))
        path = self._path(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._blobs.add(content.blobs)
            place_file(path, content.manifest)
            sync_folder(self.folder)
        except OSError as error:
            self._clean_up()
            raise StoreError(
                f"checkpoint {step} cannot be written to {error.filename or path} "
                f"({error.strerror or error}); the one before it is intact: make space or give "
                "permission, then resume the run"
            ) from error
        self._held = {**kept, step: frozenset(content.blobs)}
        self._last = step
        self._remove_all_but(self._held)

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is undamaged; ``None`` if none was ever written.

        Raises
        ------
        StoreError
            If all are damaged; says what is wrong with each.
        """
        for _ in range(_MAX_TRIES):
            steps = self._steps()
            found, faults = self._newest_of(steps)
            if found is not None:
                return found
            if steps == self._steps():  # else somebody wrote, and removed what was being read
                break
        if not steps:
            return None
        raise StoreError(
            f"no checkpoint in {self.folder} can be used: {'; '.join(faults)}; "
            "start the run anew, or restore the folder from a backup"
        )

    def clear(self) -> None:
        """Remove all checkpoints, because the run is complete and nobody will go on with it.

        What cannot be removed stays; it takes up space and nothing else.
        """
        self._held, self._last = {}, None
        self._remove_all_but({})

    def _newest_of(self, steps: list[int]) -> tuple[Checkpoint | None, list[str]]:
        """Return the first checkpoint that can be read, and what is wrong with those before."""
        faults: list[str] = []
        for step in steps:
            try:
                manifest = self._manifest(step)
                state = manifest.state(self._blobs.read)
            except StoreError as error:
                faults.append(f"checkpoint {step} is damaged ({error})")
                continue
            self._held = {step: frozenset(manifest.blobs)}
            self._last = step
            notes = tuple(f"{fault}; used {step}" for fault in faults)
            return Checkpoint(step, state, notes), faults
        return None, faults

    def _before(self, step: int, names: frozenset[str]) -> dict[int, frozenset[str]]:
        """Return the checkpoint to keep beside a new one, with the names of its arrays.

        Parameters
        ----------
        step, names
            The new one, and the names of its arrays.
        """
        last = self._last
        if last is not None and last < step:
            kept = {last: self._held[last]}
            older = {other: held for other, held in self._held.items() if other < last}
            sizes = [
                sum(self._blobs.num_bytes(held - names) for held in choice.values())
                for choice in (kept, older)
            ]
            self._has_skipped = bool(older) and not self._has_skipped and sizes[1] < sizes[0]
            return older if self._has_skipped else kept
        for earlier in (other for other in self._steps() if other < step):
            with suppress(StoreError):
                return {earlier: self._names(earlier)}
        return {}

    def _clean_up(self) -> None:
        """Remove what a write that failed has left; every manifest keeps all that it refers to."""
        with suppress(StoreError, OSError):
            steps = self._steps()
            self._blobs.remove_all_but(frozenset().union(*map(self._names, steps)))

    def _remove_all_but(self, held: Mapping[int, frozenset[str]]) -> None:
        """Remove all other checkpoints, their arrays and what killed writes have left.

        What cannot be removed stays until the next time: it is in nobody's way.
        """
        names = {self._path(step).name for step in held}
        with suppress(OSError):
            for file in os.listdir(self.folder):
                if file not in names and (_NAME.fullmatch(file) or _LEFTOVER.fullmatch(file)):
                    with suppress(OSError):
                        os.unlink(self.folder / file)
            self._blobs.remove_all_but(frozenset().union(*held.values()))

    def _names(self, step: int) -> frozenset[str]:
        """Return the names of a checkpoint's arrays."""
        if step in self._held:
            return self._held[step]
        return frozenset(self._manifest(step).blobs)

    def _manifest(self, step: int) -> Manifest:
        path = self._path(step)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise StoreError(f"{path.name}: {error.strerror or error}") from error
        manifest = parsed(data)
        if manifest.step != step:
            raise StoreError(f"{path.name} is the checkpoint of step {manifest.step}")
        return manifest

    def _steps(self) -> list[int]:
        """Return the steps that there are checkpoints of, newest first."""
        try:
            files = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be read ({error.strerror}); check its permissions"
            ) from error
        found = (_NAME.fullmatch(file) for file in files)
        return sorted((int(match[1]) for match in found if match is not None), reverse=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:08d}.checkpoint"
