"""Find images that a job file or a table names and that were claimed before that file came."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dna_pipeline.base.clock import briefly
from dna_pipeline.base.quantities import number_of
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.image_paths import matches
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.names import fold
from dna_pipeline.intake.discovery.scan import is_image_name
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger

WINDOW = timedelta(hours=12)
"""Longest time since the claim of an image that a new file may still mean."""

MOST_LOOKED_AT = 1000
"""Most jobs of an inbox that are searched, the newest: the search must be cheap, since its message
is only a help."""


@dataclass(frozen=True, slots=True)
class RecentImage:
    """An image that was claimed, and its newest job.

    Attributes:
        path: its path in the inbox.
        job: id of that job.
        at: time at which it was claimed.
        file: name of the table or job file that asked for that job; None if none did.
    """

    path: str
    job: str
    at: datetime
    file: str | None


class RecentImages:
    """Images of one inbox that were claimed within `WINDOW` before the creation of this object."""

    def __init__(self, ledger: Ledger, inbox: Inbox) -> None:
        since = utcnow() - WINDOW
        rows = ledger.transact(lambda s: drops.recent_jobs(s, inbox.name, MOST_LOOKED_AT))
        self._images: dict[str, RecentImage] = {}
        for folder, name, job, at, file in rows:
            path = posixpath.join(folder, name)
            if at >= since and is_image_name(name):
                self._images.setdefault(fold(path), RecentImage(path, job, at, file))

    def explanation(self, paths: Iterable[str], patterns: Iterable[str] = ()) -> str:
        """Sentence about the recent images at one of the paths, or that one of the globs fits, and
        that so were claimed before the file that names them; "" if there are none."""
        globs = list(patterns)
        by_path = [self._images.get(fold(path)) for path in dict.fromkeys(paths)]
        images = {image for image in by_path if image is not None}
        if globs:
            others = self._images.values()
            images |= {i for i in others if any(matches(i.path, glob) for glob in globs)}
        return _sentence(max(images, key=lambda i: i.at), len(images)) if images else ""


def _sentence(newest: RecentImage, number: int) -> str:
    at, job = briefly(newest.at, utcnow()), newest.job[:8]
    name = f"job {job}" if newest.file is None else f"job {job} of {newest.file}"
    if number == 1:
        what, it = f"{newest.path} was taken in at {at} as {name}", "it"
    else:
        others = number_of(number - 1, "more image")
        what, it = f"{newest.path} (at {at}, as {name}) and {others} were taken in", "them"
    what = f"{what}, before this file came"
    if newest.file is not None:
        # That job was asked for, perhaps by someone else, so nobody is advised to cancel it.
        keeps = f"that job does what {newest.file} says"
        return f"{what}; {keeps}. To have this file used too, drop {it} again"
    return (
        f"{what}; to have this file used, drop {it} again "
        f"(`dna-pipeline cancel {job}` ends that job if it still waits)"
    )
