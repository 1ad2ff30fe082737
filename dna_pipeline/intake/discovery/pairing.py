"""Join images with their YAMLs and tables. Pure, and linear in the number of files.

A YAML with an `image:` key is a job file for that image; a YAML with `images:`, like a table, asks
for jobs of several images. `cat.png.yaml` is the sidecar of `cat.png`; `cat.yaml` is the sidecar of
the one image called `cat` that no other file names. A file whose partner is not yet certain waits,
with a reason.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from dna_pipeline.base.errors import (
    ImageMissing,
    JobError,
    ParameterInvalid,
    PathEscapesInbox,
    SidecarAmbiguous,
    SidecarInvalid,
    SidecarMissing,
)
from dna_pipeline.base.naming import name_of
from dna_pipeline.config.image_paths import matches, places
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.discovery.candidates import (
    Candidate,
    Pairing,
    ReadReference,
    References,
    Unreadable,
    Waiting,
)
from dna_pipeline.intake.discovery.names import (
    MATCHES,
    NEAR_MATCHES,
    Key,
    corrected_name,
    fold,
    without_suffix,
)
from dna_pipeline.intake.discovery.render_passes import pass_of
from dna_pipeline.intake.discovery.scan import is_image_name, is_yaml_name
from dna_pipeline.intake.discovery.stability import StabilityTracker, folder_of

IMAGE_WAIT_S = 3600.0
"""Time that a YAML waits for its image."""

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

QUIET_S = 5.0
"""Wait of a batch for further images where `sidecar: required` sets a wait of an hour: that hour is
for the file that names the images, and that file is already here."""


def pair(
    inbox: Inbox,
    paths: Iterable[str],
    tracker: StabilityTracker,
    image_of: ReadReference,
    looked_for: Container[str] | None = None,
) -> Pairing:
    """Sort the files of the last scan into candidates, as of the tracker's last look.

    Args:
        paths: images, YAMLs and tables, relative to the inbox; their order does not matter.
        image_of: called once for each settled YAML and table; keeps its own cache between calls.
        looked_for: the paths that the scan looked up one by one (its `referenced`). An image that
            is neither in `paths` nor in `looked_for` may exist all the same: the file that names it
            waits for the next scan. None if the scan looked for all images.
    """
    images: list[str] = []
    yamls: list[str] = []
    tables: list[str] = []
    for path in paths:
        if is_image_name(path):
            images.append(path)
        elif is_yaml_name(path):
            yamls.append(path)
        elif is_table_name(path):
            tables.append(path)
    yamls.sort(key=lambda path: (path.lower().endswith(".yml"), path))
    this_round = _Round(inbox, tracker, sorted(images), looked_for)
    return this_round.run(yamls, sorted(tables), image_of)


class _Round:
    """One call of `pair`."""

    def __init__(
        self,
        inbox: Inbox,
        tracker: StabilityTracker,
        images: list[str],
        looked_for: Container[str] | None,
    ) -> None:
        self._inbox = inbox
        self._tracker = tracker
        self._looked_for = looked_for
        self._now = tracker.looked_at
        self._images = images
        self._all = frozenset(images)
        self._free = dict.fromkeys(images)
        """Images that no other file gets so far."""
        self._errors: dict[str, JobError] = {}
        self._refused: set[str] = set()
        """YAMLs whose `image:` or `images:` can never be used."""
        self._astray: dict[str, str] = {}
        """YAMLs whose `image:` names no image that they can get, each with that image in words; ""
        while it is unknown whether the image is there."""
        self._unread: dict[str, float] = {}
        """YAMLs and tables that cannot be read, each with the time at which their wait ends."""
        self._batches: list[tuple[Candidate, References]] = []
        self._may_name: dict[str, str] = {}
        self._referenced: set[str] = set()
        self._owners: dict[str, str] = {}
        """Images that a file names by their paths, each with that file."""
        self._ready: list[Candidate] = []
        self._waiting: list[Waiting] = []
        which = ", which this inbox requires" if inbox.sidecar_required else ""
        self._lone_reason = f"waits {inbox.sidecar_wait_s:g} s for a sidecar{which}"

    def run(self, yamls: list[str], tables: list[str], image_of: ReadReference) -> Pairing:
        tables_by_name = {fold(path): path for path in tables}
        beside: dict[str, str] = {}
        others: list[str] = []
        for path in yamls:
            table = tables_by_name.get(fold(without_suffix(path)))
            if table is None or beside.setdefault(table, path) != path:
                others.append(path)
        plain = self._read(others, image_of)
        for table in tables:
            self._table(table, beside.get(table), image_of)
        # An image belongs first to a file that names its path, then to its sidecar, so that globs
        # come last: they get only images that no other file gets.
        batches = [(batch, names, *self._by_path(batch, names)) for batch, names in self._batches]
        by_name = self._match(plain, MATCHES)
        beside_astray = self._match(list(self._astray), MATCHES)
        lone = [y for y, images in by_name.items() if not images and y not in self._unread]
        near = self._match([y for y in lone if not is_table_name(without_suffix(y))], NEAR_MATCHES)
        for batch, names, images, missing in batches:
            images = (*images, *self._by_glob(names))
            owners = self._claimed_by_others(missing)
            self._batch(replace(batch, images=images, claimed_by_others=owners), names, missing)
        for sidecar, images in by_name.items():
            if images:
                self._reference(sidecar, images)
            elif sidecar not in self._unread:
                self._wait_unmatched(sidecar, near.get(sidecar, []))
        for sidecar, image in self._astray.items():
            self._orphan(sidecar, image, beside_astray[sidecar])
        # An unreadable YAML whose name fits no image may be a job file, and name any image.
        unread = (path for path in self._unread if not by_name.get(path))
        self._may_name = {folder_of(path): path for path in unread}
        for image in self._free:
            self._lone(image)
        self._ready.sort(key=self._arrival)
        return Pairing(self._ready, self._waiting, frozenset(self._referenced))

    def _read(self, yamls: list[str], image_of: ReadReference) -> list[str]:
        """Sort out the job files; returns the YAMLs that are none, or that may be none."""
        plain: list[str] = []
        jobs: dict[str, str] = {}
        for path in yamls:
            answer = image_of(path) if self._tracker.is_settled(path) else None
            try:
                if isinstance(answer, PathEscapesInbox | ParameterInvalid):
                    raise answer
                if isinstance(answer, str):
                    jobs[path] = places(self._inbox, folder_of(path), answer)[0].path
                    continue
                if isinstance(answer, References):
                    self._batches.append((Candidate(None, path, is_batch=True), answer))
                    continue
            except (PathEscapesInbox, ParameterInvalid) as error:
                # By its name the YAML may also be the sidecar of an image, and that image must not
                # run without it.
                self._refused.add(path)
                answer = error
            if isinstance(answer, Unreadable):
                answer = self._unreadable(path, answer)
            if answer is not None:
                self._errors[path] = answer
            plain.append(path)
        self._job_files(jobs)
        return plain

    def _job_files(self, jobs: dict[str, str]) -> None:
        self._referenced.update(jobs.values())
        owners: dict[str, str] = {}
        for sidecar, target in jobs.items():
            alike = self._alike.get(fold(target), [])
            image = target if target in alike else alike[0] if alike else None
            if image is None and self._is_unknown(target):
                self._astray[sidecar] = ""
            elif image is None:
                self._astray[sidecar] = f"{target}, which its image: key names"
            elif image in owners and not self._inbox.keeps:
                self._astray[sidecar] = f"{target}, which {owners[image]} takes"
            else:
                owners[image] = self._owners[image] = sidecar
                self._free.pop(image, None)
                self._reference(sidecar, [image])

    # --- several images ---

    def _table(self, table: str, beside: str | None, image_of: ReadReference) -> None:
        answer = (
            image_of(table) if self._tracker.is_settled(table) else References(waits_long=False)
        )
        if isinstance(answer, Unreadable):
            answer = self._unreadable(table, answer)
            if answer is None and beside is not None:
                self._waiting.append(self._for_unread(beside, table))
        if isinstance(answer, JobError):
            self._when_settled(Candidate(table, beside, answer))
        elif isinstance(answer, References):
            self._batches.append((Candidate(None, beside, None, table, is_batch=True), answer))

    # --- what cannot be read ---

    def _unreadable(self, path: str, answer: Unreadable) -> JobError | None:
        """Error of a file that could not be read for too long; None while the wait lasts."""
        wait_s = IMAGE_WAIT_S if answer.wait_s is None else answer.wait_s
        until = (self._tracker.settled_since(path) or self._now) + wait_s
        if self._now < until:
            self._unread[path] = until
            reason = f"cannot be read: {answer.why}"
            self._waiting.append(Waiting(path, reason, until, wait_s > LONG_S, "unread"))
            return None
        return answer.final_error or SidecarInvalid(f"could not be read for an hour: {answer.why}")

    def _for_unread(self, path: str, other: str, may: str = "") -> Waiting:
        reason = f"waits for {name_of(other)}, which {may}cannot be read"
        until = self._unread[other]
        return Waiting(path, reason, until, until - self._now > LONG_S, "partner")

    def _possible_owner(self, image: str) -> str | None:
        """An unreadable file above the image that may name it; None if there is none."""
        folder = image if self._may_name else ""
        while folder:
            folder = folder_of(folder)
            if folder in self._may_name:
                return self._may_name[folder]
        return None

    def _when_settled(self, candidate: Candidate) -> None:
        """Make the candidate ready if all its files have settled; else let them wait."""
        moving = [path for path in candidate.paths if not self._tracker.is_settled(path)]
        for path in candidate.paths if moving else ():
            self._wait_for(path, moving)
        if not moving:
            self._ready.append(candidate)

    def _claimed_by_others(self, missing: list[str]) -> tuple[tuple[str, str], ...]:
        """Missing images that another file gets, each with the name of that file."""
        alike = ((path, image) for path in missing for image in self._alike.get(fold(path), ()))
        there = ((path, name_of(self._owners[i])) for path, i in alike if i in self._owners)
        return tuple(dict(there).items())

    def _by_path(self, batch: Candidate, names: References) -> tuple[list[str], list[str]]:
        """Images at a batch's paths, which are then free no longer; and the paths without one."""
        self._referenced.update(names.paths)
        image_at = {path: self._find(path) for path in names.paths}
        images = dict.fromkeys(image for image in image_at.values() if image is not None)
        for image in images:
            self._free.pop(image, None)
            self._owners.setdefault(image, batch.table or batch.sidecar or "")
        return list(images), [path for path, image in image_at.items() if image is None]

    def _find(self, path: str) -> str | None:
        """The image at a path or at an equivalent one, if a batch may get it.

        An inbox that keeps its originals gives an image to several files; else it must be free.
        """
        there = self._all if self._inbox.keeps else self._free
        alike = (path, *self._alike.get(fold(path), ()))
        return next((image for image in alike if image in there), None)

    @cached_property
    def _stems(self) -> frozenset[str]:
        """Paths of all images without the dot and the ending."""
        return frozenset(image.rpartition(".")[0] for image in self._images)

    @cached_property
    def _alike(self) -> dict[str, list[str]]:
        alike: dict[str, list[str]] = {}
        for image in self._images:
            alike.setdefault(fold(image), []).append(image)
        return alike

    def _by_glob(self, names: References) -> list[str]:
        """Free images that a glob fits; they are then free no longer."""
        fitting = [i for i in self._free if any(matches(i, p) for p in names.patterns)]
        for image in fitting:
            del self._free[image]
        return fitting

    def _batch(self, candidate: Candidate, names: References, missing: list[str]) -> None:
        """Make a batch ready with the images that it gets, or let its files wait."""
        if (why := self._wait_of_batch(candidate, names, missing)) is None:
            self._when_settled(candidate)
            return
        for path in candidate.paths:
            if self._tracker.is_settled(path):
                self._waiting.append(replace(why, path=path))
            else:
                self._writing(path)

    def _wait_of_batch(
        self, candidate: Candidate, names: References, missing: list[str]
    ) -> Waiting | None:
        """Reason, other than unsettled files, for which a batch waits; None if there is none."""
        batch_file = candidate.table or candidate.sidecar or ""
        if (settled := self._tracker.settled_since(batch_file)) is None:
            return None
        if any(map(self._is_unknown, missing)):
            return self._look_first("")
        empty = bool(names.patterns) and not candidate.images
        if names.waits_long and (missing or empty) and self._now < settled + IMAGE_WAIT_S:
            text = ", ".join((missing or list(names.patterns))[:3])
            reason = f"{name_of(batch_file)} waits for {text}"
            return Waiting("", reason, settled + IMAGE_WAIT_S, True, "image")
        if not (names.patterns or missing or candidate.table):
            return None
        folders = {folder_of(path) for path in (*candidate.paths, *names.patterns, *names.paths)}
        changed = max(map(self._tracker.folder_changed_at, folders))
        wait = self._inbox.sidecar_wait_s
        if self._inbox.sidecar_required:
            wait = min(wait, QUIET_S)
        until = self._quiet_at(settled, changed, wait)
        if self._now >= until:
            return None
        reason = f"{name_of(batch_file)} waits until nothing came for {wait:g} s"
        return Waiting("", reason, until, wait > LONG_S, "sidecar")

    def _is_unknown(self, path: str) -> bool:
        """True if the scan did not look for that image, so that it may exist all the same."""
        return self._looked_for is not None and path not in self._looked_for

    def _look_first(self, path: str) -> Waiting:
        reason = "the images that it names are looked for"
        return Waiting(path, reason, self._now, False, "partner")

    def _quiet_at(self, settled: float, changed: float, wait: float) -> float:
        """Time at which a wait ends that each change in the folder restarts, up to a limit."""
        return min(max(settled, changed) + wait, settled + wait + LONGEST_RESTART_S)

    # --- plain sidecars ---

    def _match(
        self, plain: list[str], matches: tuple[tuple[Key, Key], ...]
    ) -> dict[str, list[str]]:
        """Images that each plain YAML fits by its name; they are then free no longer."""
        images_of: dict[str, list[str]] = {sidecar: [] for sidecar in plain}
        for image_key, sidecar_key in matches:
            by_key: dict[str, str] = {}
            for sidecar in plain:
                if not images_of[sidecar]:
                    by_key.setdefault(sidecar_key(sidecar), sidecar)
            if not by_key:
                break
            for image in list(self._free):
                sidecar = by_key.get(image_key(image))
                if sidecar is not None:
                    images_of[sidecar].append(image)
                    del self._free[image]
        return images_of

    def _reference(self, sidecar: str, images: list[str]) -> None:
        """Make a YAML and its images ready if all of them have settled; else let them wait."""
        files = [sidecar, *images]
        moving = [path for path in files if not self._tracker.is_settled(path)]
        if moving:
            for path in files:
                self._wait_for(path, moving)
            return
        if sidecar in self._unread:
            self._waiting += [self._for_unread(image, sidecar) for image in images]
            return
        error = self._errors.get(sidecar)
        if len(images) > 1:
            error = _ambiguous(sidecar, images, error)
        self._ready.extend(Candidate(image, sidecar, error) for image in images)

    def _wait_for(self, path: str, moving: list[str]) -> None:
        if path in moving:
            self._writing(path)
            return
        reason = f"waits for {name_of(moving[0])}, which is still being written"
        ends = [self._tracker.settles_at(other) or self._now for other in moving]
        long = self._tracker.settle_s > LONG_S or any(map(self._tracker.is_downloading, moving))
        self._waiting.append(Waiting(path, reason, max(ends), long, "partner"))

    def _writing(self, path: str) -> None:
        until = self._tracker.settles_at(path)
        if self._tracker.is_downloading(path):
            reason = "still being downloaded, since a partial file lies beside it"
            self._waiting.append(Waiting(path, reason, until, True, "writing"))
            return
        long = self._tracker.settle_s > LONG_S
        self._waiting.append(Waiting(path, "still being written", until, long, "writing"))

    def _wait_unmatched(self, sidecar: str, near: list[str]) -> None:
        """Let a YAML wait whose name fits no image; `near` are images that it nearly fits."""
        if sidecar in self._refused and not is_image_name(without_suffix(sidecar)) and not near:
            self._ready.append(Candidate(None, sidecar, self._errors[sidecar]))
            return
        kind = "a table" if is_table_name(without_suffix(sidecar)) else "an image"
        text = f"{kind} called {name_of(without_suffix(sidecar))}"
        if near:
            right = corrected_name(sidecar, near[0])
            text += f"; for {name_of(near[0])} beside it, rename {name_of(sidecar)} to {right}"
        self._orphan(sidecar, text, near)

    def _orphan(self, sidecar: str, image: str, beside: Sequence[str] = ()) -> None:
        """Let a YAML wait for its image for an hour; then make it ready with an error.

        Args:
            image: the image that is not there, in words; "" while the next scan has yet to look for
                it.
            beside: images that the YAML's name fits or nearly fits. They were hardly meant to run
                without the YAML, so they wait as long as it does, and fail with it.
        """
        files = [sidecar, *beside]
        if moving := [path for path in files if not self._tracker.is_settled(path)]:
            for path in files:
                self._wait_for(path, moving)
            return
        until = (self._tracker.settled_since(sidecar) or self._now) + IMAGE_WAIT_S
        if not image or self._now < until:
            why = self._look_first(sidecar)
            if image:
                why = Waiting(sidecar, f"waits for {image}", until, True, "image")
            self._waiting.append(why)
            text = f"waits with {name_of(sidecar)}, which {why.reason}"
            partner = replace(why, reason=text if image else why.reason, kind="partner")
            self._waiting += [replace(partner, path=path) for path in beside]
            return
        error = self._errors.get(sidecar) or ImageMissing(f"waited an hour for {image}")
        if len(beside) > 1:
            error = _ambiguous(sidecar, beside, error)
        self._ready += [Candidate(path, sidecar, error) for path in beside or (None,)]

    def _lone(self, image: str) -> None:
        """Let an image that no file names wait for a sidecar; then make it ready without one."""
        settled = self._tracker.settled_since(image)
        if settled is None:
            self._writing(image)
            return
        if (content := pass_of(image, self._stems.__contains__)) is not None:
            self._waiting.append(Waiting(image, PASS_REASON.format(content), None, True, "pass"))
            return
        wait = self._inbox.sidecar_wait_s
        changed = self._tracker.folder_changed_at(folder_of(image))
        until = self._quiet_at(settled, changed, wait)
        required = self._inbox.sidecar_required
        if self._now < until:
            self._waiting.append(Waiting(image, self._lone_reason, until, wait > LONG_S, "sidecar"))
            return
        if (other := self._possible_owner(image)) is not None:
            self._waiting.append(self._for_unread(image, other, "may name it and "))
            return
        error = SidecarMissing(f"{name_of(image)}: waited {wait:g} s") if required else None
        self._ready.append(Candidate(image, None, error))

    def _arrival(self, candidate: Candidate) -> tuple[float, str, str]:
        path = candidate.image or candidate.table or candidate.sidecar or ""
        since = self._tracker.unchanged_since(path)
        return (self._now if since is None else since, path, candidate.sidecar or "")


def _ambiguous(sidecar: str, images: Sequence[str], error: JobError | None) -> SidecarAmbiguous:
    """Error of a YAML whose name fits several images, with what else is wrong with the YAML."""
    text = f"{name_of(sidecar)} could tell {', '.join(map(name_of, images[:5]))}"
    return SidecarAmbiguous(text if error is None else f"{text}; {error.detail}")
