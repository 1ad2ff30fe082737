"""Types of the pairing: candidates that may be claimed, and files that wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from dna_pipeline.base.errors import JobError
from dna_pipeline.config.row_numbers import ALL_ROWS, RowNumbers


@dataclass(frozen=True, slots=True)
class References:
    """The images of the inbox that a job file or a table names.

    Attributes:
        paths: images by their paths, relative to the inbox.
        patterns: globs of images, relative to the inbox.
        waits_long: True for a job file, which waits an hour for a path that is not there; a table
            does not.
    """

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    waits_long: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A YAML or a table that cannot be read yet, for example while a program keeps it locked.

    Attributes:
        why: the reason, for people.
        wait_s: how long to wait until it can be read; None for as long as for a missing image.
        final_error: its error after that wait; None if the only fault is that it cannot be read.
    """

    why: str
    wait_s: float | None = None
    final_error: JobError | None = None


Reference = str | References | JobError | Unreadable | None
"""The images that a YAML or a table names: the `image:` of a YAML as written; the `References` of
its `images:` or of a table; None for a plain sidecar. A `JobError` if the file is wrong:
`PathEscapesInbox` or `ParameterInvalid` if it names images that it must not name."""

ReadReference = Callable[[str], Reference]
"""Reads the settled YAML or table at a path of the inbox."""

ReadCompanions = Callable[[str], tuple[str, ...]]
"""Reads which companions the settled YAML or table at a path of the inbox names: their paths in the
inbox."""


def no_companions(_: str) -> tuple[str, ...]:
    """No companions, whatever the file."""
    return ()


WaitKind = Literal["writing", "partner", "sidecar", "image", "unread", "pass", "mask"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Files that belong together and may be claimed.

    A candidate with an `error` is claimed all the same, so that its job fails and says why.

    No file is in two candidates, with three exceptions: an ambiguous sidecar is in one candidate
    for each image that it fits, in an inbox that keeps its originals several job files may name
    the same image, and any number may name the same companion.

    Attributes:
        image: path of the image; None where the YAML waited for it in vain or must not name it, and
            for a batch.
        sidecar: path of the YAML.
        table: path of the table, if the candidate is one; `sidecar` then holds the settings that
            are common to its rows.
        images: the images of a batch that are there.
        is_batch: True for a table and for a job file with `images:`.
        claimed_by_others: images that a batch names and does not get, each with the name of the
            file that gets it.
        companions: further files of the image, such as a mask or a depth map: the role and the path
            of each. Of a batch, those of all its images.
        named: companions that its YAML or its table names by their paths; they stay in the inbox.
        rows: the rows of the table that are asked for.
    """

    image: str | None
    sidecar: str | None
    error: JobError | None = None
    table: str | None = None
    images: tuple[str, ...] = ()
    is_batch: bool = False
    claimed_by_others: tuple[tuple[str, str], ...] = ()
    companions: tuple[tuple[str, str], ...] = ()
    named: tuple[str, ...] = ()
    rows: RowNumbers = ALL_ROWS

    @property
    def paths(self) -> list[str]:
        """All files, each once: table and YAML first, then companions, then the images."""
        companions = [path for _, path in self.companions]
        several = (
            self.table, self.sidecar, *companions, *self.named, self.image, *self.images
        )  # fmt: skip
        return list(dict.fromkeys(filter(None, several)))


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is not claimed yet.

    Attributes:
        reason: for people.
        until: monotonic time at which the wait ends unless something changes; None if unknown.
        is_long: True if the wait is longer than a one-shot `run` should wait.
        kind: `writing`: has not settled; `partner`: another file of the same drop has not;
            `sidecar`: an image that may get one; `image`: a YAML whose image is not there;
            `unread`: a YAML or a table that cannot be read; `pass`: an image that looks like a
            render pass, which is claimed only if a file names it; `mask`: an image that may get a
            mask, or a mask whose image is not there.
    """

    path: str
    reason: str
    until: float | None
    is_long: bool
    kind: WaitKind


@dataclass(frozen=True, slots=True)
class Pairing:
    """Result of one look at the inbox.

    Attributes:
        ready: candidates, in the order of their arrival.
        held: candidates that are ready once the file was claimed that names their image as a mask.
        waiting: files that are in no candidate yet.
        referenced: paths of the images that job files and tables name; the next `scan` looks
            for them.
    """

    ready: list[Candidate]
    waiting: list[Waiting]
    referenced: frozenset[str]
    held: list[Candidate] = field(default_factory=list[Candidate])

    @property
    def next_at(self) -> float | None:
        """Monotonic time at which to pair again even if nothing changes; None if at none."""
        return min((w.until for w in self.waiting if w.until is not None), default=None)
