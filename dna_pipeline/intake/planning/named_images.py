"""Find the images that a job file or a table names, in the inbox and in source roots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dna_pipeline.base.errors import ImageMissing, JobError
from dna_pipeline.base.naming import printable
from dna_pipeline.config.image_paths import Place, is_pattern, matches, places, slashed
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.mask_names import is_mask_name, masks_of, names_of_masks
from dna_pipeline.intake.discovery.names import fold
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.intake.planning.nearest_images import NearestImages
from dna_pipeline.intake.planning.references import escape_error
from dna_pipeline.intake.planning.source_roots import (
    SourceRootFile,
    literal_file,
    obstacle,
    source_root_files,
    unreachable_reason,
)


@dataclass(slots=True, eq=False)
class Source:
    """An image that rows name.

    Attributes:
        path: its path, absolute.
        relative: its path in the inbox; None for an image in a source root.
        probed: its size, once it was probed.
        error: error of its rows, if it cannot be used.
        real: the file itself if `path`, in a source root, may lead to it by symbolic links.
        claimed: the file in the claim, once it lies there.
        unreachable: reason why nobody could look for it, such as a missing permission; else "".
        mask: its mask that lies beside it, if the inbox takes in masks.
    """

    path: Path
    relative: str | None
    probed: Probed | None = None
    error: JobError | None = None
    real: Path | None = None
    claimed: Path | None = None
    unreachable: str = ""
    mask: Source | None = None

    @property
    def file(self) -> Path:
        """The file to read: never a symbolic link."""
        return self.real or self.path

    @property
    def folder(self) -> str:
        """Folder of the image in the inbox."""
        return (self.relative or "").rpartition("/")[0]

    def probe(self, prober: Prober) -> Probed | JobError:
        answer = NotReadable(self.unreachable) if self.unreachable else prober.probe(self.file)
        if isinstance(answer, JobError):
            self.error = answer
        else:
            self.probed = answer
        return answer


class NamedImages:
    """Images that one batch names.

    Args:
        candidate: the batch, with those of its images that lie in the inbox.
        folder: folder of the batch in the inbox.
    """

    def __init__(self, inbox: Inbox, candidate: Candidate, folder: str) -> None:
        self._inbox = inbox
        self._folder = folder
        self._there = _by_name(candidate.images)
        masks = [path for role, path in candidate.companions if role == "mask"]
        self._mask_of = masks_of([*candidate.images, *masks]).mask_of
        self._nearest = NearestImages()
        self._claimed_by_others = {
            fold(image): other for image, other in candidate.claimed_by_others
        }

    def matching(self, pattern: str) -> Iterable[Source]:
        """Images that an entry of a job file names; none for a glob that fits no image."""
        is_glob = is_pattern(pattern)
        options = places(self._inbox, self._folder, pattern)
        escaping: Source | None = None
        for place in options:
            # A file's name may look like a glob, so an entry is tried as a name before as a glob.
            if (source := self._literal(place)) is not None:
                if source.error is None:
                    return [source]
                escaping = escaping or source
            if is_glob and (fitting := self._globbed(place)):
                return fitting
        if escaping is not None:
            return [escaping]
        if is_glob:
            return []
        if (source := self._unreachable(options)) is not None:
            return [source]
        path = self._inbox.path / self._folder / pattern
        was_waited_for = options[0].root is None
        text = (
            f"{pattern} did not come within an hour" if was_waited_for else f"there is no {pattern}"
        )
        if why := self._obstacle(options):
            text = f"{pattern} {why}"
        if other := self._other_owner(options):
            text = f"{pattern} goes to {other}, which names it too"
        return [Source(path, None, error=ImageMissing(text, where="images"))]

    def _globbed(self, place: Place) -> list[Source]:
        if place.root is not None:
            return [
                self._in_root(file, place)
                for file in source_root_files(place, self._inbox.source_roots)
                if not (self._inbox.pairs_masks and is_mask_name(file.path.name))
            ]
        fitting = {image for image in self._there.values() if matches(image, place.path)}
        return [self._in_inbox(image) for image in sorted(fitting)]

    def image(self, text: str) -> Source:
        """The first image that a path leads to. Raises `ImageMissing` and `PathEscapesInbox`."""
        options = places(self._inbox, self._folder, text)
        sources = [s for place in options if (s := self._literal(place)) is not None]
        for source in sorted(sources, key=lambda source: source.error is not None):
            if source.error is not None:
                raise source.error
            return source
        if (source := self._unreachable(options)) is not None:
            return source
        raise ImageMissing(f"image: {self._why_missing(options, text)}")

    def _why_missing(self, options: list[Place], text: str) -> str:
        """Sentence about an image that a table names and that is not there."""
        if other := self._other_owner(options):
            return f"{text!r} goes to {other}, which names it too; put both into one table"
        if why := self._obstacle(options):
            return f"{text!r} {why}"
        if is_pattern(text):
            wrong = f"there is no {text!r}; a table names single images"
            return f"{wrong}; globs are for job files (`images:`)"
        near = (self._nearest.like(self._inbox.path / place.path) for place in options)
        name = next(filter(None, near), "")
        folder, slash, _ = slashed(text).rpartition("/")
        hint = f"; did you mean {printable(folder + slash + name)!r}?" if name else ""
        return f"there is no {text!r}{hint}"

    def _other_owner(self, options: Iterable[Place]) -> str:
        """The other file that names an image at one of the places and gets it; "" if none."""
        inside = (place.path for place in options if place.root is None)
        return next((t for path in inside if (t := self._claimed_by_others.get(fold(path)))), "")

    def _literal(self, place: Place) -> Source | None:
        """The image at a path, not read as a glob; with an error if it leads out of the roots."""
        if place.root is not None:
            if (file := literal_file(place, self._inbox.source_roots)) is None:
                return None
            return self._in_root(file, place)
        image = self._there.get(place.path) or self._there.get(fold(place.path))
        return None if image is None else self._in_inbox(image)

    def _in_inbox(self, image: str) -> Source:
        source = Source(self._inbox.path / image, image)
        if (mask := self._mask_of.get(image)) is not None:
            source.mask = Source(self._inbox.path / mask, mask)
        return source

    def _in_root(self, file: SourceRootFile, place: Place) -> Source:
        """An image in a source root, with the mask beside it, if it has one."""
        if file.real is None:
            return Source(file.path, None, error=escape_error(file))
        source = Source(file.path, None, real=file.real)
        for name in names_of_masks(file.path.name) if self._inbox.pairs_masks else ():
            beside = replace(place, path=str(file.path.with_name(name)))
            mask = literal_file(beside, self._inbox.source_roots)
            if mask is not None and mask.real is not None:
                source.mask = Source(mask.path, None, real=mask.real)
                break
        return source

    def _unreachable(self, options: Iterable[Place]) -> Source | None:
        """An image that may lie in the first place that cannot be looked at; None without one."""
        for place in options:
            path = self._inbox.path / place.path
            if why := unreachable_reason(path, through_links=place.root is not None):
                return Source(path, None, unreachable=why)
        return None

    def _obstacle(self, options: Iterable[Place]) -> str:
        """Thing that lies in place of an image, as the end of a sentence; "" if none does."""
        reasons = (obstacle(self._inbox.path / place.path) for place in options)
        return next(filter(None, reasons), "")


def _by_name(images: Iterable[str]) -> dict[str, str]:
    """Images by their own paths, and by equivalent paths at which no other image lies."""
    images = list(images)
    return {fold(image): image for image in images} | {image: image for image in images}
