"""What belongs together: images with the YAML that tells how. Pure, and linear in the files.

A YAML with an `image:` key is a job file and speaks for that image; `cat.png.yaml` tells
`cat.png`; `cat.yaml` tells the one image called `cat` that nothing else speaks for. Whatever is
not yet certain waits, and says why.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from dna_pipeline.errors import (
    ImageMissing,
    JobError,
    PathEscapesInbox,
    SidecarAmbiguous,
    SidecarMissing,
)
from dna_pipeline.inbox.scan import is_image_name, is_yaml_name
from dna_pipeline.inbox.stability import StabilityTracker, folder_of
from dna_pipeline.spec.config import Inbox
from dna_pipeline.spec.sidecar import inside_path

IMAGE_WAIT_S = 3600.0
"""How long a YAML waits for its image."""

LONG_S = 60.0
"""Waits of more than this are not sat out by a one-shot `run`."""

RESTARTS = 12
"""A lone image waits at most so many times `sidecar_wait_s`, or a folder into which something
comes every few seconds, for ever, would never have its images taken."""

ImageOf = Callable[[str], str | JobError | None]
"""The `image:` of the settled YAML at that path, as written; None where it has none. A `JobError`
where the YAML cannot be read; `PathEscapesInbox` where that is already known."""

WaitKind = Literal["writing", "partner", "sidecar", "image"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A drop to take in. With an `error` it is taken in all the same, to fail and say why.

    Attributes:
        image: its path; None where the YAML waited in vain or names what it may not.
        sidecar: the YAML's path. Several candidates have the same one if it is ambiguous, and a
            job file's image is in several if the inbox keeps its originals; else no file is in two.
    """

    image: str | None
    sidecar: str | None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is not taken in yet.

    Attributes:
        reason: for people.
        until: monotonic time at which this ends unless something changes; None if unknown.
        long: more than a one-shot `run` should sit out.
        kind: `writing`: has not settled; `partner`: another file of the same drop has not;
            `sidecar`: an image that may get one; `image`: a YAML whose image is not there.
    """

    path: str
    reason: str
    until: float | None
    long: bool
    kind: WaitKind


@dataclass(frozen=True, slots=True)
class Pairing:
    """What one look at the inbox comes to; `ready` in the order of arrival.

    Attributes:
        named: where job files say their images are; give it to the next `scan`.
    """

    ready: list[Candidate]
    waiting: list[Waiting]
    named: frozenset[str]

    @property
    def next_at(self) -> float | None:
        """When to pair again even if nothing changes."""
        return min((w.until for w in self.waiting if w.until is not None), default=None)


def pair(
    inbox: Inbox, paths: Iterable[str], tracker: StabilityTracker, image_of: ImageOf
) -> Pairing:
    """Sort the files of the last scan into drops, as of the tracker's last look.

    Args:
        paths: images and YAMLs, relative to the inbox; their order does not matter.
        image_of: asked for settled YAMLs only, once each; keeps its own cache between calls.
    """
    images: list[str] = []
    yamls: list[str] = []
    for path in paths:
        if is_image_name(path):
            images.append(path)
        elif is_yaml_name(path):
            yamls.append(path)
    yamls.sort(key=lambda path: (path.lower().endswith(".yml"), path))
    return _Round(inbox, tracker, sorted(images)).run(yamls, image_of)


def tells(sidecar: str, image: str) -> bool:
    """Whether a plain sidecar of that path could tell the image of that path, by their names."""
    told = _bare(sidecar)
    return _fold(told) == _fold(image) or _nfc(told) == _nfc(_bare(image))


def _bare(path: str) -> str:
    return path.rpartition(".")[0]


def _nfc(path: str) -> str:
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def _fold(path: str) -> str:
    """Composed, the extension in small letters: `CAT.PNG` and `CAT.png` are one name."""
    stem, dot, suffix = path.rpartition(".")
    return _nfc(f"{stem}{dot}{suffix.lower()}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


_Key = Callable[[str], str]
_MATCHES: tuple[tuple[_Key, _Key], ...] = (
    (lambda image: image, _bare),
    (_fold, lambda sidecar: _fold(_bare(sidecar))),
    (_bare, _bare),
    (lambda image: _nfc(_bare(image)), lambda sidecar: _nfc(_bare(sidecar))),
)
"""What of an image's path must equal what of a YAML's. The whole name comes before the stem, and
byte by byte before alike, so that twins in two Unicode forms each find their own."""


class _Round:
    """One call of `pair`."""

    def __init__(self, inbox: Inbox, tracker: StabilityTracker, images: list[str]) -> None:
        self._inbox = inbox
        self._tracker = tracker
        self._now = tracker.looked_at
        self._images = images
        self._free = dict.fromkeys(images)
        self._errors: dict[str, JobError] = {}
        self._named: set[str] = set()
        self._ready: list[Candidate] = []
        self._waiting: list[Waiting] = []
        which = ", which this inbox requires" if inbox.sidecar_required else ""
        self._lone_reason = f"waits {inbox.sidecar_wait_s:g} s for a sidecar{which}"

    def run(self, yamls: list[str], image_of: ImageOf) -> Pairing:
        plain = self._read(yamls, image_of)
        for sidecar, images in self._match(plain).items():
            if images:
                self._told(sidecar, images)
            else:
                self._orphan(sidecar, f"an image called {_name(_bare(sidecar))}")
        for image in self._free:
            self._lone(image)
        self._ready.sort(key=self._arrival)
        return Pairing(self._ready, self._waiting, frozenset(self._named))

    def _read(self, yamls: list[str], image_of: ImageOf) -> list[str]:
        """Deal with the job files; gives the YAMLs that are none, or not known to be."""
        plain: list[str] = []
        jobs: dict[str, str] = {}
        for path in yamls:
            answer = image_of(path) if self._tracker.is_settled(path) else None
            try:
                if isinstance(answer, PathEscapesInbox):
                    raise answer
                if isinstance(answer, str):
                    jobs[path] = _join(folder_of(path), inside_path(answer))
                    continue
            except PathEscapesInbox as error:
                self._ready.append(Candidate(None, path, error))
                continue
            if answer is not None:
                self._errors[path] = answer
            plain.append(path)
        self._job_files(jobs)
        return plain

    def _job_files(self, jobs: dict[str, str]) -> None:
        self._named.update(jobs.values())
        index: dict[str, list[str]] = {}
        for image in self._images if jobs else ():
            index.setdefault(_fold(image), []).append(image)
        speaker: dict[str, str] = {}
        for sidecar, target in jobs.items():
            found = index.get(_fold(target), [])
            image = target if target in found else found[0] if found else None
            if image is None:
                self._orphan(sidecar, f"{target}, which its image: key names")
            elif image in speaker and not self._inbox.keeps:
                self._orphan(sidecar, f"{target}, which {speaker[image]} takes")
            else:
                speaker[image] = sidecar
                self._free.pop(image, None)
                self._told(sidecar, [image])

    def _match(self, plain: list[str]) -> dict[str, list[str]]:
        """The images that each plain YAML tells by its name; they are no longer free."""
        told: dict[str, list[str]] = {sidecar: [] for sidecar in plain}
        for image_key, sidecar_key in _MATCHES:
            wanted: dict[str, str] = {}
            for sidecar in plain:
                if not told[sidecar]:
                    wanted.setdefault(sidecar_key(sidecar), sidecar)
            if not wanted:
                break
            for image in list(self._free):
                sidecar = wanted.get(image_key(image))
                if sidecar is not None:
                    told[sidecar].append(image)
                    del self._free[image]
        return told

    def _told(self, sidecar: str, images: list[str]) -> None:
        """A YAML and what it tells: ready when all of it has settled."""
        files = [sidecar, *images]
        moving = [path for path in files if not self._tracker.is_settled(path)]
        if moving:
            for path in files:
                self._wait_for(path, moving)
            return
        error = self._errors.get(sidecar)
        if len(images) > 1:
            names = ", ".join(_name(image) for image in images[:5])
            error = SidecarAmbiguous(f"{_name(sidecar)} could tell {names}")
        self._ready.extend(Candidate(image, sidecar, error) for image in images)

    def _wait_for(self, path: str, moving: list[str]) -> None:
        if path in moving:
            self._writing(path)
            return
        reason = f"waits for {_name(moving[0])}, which is still being written"
        ends = [self._tracker.settles_at(other) or self._now for other in moving]
        long = self._tracker.settle_s > LONG_S
        self._waiting.append(Waiting(path, reason, max(ends), long, "partner"))

    def _writing(self, path: str) -> None:
        until = self._tracker.settles_at(path)
        long = self._tracker.settle_s > LONG_S
        self._waiting.append(Waiting(path, "still being written", until, long, "writing"))

    def _orphan(self, sidecar: str, image: str) -> None:
        """A YAML whose image, in words, is not there."""
        settled = self._tracker.settled_since(sidecar)
        if settled is None:
            self._writing(sidecar)
            return
        until = settled + IMAGE_WAIT_S
        if self._now < until:
            self._waiting.append(Waiting(sidecar, f"waits for {image}", until, True, "image"))
            return
        error = self._errors.get(sidecar) or ImageMissing(f"waited an hour for {image}")
        self._ready.append(Candidate(None, sidecar, error))

    def _lone(self, image: str) -> None:
        """An image that no YAML tells: it waits a while for one that may come."""
        settled = self._tracker.settled_since(image)
        if settled is None:
            self._writing(image)
            return
        wait = self._inbox.sidecar_wait_s
        changed = self._tracker.folder_changed_at(folder_of(image))
        until = min(max(settled, changed) + wait, settled + RESTARTS * wait)
        required = self._inbox.sidecar_required
        if self._now < until:
            self._waiting.append(Waiting(image, self._lone_reason, until, wait > LONG_S, "sidecar"))
            return
        error = SidecarMissing(f"{_name(image)}: waited {wait:g} s") if required else None
        self._ready.append(Candidate(image, None, error))

    def _arrival(self, candidate: Candidate) -> tuple[float, str, str]:
        path = candidate.image or candidate.sidecar or ""
        since = self._tracker.unchanged_since(path)
        return (self._now if since is None else since, path, candidate.sidecar or "")


def _join(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path
