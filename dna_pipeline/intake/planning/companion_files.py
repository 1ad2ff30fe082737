"""Find the files of companions, such as masks, that jobs name by their paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import (
    ImageTooLarge,
    ImageTooSmall,
    JobError,
    MaskMissing,
    MaskUnreadable,
    PathEscapesInbox,
)
from dna_pipeline.base.naming import forms_of, printable
from dna_pipeline.base.reachability import Look, look_directly, require_answer
from dna_pipeline.config.companion_paths import named_companions, paths_in_config
from dna_pipeline.config.image_paths import Place, places, slashed
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sentences import shown
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.yaml12 import Document, dotted, is_mapping
from dna_pipeline.intake.discovery.scan import is_image_name, is_passed_over
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.nearest_images import NearestImages
from dna_pipeline.intake.planning.references import escape_error
from dna_pipeline.intake.planning.source_roots import (
    is_file,
    is_file_or_raise,
    literal_file,
    obstacle,
    unreachable_reason,
)
from dna_pipeline.stages import companions

Need = tuple[str, str]
"""Role and reference of a companion, as `stages/companions.py: needed` gives them."""


class CompanionFiles:
    """The companions that one file of an inbox names.

    A path is found by the rules for images that a job file names: relative to that file or to a
    source root, or absolute within the inbox or a source root. A path that pipeline.yaml itself
    names is relative to pipeline.yaml and may lie anywhere, since its writer could watch any
    folder. No path leads through a link of the inbox or into a hidden folder of it.

    Args:
        folder: folder in the inbox of the file that names them.
        homes: folders outside of the inbox in which relative paths are looked up before.
        free_from: for a command, whose user may read what the program reads: the folder from which
            any path is followed.
        look: tells whether a folder outside of the inbox can be reached.
    """

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        folder: str,
        homes: Sequence[Path] = (),
        free_from: Path | None = None,
        look: Look = look_directly,
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._folder = folder
        self._homes = homes
        self._free_from = free_from
        self._look = look
        self._cache: dict[str, Source | JobError] = {}
        self._nearest = NearestImages()

    @cached_property
    def _own(self) -> frozenset[str]:
        """The paths that pipeline.yaml names; collected late, since few jobs name a companion."""
        return paths_in_config(self._config)

    def find(self, role: str, reference: str, image: str) -> Source:
        """The file of a companion that did not lie beside its image.

        Raises:
            MaskMissing: it is not there, or should lie beside the image.
            PathEscapesInbox: its path leads out of the inbox and its source roots.
            TimeoutError: a folder that may hold it does not answer.
        """
        if not reference:
            raise _not_beside(role, self._inbox, image)
        if reference not in self._cache:
            try:
                self._cache[reference] = self._find(role, reference)
            except (MaskMissing, PathEscapesInbox) as error:
                error.where = error.where or role
                self._cache[reference] = error
        result = self._cache[reference]
        if isinstance(result, JobError):
            raise type(result)(result.detail, hint=result.hint, where=result.where)
        return result

    def _find(self, role: str, reference: str) -> Source:
        if (text := reference.strip()) in self._own:
            path = self._config.file.parent / text
            require_answer(self._look, path.parent)
            if (source := _anywhere(self._config.file.parent, text)) is not None:
                return source
            raise MaskMissing(f"{role}: there is no {path}, which pipeline.yaml names")
        if self._free_from is not None and (source := _anywhere(self._free_from, text)) is not None:
            return source
        try:
            options = places(self._inbox, self._folder, text)
        except PathEscapesInbox as error:
            raise PathEscapesInbox(f"{role}: {error.detail}") from None
        if not is_image_name(text):
            raise MaskMissing(f"{role}: {shown(text)} does not have the ending of an image")
        for home in self._homes:
            if (path := _inside(home, text)) is not None:
                return Source(path, None)
        for place in options:
            if (source := self._at(place)) is not None:
                return source
        return self._unreachable(role, options, text)

    def _at(self, place: Place) -> Source | None:
        if place.root is None:
            path = _inside(self._inbox.path, place.path)
            relative = None if path is None else path.relative_to(self._inbox.path).as_posix()
            return None if path is None else Source(path, relative)
        require_answer(self._look, place.root)
        if (file := literal_file(place, self._inbox.source_roots)) is None:
            return None
        if file.real is None:
            raise escape_error(file)
        return Source(file.path, None, real=file.real)

    def _unreachable(self, role: str, options: Iterable[Place], text: str) -> Source:
        """A companion that may lie in a place that cannot be looked at. Raises `MaskMissing`."""
        options = list(options)
        why_missing = f"there is no {shown(printable(slashed(text)))}"
        near = (self._nearest.like(self._inbox.path / place.path) for place in options)
        if name := next(filter(None, near), ""):
            folder, slash, _ = slashed(text).rpartition("/")
            why_missing += f"; did you mean {shown(printable(folder + slash + name))}?"
        for place in options:
            path = self._inbox.path / place.path
            if why := unreachable_reason(path, through_links=place.root is not None):
                return Source(path, None, unreachable=why)
            if why := obstacle(path):
                why_missing = f"{shown(text)} {why}"
        raise MaskMissing(f"{role}: {why_missing}")


def _inside(home: Path, text: str) -> Path | None:
    """The file at a path below a folder, reached through no link and no hidden folder; None if
    there is none."""
    text = os.path.normpath(slashed(text))
    if text.startswith(("/", "..")) or any(map(is_passed_over, text.split("/"))):
        return None
    for form in forms_of(text):
        path = home / form
        if is_file(path) and Path(os.path.realpath(path)) == Path(os.path.realpath(home)) / form:
            return path
    return None


def _anywhere(home: Path, text: str) -> Source | None:
    """The file at a path that starts at a folder and may lead anywhere; None if there is none."""
    path = next((path for form in forms_of(text) if is_file_or_raise(path := home / form)), None)
    return None if path is None else Source(path, None, real=Path(os.path.realpath(path)))


def lacking(files: Iterable[Mapping[str, Any]], needs: Iterable[Need]) -> list[Need]:
    """The needed companions that are not among these."""
    there = {(file["role"], file.get("reference") or "") for file in files}
    return [need for need in needs if need not in there]


def find_needed(
    files: CompanionFiles,
    spec: JobSpec,
    image: Source,
    asked_by: Mapping[Need, str] | None = None,
) -> dict[Need, Source]:
    """The companions that a job names by their paths.

    Args:
        asked_by: the keys that errors name; None to name the roles.

    Raises `JobError` if one is missing, or one that should lie beside the image.
    """
    beside = [] if image.mask is None else [{"role": "mask"}]
    sources: dict[Need, Source] = {}
    for need in lacking(beside, spec.needed_companions):
        try:
            sources[need] = files.find(*need, image=image.path.name)
        except JobError as error:
            error.where = (asked_by or {}).get(need, error.where)
            raise
    return sources


def missing_masks(files: CompanionFiles, document: Document) -> list[JobError]:
    """The errors of the companions that a document names and that are not there, for a document
    with other faults, which cannot be resolved."""
    errors: list[JobError] = []
    for role, path, place in named_companions(document):
        try:
            files.find(role, path, image="")
        except JobError as error:
            error.where = dotted(place)
            error.detail = f"{document.start(place)}{error.detail}"
            errors.append(error)
    return errors


def asking_keys(spec: JobSpec, document: Document) -> dict[Need, str]:
    """By each companion that a job needs, the key that asks for it, like `img2img.mask`.

    Args:
        document: the sidecar or row of the job, which may write the stage's id or its type.
    """
    keys: dict[Need, str] = {}
    for stage in spec.stages:
        for role, reference in companions.needed([{"type": stage.type, "params": stage.params}]):
            names = (stage.id, stage.type)
            own = (n for n in names if is_mapping(v := document.value.get(n)) and role in v)
            keys.setdefault((role, reference), f"{next(own, stage.id)}.{role}")
    return keys


_WRONG_SIZES: dict[type[JobError], str] = {
    ImageTooSmall: " is too small",
    ImageTooLarge: " is too large",
}


def mask_fault(mask: str, answer: JobError, where: str = "mask") -> MaskUnreadable:
    """The error of a mask that does not decode: a fault of that file and not of its image.

    Args:
        mask: its path, for people.
        answer: error of the decoder, which speaks of images.
        where: key that asks for the mask.
    """
    wrong_size = _WRONG_SIZES.get(type(answer), "")
    text = f"mask {printable(mask)}{wrong_size}: {answer.detail}"
    return MaskUnreadable(text, hint=answer.hint, where=where)


def _not_beside(role: str, inbox: Inbox, image: str) -> MaskMissing:
    """The error of a job whose companion should lie beside its image."""
    stem, _, ending = image.rpartition(".")
    name = f"{stem}.{role}.{ending}"
    text = f"no {name} came beside {image}"
    if not inbox.pairs_masks:
        text = (
            f"neither the pipeline nor the defaults of the inbox {inbox.name} have {role}: file, "
            f"so it takes in none by their names; name it by its path, {role}: {name}"
        )
    hint = f"Put it into source/, beside this file, as {name}, and retry the job; or drop both."
    return MaskMissing(f"{role}: {text}", hint=hint, where=role)
