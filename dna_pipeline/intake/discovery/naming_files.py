"""Classify YAMLs and tables by the images that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dna_pipeline.base.errors import JobError, ParameterInvalid, PathEscapesInbox, SidecarInvalid
from dna_pipeline.base.naming import folder_of
from dna_pipeline.config.image_paths import places
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.discovery.candidates import (
    ReadCompanions,
    ReadReference,
    Reference,
    References,
    Unreadable,
    no_companions,
)
from dna_pipeline.intake.discovery.names import fold, without_suffix
from dna_pipeline.intake.discovery.stability import StabilityTracker

IMAGE_WAIT_S = 3600.0
"""Time that a YAML waits for its image."""


@dataclass(slots=True, eq=False)
class NamingFile:
    """A YAML, a table or a prompt file, and the images that it gets.

    Attributes:
        path: path of the YAML or the table.
        beside: the YAML beside a table, with the settings of all its rows.
        names: the images of a batch; the path of the one image of a job file; None for a plain
            sidecar.
        error: error of its jobs.
        unread: reason why it cannot be read yet; None if it can.
        unread_until: time at which the wait for that ends.
        images: the images that it gets.
        missing: paths that a batch names and at which there is no image for it.
        claimed_by_others: those of them that another file gets, each with that file's name.
        lacks: the image of a job file that it does not get, in words; "" if it gets its image.
        is_unknown: True if the scan did not look for an image that it names, so that the image may
            exist all the same.
        near: images that its name fits or nearly fits. They were hardly meant to run without it.
        companions: companions of its images that it names by their paths, such as a mask.
        lacking: those of them that are not there.
        held_by: the file that names its image as a mask and so is claimed first; "" if none does.
    """

    path: str
    beside: str | None = None
    names: str | References | None = None
    error: JobError | None = None
    unread: str | None = None
    unread_until: float = 0.0
    images: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    claimed_by_others: tuple[tuple[str, str], ...] = ()
    lacks: str = ""
    is_unknown: bool = False
    near: list[str] = field(default_factory=list[str])
    companions: tuple[str, ...] = ()
    lacking: list[str] = field(default_factory=list[str])
    held_by: str = ""

    @property
    def is_table(self) -> bool:
        return is_table_name(self.path)

    @property
    def is_prompt(self) -> bool:
        return is_prompt_file(self.path)

    @property
    def is_refused(self) -> bool:
        """True if its `image:` or `images:` can never be used. By its name it may also be the
        sidecar of an image, and that image must not run without it."""
        return isinstance(self.error, PathEscapesInbox | ParameterInvalid)


def classify(
    inbox: Inbox,
    tracker: StabilityTracker,
    yamls: Iterable[str],
    tables: Sequence[str],
    read: ReadReference,
    read_companions: ReadCompanions = no_companions,
) -> Iterator[NamingFile]:
    """Give each YAML and each table, with the first YAML that is named after a table as a part of
    it."""

    def companions_of(path: str | None) -> tuple[str, ...]:
        return read_companions(path) if path and tracker.is_settled(path) else ()

    by_name = {fold(path): path for path in tables}
    beside: dict[str, str] = {}
    for path in yamls:
        table = by_name.get(fold(without_suffix(path)))
        if table is None or beside.setdefault(table, path) != path:
            file = NamingFile(path, companions=companions_of(path))
            _classify(inbox, tracker, file, read(path) if tracker.is_settled(path) else None)
            yield file
    for path in tables:
        file = NamingFile(path, beside.get(path))
        both = (*companions_of(path), *companions_of(file.beside))
        file.companions = tuple(dict.fromkeys(both))
        is_settled = tracker.is_settled(path)
        answer = read(path) if is_settled else References(waits_long=False)
        _classify(inbox, tracker, file, answer)
        yield file


def _classify(inbox: Inbox, tracker: StabilityTracker, file: NamingFile, answer: Reference) -> None:
    match answer:
        case str():
            try:
                file.names = places(inbox, folder_of(file.path), answer)[0].path
            except (PathEscapesInbox, ParameterInvalid) as error:
                file.error = error
        case Unreadable():
            wait_s = IMAGE_WAIT_S if answer.wait_s is None else answer.wait_s
            now = tracker.looked_at
            file.unread_until = (tracker.settled_since(file.path) or now) + wait_s
            if now < file.unread_until:
                file.unread = answer.why
            else:
                text = f"could not be read for an hour: {answer.why}"
                file.error = answer.final_error or SidecarInvalid(text)
        case JobError():
            file.error = answer
        case _:
            file.names = answer
