"""What a look at an inbox comes to: drops that may be taken in, and files that wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dna_pipeline.base.errors import JobError


@dataclass(frozen=True, slots=True)
class References:
    """The images of the inbox that a job file or a table names.

    Attributes:
        paths: each by itself; patterns: globs. Both are relative to the inbox.
        patient: wait long for a path that is not there, as a job file does and a table does not.
    """

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    waits_long: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A YAML or a table whose bytes cannot be had yet, as while a program holds it; and why.

    Attributes:
        wait_s: how long to wait for them; None for as long as for a missing image.
        then: what is wrong with it once that was in vain; None if only that it cannot be read.
    """

    why: str
    wait_s: float | None = None
    final_error: JobError | None = None


Reference = str | References | JobError | Unreadable | None
"""The `image:` of a YAML, as written, or what its `images:` or a table names; None where it is a
plain sidecar. A `JobError` where it is wrong; `PathEscapesInbox` or `ParameterInvalid` where it
names what it may not."""

ReadReference = Callable[[str], Reference]
"""What the settled YAML or table at that path tells."""

WaitKind = Literal["writing", "partner", "sidecar", "image", "unread", "pass"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drop to take in. With an `error` it is taken in all the same, to fail and say why.

    Attributes:
        image: its path; None where the YAML waited in vain or names what it may not, or where there
            are several.
        sidecar: the YAML's path. Several candidates have the same one if it is ambiguous, and a
            job file's image is in several if the inbox keeps its originals; else no file is in two.
        table: its path, where the drop is one; `sidecar` is what tells all its rows then.
        images: those that a job file with `images:` or a table names, as far as they are there.
        is_batch: it is such a job file or a table.
        taken: images that it names and does not get, each with the file that takes it.
    """

    image: str | None
    sidecar: str | None
    error: JobError | None = None
    table: str | None = None
    images: tuple[str, ...] = ()
    is_batch: bool = False
    claimed_by_others: tuple[tuple[str, str], ...] = ()

    @property
    def paths(self) -> list[str]:
        """All its files, what tells before what is told."""
        several = (self.table, self.sidecar, self.image, *self.images)
        return [path for path in several if path is not None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is not taken in yet.

    Attributes:
        reason: for people.
        until: monotonic time at which this ends unless something changes; None if unknown.
        long: more than a one-shot `run` should sit out.
        kind: `writing`: has not settled; `partner`: another file of the same drop has not;
            `sidecar`: an image that may get one; `image`: a YAML whose image is not there;
            `unread`: a YAML or a table that cannot be read; `pass`: an image that looks like a
            render pass, which is not taken in by itself.
    """

    path: str
    reason: str
    until: float | None
    is_long: bool
    kind: WaitKind


@dataclass(frozen=True, slots=True)
class Pairing:
    """What one look at the inbox comes to; `ready` in the order of arrival.

    Attributes:
        named: where job files say their images are; give it to the next `scan`.
    """

    ready: list[Candidate]
    waiting: list[Waiting]
    referenced: frozenset[str]

    @property
    def next_at(self) -> float | None:
        """When to pair again even if nothing changes."""
        return min((w.until for w in self.waiting if w.until is not None), default=None)
