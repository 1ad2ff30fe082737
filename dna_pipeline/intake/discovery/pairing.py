"""Join images with their YAMLs and tables. Pure, and linear in the number of files.

    classify each YAML and table → assign each image to one of them → derive who waits, and for what

A YAML with an `image:` key is a job file for that image; a YAML with `images:`, like a table, asks
for jobs of several images. `cat.png.yaml` is the sidecar of `cat.png`; `cat.yaml` is the sidecar of
the one image called `cat` that no other file names. In an inbox whose pipeline uses masks,
`cat.mask.png` is the mask of `cat.png`. An image that a YAML or a table names as the mask of
another is no picture, unless it has a sidecar of its own. A file whose partner is not yet certain
waits, with a reason.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from functools import cached_property

from dna_pipeline.base.naming import name_of, nfc
from dna_pipeline.config.image_paths import matches
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.discovery.candidates import (
    Pairing,
    ReadCompanions,
    ReadReference,
    References,
    no_companions,
)
from dna_pipeline.intake.discovery.mask_names import MaskNames, masks_of
from dna_pipeline.intake.discovery.names import MATCHES, NEAR_MATCHES, Key, fold, without_suffix
from dna_pipeline.intake.discovery.naming_files import NamingFile, classify
from dna_pipeline.intake.discovery.scan import is_image_name, is_yaml_name
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.discovery.waits import Waits


def pair(
    inbox: Inbox,
    paths: Iterable[str],
    tracker: StabilityTracker,
    image_of: ReadReference,
    looked_for: Container[str] | None = None,
    read_companions: ReadCompanions = no_companions,
) -> Pairing:
    """Sort the files of the last scan into candidates, as of the tracker's last look.

    Args:
        paths: images, YAMLs and tables, relative to the inbox; their order does not matter.
        image_of: called once for each settled YAML and table; keeps its own cache between calls.
        looked_for: the paths that the scan looked up one by one (its `referenced`). An image that
            is neither in `paths` nor in `looked_for` may exist all the same: the file that names it
            waits for the next scan. None if the scan looked for all images.
        read_companions: likewise.
    """
    images: list[str] = []
    yamls: list[str] = []
    tables: list[str] = []
    prompts: list[str] = []
    for path in paths:
        if is_image_name(path):
            images.append(path)
        elif is_yaml_name(path):
            yamls.append(path)
        elif is_table_name(path):
            tables.append(path)
        elif is_prompt_file(path):
            prompts.append(path)
    images.sort()
    masks = masks_of(images) if inbox.pairs_masks else MaskNames(images, {}, {})
    images = masks.pictures
    yamls.sort(key=lambda path: (path.lower().endswith(".yml"), path))
    files = list(classify(inbox, tracker, yamls, sorted(tables), image_of, read_companions))
    files += map(NamingFile, sorted(prompts))
    owners = _Owners(inbox, images, looked_for)
    owners.take_companions(files, masks)
    owners.assign(files)
    waits = Waits(inbox, tracker, images, masks)
    waits.derive(files, owners.free)
    return Pairing(waits.ready, waits.waiting, frozenset(owners.referenced), waits.held)


class _Owners:
    """Assigns images to the files that name them.

    Attributes:
        free: images that no file gets.
        referenced: paths of images that job files and batches name.
    """

    def __init__(
        self, inbox: Inbox, images: Sequence[str], looked_for: Container[str] | None
    ) -> None:
        self._keeps = inbox.keeps
        self._looked_for = looked_for
        self._images = images
        self._owner_of: dict[str, str] = {}
        self._alike: dict[str, list[str]] = {}
        self._masked_by: dict[str, list[NamingFile]] = {}
        """The files that name a picture as a mask, for pictures with sidecars of their own."""
        self.free = dict.fromkeys(images)
        self.referenced: set[str] = set()

    @cached_property
    def _all(self) -> frozenset[str]:
        return frozenset(self._images)

    def take_companions(self, files: Sequence[NamingFile], masks: MaskNames) -> None:
        """Take the companions that files name out of the images, unless one is named as an image
        or has a sidecar of its own."""
        if not any(file.companions for file in files):
            return
        there = {*masks.pictures, *masks.mask_of.values(), *masks.alone}
        stored = {nfc(path): path for path in there}
        sidecars = [file.path for file in files if file.names is None and not file.is_table]
        keys = [(of_image, set(map(key, sidecars))) for of_image, key in MATCHES]
        named = {file.names for file in files if isinstance(file.names, str)}
        for file in files:
            named.update(file.names.paths if isinstance(file.names, References) else ())
        for file in files:
            self.referenced.update(file.companions)
            file.companions = tuple(
                path if path in there else stored.get(nfc(path), path) for path in file.companions
            )
            file.lacking = [path for path in file.companions if path not in there]
            file.is_unknown = any(map(self._is_unknown, file.lacking))
            for path in file.companions:
                if path in named:
                    continue
                if path in self.free and any(of_image(path) in names for of_image, names in keys):
                    self._masked_by.setdefault(path, []).append(file)
                else:
                    self.free.pop(path, None)

    def assign(self, files: Sequence[NamingFile]) -> None:
        """Assign each image first to a file that names its path, then to its sidecar.

        So globs come last: they get only images that no other file gets.
        """
        job_files = [file for file in files if isinstance(file.names, str)]
        batches = [(file, file.names) for file in files if isinstance(file.names, References)]
        if job_files or batches:
            for image in self.free:
                self._alike.setdefault(fold(image), []).append(image)
        for file in job_files:
            self._assign_path(file, str(file.names))
        for file, names in batches:
            self._assign_paths(file, names)
        plain = [file for file in files if file.names is None and not file.is_table]
        prompts = [file for file in plain if file.is_prompt]
        plain = [file for file in plain if not file.is_prompt]
        # An image with a YAML and a prompt file gets the YAML.
        for group in (plain, prompts):
            for file, images in self._match(group, MATCHES):
                file.images = images
        for file, images in self._match([file for file in job_files if file.lacks], MATCHES):
            file.near = images
        lone = [file for file in plain if not file.images and file.unread is None]
        lone = [file for file in lone if not is_table_name(without_suffix(file.path))]
        for file, images in self._match(lone, NEAR_MATCHES):
            file.near = images
        self._hold([*plain, *prompts])
        for file, names in batches:
            file.images += self._fitting(names)
            alike = ((path, image) for path in file.missing for image in self._images_like(path))
            owners = ((p, name_of(self._owner_of[i])) for p, i in alike if i in self._owner_of)
            file.claimed_by_others = tuple(dict(owners).items())

    def _hold(self, files: Sequence[NamingFile]) -> None:
        """Hold the sidecars of pictures that other files name as masks until those are claimed:
        their claims copy the mask from the inbox, and the picture's own claim moves it.

        Files that would wait for one another in a circle are not held.
        """
        if self._keeps:
            return
        waiting: dict[NamingFile, list[NamingFile]] = {}
        for file in files:
            others = [o for image in file.images for o in self._masked_by.get(image, ())]
            if others := [other for other in others if other is not file]:
                waiting[file] = others
        free = [other for others in waiting.values() for other in others if other not in waiting]
        while free:
            first = free.pop()
            held = [file for file, others in waiting.items() if first in others]
            for file in held:
                file.held_by = first.path
                del waiting[file]
            free += held

    def _assign_path(self, file: NamingFile, target: str) -> None:
        self.referenced.add(target)
        alike = self._images_like(target)
        image = target if target in alike else alike[0] if alike else None
        if image is None:
            file.is_unknown = file.is_unknown or self._is_unknown(target)
            file.lacks = f"{target}, which its image: key names"
        elif image in self._owner_of and not self._keeps:
            file.lacks = f"{target}, which {self._owner_of[image]} takes"
        else:
            self._take(image, file)

    def _assign_paths(self, file: NamingFile, names: References) -> None:
        self.referenced.update(names.paths)
        # An inbox that keeps its originals gives an image to several files.
        there = self._all if self._keeps else self.free
        images: dict[str, None] = {}
        for path in names.paths:
            alike = (path, *self._images_like(path))
            if (image := next((image for image in alike if image in there), None)) is not None:
                images[image] = None
            else:
                file.missing.append(path)
        for image in images:
            self._take(image, file)
        file.is_unknown = file.is_unknown or any(map(self._is_unknown, file.missing))

    def _take(self, image: str, file: NamingFile) -> None:
        file.images.append(image)
        self.free.pop(image, None)
        if isinstance(file.names, str):
            self._owner_of[image] = file.path
        else:
            self._owner_of.setdefault(image, file.path)

    def _fitting(self, names: References) -> list[str]:
        """Free images that a glob fits; they are then free no longer."""
        fitting = [i for i in self.free if any(matches(i, p) for p in names.patterns)]
        for image in fitting:
            del self.free[image]
        return fitting

    def _match(
        self, files: Sequence[NamingFile], keys: tuple[tuple[Key, Key], ...]
    ) -> Iterable[tuple[NamingFile, list[str]]]:
        """Images that the name of each file fits; they are then free no longer."""
        images_of: dict[str, list[str]] = {file.path: [] for file in files}
        for image_key, sidecar_key in keys:
            by_key: dict[str, str] = {}
            for sidecar, images in images_of.items():
                if not images:
                    by_key.setdefault(sidecar_key(sidecar), sidecar)
            if not by_key:
                break
            for image in list(self.free):
                sidecar = by_key.get(image_key(image))
                if sidecar is not None:
                    images_of[sidecar].append(image)
                    del self.free[image]
        return [(file, images_of[file.path]) for file in files]

    def _images_like(self, path: str) -> list[str]:
        return self._alike.get(fold(path), [])

    def _is_unknown(self, path: str) -> bool:
        return self._looked_for is not None and path not in self._looked_for
