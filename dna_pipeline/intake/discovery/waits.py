"""Derive which files of an inbox are ready to be claimed, and for what the others wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from dna_pipeline.base.errors import ImageMissing, JobError, SidecarAmbiguous, SidecarMissing
from dna_pipeline.base.naming import folder_of, name_of
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.discovery.candidates import Candidate, References, Waiting, WaitKind
from dna_pipeline.intake.discovery.mask_names import MaskNames
from dna_pipeline.intake.discovery.names import corrected_name, without_suffix
from dna_pipeline.intake.discovery.naming_files import IMAGE_WAIT_S, NamingFile
from dna_pipeline.intake.discovery.render_passes import pass_of
from dna_pipeline.intake.discovery.scan import is_image_name
from dna_pipeline.intake.discovery.stability import StabilityTracker

LONG_S = 60.0
"""Longest wait that a one-shot `run` stays for."""

LONGEST_RESTART_S = 300.0
"""Upper bound on how much new arrivals in a folder can prolong a wait for a sidecar; without the
bound, a steady stream of files would block the images of the folder for ever."""

PASS_REASON = (
    "looks like a render pass ({}), not a picture; to have it taken in, rename it, or name it in a "
    "job file, a table or a YAML of its own"
)
"""Reason for people why an image with the name of a render pass waits; `{}` is the kind of pass."""

NO_PROMPT_REASON = "is the prompt of no image that is here, or a YAML beside the image counts"
"""Reason for people why a text file stays in an inbox with `prompt_files`."""

QUIET_S = 5.0
"""Longest wait of a batch for further images, of an image for its mask, and of a sidecar for its
image, where `sidecar: required` sets a wait of an hour: that hour is for the file that names the
images, and that file is already here."""


def wait_for_image_s(inbox: Inbox) -> float:
    """Wait of what belongs to images that may still come, or that waits for their masks."""
    return min(inbox.sidecar_wait_s, QUIET_S) if inbox.sidecar_required else inbox.sidecar_wait_s


class Waits:
    """Candidates and waiting files of an inbox, as of the tracker's last look.

    Args:
        images: all images of the inbox but masks.
        masks: the masks of the inbox.
    """

    def __init__(
        self, inbox: Inbox, tracker: StabilityTracker, images: Sequence[str], masks: MaskNames
    ) -> None:
        self._inbox = inbox
        self._tracker = tracker
        self._now = tracker.looked_at
        self._images = images
        self._masks = masks
        self._unread: dict[str, str] = {}
        """Folders with a file that cannot be read and may name any image of theirs."""
        which = ", which this inbox requires" if inbox.sidecar_required else ""
        partner = f"a sidecar{which}{' and a mask' if inbox.pairs_masks else ''}"
        self._lone_reason = f"waits {inbox.sidecar_wait_s:g} s for {partner}"
        self.ready: list[Candidate] = []
        self.held: list[Candidate] = []
        self._held_files: list[tuple[NamingFile, Sequence[str]]] = []
        self.waiting: list[Waiting] = []

    def derive(self, files: Iterable[NamingFile], free: Iterable[str]) -> None:
        """Let each file, with its images, be ready or wait; then each image that no file gets."""
        for file in files:
            if file.unread is not None:
                self._add_unread(file, file.unread)
            elif isinstance(file.names, References):
                self._add_batch(file, file.names)
            elif file.is_table:
                wrong = Candidate(file.path, file.beside, file.error)
                self._add(wrong.paths, [wrong])
            elif file.images:
                self._add_images(file)
            elif file.is_prompt:
                self._wait(file.path, NO_PROMPT_REASON, None, "image", is_long=True)
            else:
                self._add_orphan(file)
        for image in free:
            self._add_lone(image)
        for mask, reason in self._masks.alone.items():
            self._add_lone_mask(mask, reason)
        for file, paths in self._held_files:
            self._wait_for_first(file, paths)
        self.ready.sort(key=self._arrival)

    def _add(self, paths: Sequence[str], candidates: Iterable[Candidate]) -> None:
        """Make candidates ready if all these files have settled; else let the files wait."""
        moving = [path for path in paths if not self._tracker.is_settled(path)]
        for path in paths if moving else ():
            self._wait_for(path, moving)
        if not moving:
            self.ready += candidates

    def _wait(
        self, path: str, reason: str, until: float | None, kind: WaitKind, *, is_long: bool
    ) -> None:
        self.waiting.append(Waiting(path, reason, until, is_long, kind))

    # --- files that are still written ---

    def _wait_for(self, path: str, moving: Sequence[str]) -> None:
        if path in moving:
            self._wait_till_settled(path)
            return
        reason = f"waits for {name_of(moving[0])}, which is still being written"
        until = max(self._tracker.settles_at(other) or self._now for other in moving)
        is_long = self._is_slow or any(map(self._tracker.is_downloading, moving))
        self._wait(path, reason, until, "partner", is_long=is_long)

    def _wait_till_settled(self, path: str) -> None:
        is_downloading = self._tracker.is_downloading(path)
        reason = "still being written"
        if is_downloading:
            reason = "still being downloaded, since a partial file lies beside it"
        until = self._tracker.settles_at(path)
        self._wait(path, reason, until, "writing", is_long=is_downloading or self._is_slow)

    @property
    def _is_slow(self) -> bool:
        return self._tracker.settle_s > LONG_S

    # --- files that name images ---

    def _add_unread(self, file: NamingFile, why: str) -> None:
        """Let a file wait that cannot be read, and with it the files that are surely its own."""
        until = file.unread_until
        is_long = until - self._now > LONG_S
        self._wait(file.path, f"cannot be read: {why}", until, "unread", is_long=is_long)
        for path in (*file.images, *filter(None, [file.beside])):
            reason = f"waits for {name_of(file.path)}, which cannot be read"
            self._wait(path, reason, until, "partner", is_long=is_long)
        if not file.images:
            self._unread[folder_of(file.path)] = name_of(file.path)

    def _add_batch(self, file: NamingFile, names: References) -> None:
        """Make a batch ready with the images that it gets, or let its files wait."""
        table, sidecar = (file.path, file.beside) if file.is_table else (None, file.path)
        masks = tuple(("mask", mask) for mask in self._masks_of(file.images))
        candidate = Candidate(
            None, sidecar, None, table, tuple(file.images), True, file.claimed_by_others, masks,
            _named(file),
        )  # fmt: skip
        if (why := self._wait_of_batch(file, names, candidate.paths)) is None:
            self._add(candidate.paths, [candidate])
            return
        for path in candidate.paths:
            if self._tracker.is_settled(path):
                self.waiting.append(replace(why, path=path))
            else:
                self._wait_till_settled(path)

    def _wait_of_batch(
        self, file: NamingFile, names: References, paths: Sequence[str]
    ) -> Waiting | None:
        """Reason, other than unsettled files, for which a batch waits; None if there is none."""
        if (settled := self._tracker.settled_since(file.path)) is None:
            return None
        if file.is_unknown:
            return self._search("")
        is_empty = bool(names.patterns) and not file.images
        lacking = [*file.missing, *file.lacking]
        if names.waits_long and (lacking or is_empty) and self._now < settled + IMAGE_WAIT_S:
            text = ", ".join((lacking or list(names.patterns))[:3])
            reason = f"{name_of(file.path)} waits for {text}"
            return Waiting("", reason, settled + IMAGE_WAIT_S, True, "image")
        lacks_masks = self._inbox.pairs_masks and len(self._masks_of(file.images)) < len(
            file.images
        )
        if not (names.patterns or lacking or file.is_table or lacks_masks):
            return None
        folders = {folder_of(path) for path in (*paths, *names.patterns, *names.paths)}
        changed = max(map(self._tracker.folder_changed_at, folders))
        wait_s = wait_for_image_s(self._inbox)
        until = _quiet_at(settled, changed, wait_s)
        if self._now >= until:
            return None
        reason = f"{name_of(file.path)} waits until nothing came for {wait_s:g} s"
        return Waiting("", reason, until, wait_s > LONG_S, "sidecar")

    def _search(self, path: str) -> Waiting:
        reason = "the images that it names are looked for"
        return Waiting(path, reason, self._now, False, "partner")

    def _add_orphan(self, file: NamingFile) -> None:
        """Let a YAML wait for its image for an hour; then make it ready with an error.

        The images near it wait as long as it does, and fail with it.
        """
        image = file.lacks or _image_like(file)
        may_be_sidecar = is_image_name(without_suffix(file.path)) or file.near
        if not file.lacks and file.is_refused and not may_be_sidecar:
            self.ready.append(Candidate(None, file.path, file.error))
            return
        paths = [file.path, *file.near]
        until = (self._tracker.settled_since(file.path) or self._now) + IMAGE_WAIT_S
        if not all(map(self._tracker.is_settled, paths)):
            self._add(paths, ())
        elif file.is_unknown:
            self.waiting += [self._search(path) for path in paths]
        elif self._now < until:
            self._wait(file.path, f"waits for {image}", until, "image", is_long=True)
            reason = f"waits with {name_of(file.path)}, which waits for {image}"
            for path in file.near:
                self._wait(path, reason, until, "partner", is_long=True)
        else:
            error = file.error or ImageMissing(f"waited an hour for {image}")
            error = _error_of(replace(file, error=error), file.near)
            self.ready += [Candidate(path, file.path, error) for path in file.near or (None,)]

    # --- images that no file names ---

    @cached_property
    def _stems(self) -> frozenset[str]:
        """The paths of all images, without the dot and the ending. Few names ask for them."""
        return frozenset(map(without_suffix, self._images))

    def _has_stem(self, stem: str) -> bool:
        return stem in self._stems

    def _add_lone(self, image: str) -> None:
        """Let an image wait for a sidecar; then make it ready without one.

        A file in its folder that cannot be read may name it, so that the folder counts as still
        changing.
        """
        settled = self._tracker.settled_since(image)
        if settled is None:
            self._wait_till_settled(image)
            return
        if (content := pass_of(image, self._has_stem)) is not None:
            self._wait(image, PASS_REASON.format(content), None, "pass", is_long=True)
            return
        folder = folder_of(image)
        wait_s = self._inbox.sidecar_wait_s
        is_required = self._inbox.sidecar_required
        if (other := self._unread.get(folder)) is not None:
            until = settled + wait_s + LONGEST_RESTART_S
            reason = f"waits for {other}, which may name it and cannot be read"
        else:
            until = _quiet_at(settled, self._tracker.folder_changed_at(folder), wait_s)
            reason = self._lone_reason
        if self._now < until:
            is_long = wait_s > LONG_S or other is not None
            self.waiting.append(Waiting(image, reason, until, is_long, "sidecar"))
            return
        error = SidecarMissing(f"{name_of(image)}: waited {wait_s:g} s") if is_required else None
        candidate = self._candidate(image, None, error)
        if image in self._masks.mask_of:
            self._add(candidate.paths, [candidate])
        else:
            self.ready.append(candidate)

    # --- masks ---

    def _candidate(self, image: str, file: NamingFile | None, error: JobError | None) -> Candidate:
        """The candidate of an image, with its mask if it has one."""
        mask = self._masks.mask_of.get(image)
        masks = () if mask is None else (("mask", mask),)
        if file is None:
            return Candidate(image, None, error, companions=masks)
        return Candidate(image, file.path, error, companions=masks, named=_named(file))

    def _add_lone_mask(self, mask: str, reason: str) -> None:
        """Let a mask wait that belongs to no image.

        If none came in an hour, the reason says so. The file stays all the same, since no job
        would be made of it, and jobs may name it by its path.
        """
        until = (self._tracker.settled_since(mask) or self._now) + IMAGE_WAIT_S
        if mask not in self._masks.orphans:
            self._wait(mask, reason, None, "mask", is_long=True)
        elif self._now < until:
            self._wait(mask, reason, until, "mask", is_long=True)
        else:
            text = f"{reason}; none came in an hour, so rename, move or remove it"
            self._wait(mask, text, None, "mask", is_long=True)

    def _masks_of(self, images: Iterable[str]) -> list[str]:
        mask_of = self._masks.mask_of
        return [mask_of[image] for image in images if image in mask_of]

    def _add_images(self, file: NamingFile) -> None:
        """Make the images of a sidecar or job file ready, once their masks had time to come."""
        files = [file.path, *self._masks_of(file.images), *_named(file), *file.images]
        if (wait := self._wait_for_named(file)) is not None:
            self.waiting += [replace(wait, path=path) for path in files]
            return
        until = self._end_of_mask_wait(file)
        if until is None or not all(map(self._tracker.is_settled, files)):
            error = _error_of(file, file.images)
            candidates = [self._candidate(image, file, error) for image in file.images]
            self._add_or_hold(file, files, candidates)
            return
        reason = f"waits {wait_for_image_s(self._inbox):g} s for a mask"
        for path in files:
            self._wait(path, reason, until, "mask", is_long=wait_for_image_s(self._inbox) > LONG_S)

    def _add_or_hold(
        self, file: NamingFile, paths: Sequence[str], candidates: Sequence[Candidate]
    ) -> None:
        """As `_add`, but hold the candidates if the claim of another file needs their image."""
        if not file.held_by:
            self._add(paths, candidates)
            return
        self.held += candidates
        self._held_files.append((file, paths))

    def _wait_for_first(self, file: NamingFile, paths: Sequence[str]) -> None:
        """Let the files of a held sidecar wait for the file that is claimed before it."""
        other = name_of(file.held_by)
        reason = f"waits until {other} is taken in, which names {name_of(file.images[0])} as a mask"
        is_long = all(file.held_by not in (c.sidecar, c.table) for c in self.ready)
        for path in paths:
            self._wait(path, reason, None, "partner", is_long=is_long)

    def _wait_for_named(self, file: NamingFile) -> Waiting | None:
        """Wait of a sidecar or job file for companions that it names; None if there is none."""
        if not file.lacking or file.error is not None:
            return None
        if file.is_unknown:
            return self._search("")
        until = (self._tracker.settled_since(file.path) or self._now) + IMAGE_WAIT_S
        if self._now >= until:
            return None
        reason = f"{name_of(file.path)} waits for {', '.join(file.lacking[:3])}"
        return Waiting("", reason, until, True, "mask")

    def _end_of_mask_wait(self, file: NamingFile) -> float | None:
        """Time at which the wait for masks ends; None if none is waited for."""
        is_complete = len(self._masks_of(file.images)) == len(file.images)
        # A file that names a mask wants no other one.
        wants_none = not self._inbox.pairs_masks or bool(file.companions)
        if wants_none or is_complete or file.error is not None:
            return None
        paths = [file.path, *file.images]
        settled = max(self._tracker.settled_since(path) or self._now for path in paths)
        changed = max(self._tracker.folder_changed_at(folder_of(path)) for path in file.images)
        until = _quiet_at(settled, changed, wait_for_image_s(self._inbox))
        return until if self._now < until else None

    def _arrival(self, candidate: Candidate) -> tuple[float, str, str]:
        path = candidate.image or candidate.table or candidate.sidecar or ""
        since = self._tracker.unchanged_since(path)
        return (self._now if since is None else since, path, candidate.sidecar or "")


def _named(file: NamingFile) -> tuple[str, ...]:
    """The companions that a file names and that are there."""
    return tuple(path for path in file.companions if path not in file.lacking)


def _quiet_at(settled: float, changed: float, wait_s: float) -> float:
    """Time at which a wait ends that each change in the folder restarts, up to a limit."""
    return min(max(settled, changed) + wait_s, settled + wait_s + LONGEST_RESTART_S)


def _image_like(file: NamingFile) -> str:
    """The image that a YAML's name asks for, in words."""
    name = without_suffix(file.path)
    text = f"{'a table' if is_table_name(name) else 'an image'} called {name_of(name)}"
    if not file.near:
        return text
    right = corrected_name(file.path, file.near[0])
    return f"{text}; for {name_of(file.near[0])} beside it, rename {name_of(file.path)} to {right}"


def _error_of(file: NamingFile, images: Sequence[str]) -> JobError | None:
    """Error of a YAML's jobs: also that its name fits several images."""
    if len(images) < 2:
        return file.error
    text = f"{name_of(file.path)} could tell {', '.join(map(name_of, images[:5]))}"
    return SidecarAmbiguous(text if file.error is None else f"{text}; {file.error.detail}")
