"""Images that a job file or a table names in vain, since they were taken in before it came."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dna_pipeline.base.times import utcnow
from dna_pipeline.config.image_paths import matches
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.names import fold
from dna_pipeline.intake.discovery.scan import is_image_name
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger

WINDOW = timedelta(hours=12)
"""An image that was taken in longer ago than this is hardly the one that is meant."""

MOST_LOOKED_AT = 1000
"""So many of the newest jobs of an inbox are looked at: this is to be cheap, and only helps."""


@dataclass(frozen=True, slots=True)
class RecentImage:
    """An image that was taken in, by its path in the inbox, and its newest job."""

    path: str
    job: str
    at: datetime


class RecentImages:
    """The images that one inbox took in lately, as of when this was made."""

    def __init__(self, ledger: Ledger, inbox: Inbox) -> None:
        since = utcnow() - WINDOW
        rows = ledger.transact(lambda s: drops.recent_jobs(s, inbox.name, MOST_LOOKED_AT))
        self._images: dict[str, RecentImage] = {}
        for folder, name, job, at in rows:
            path = posixpath.join(folder, name)
            if at >= since and is_image_name(name):
                self._images.setdefault(fold(path), RecentImage(path, job, at))

    def find(self, paths: Iterable[str], patterns: Iterable[str] = ()) -> list[RecentImage]:
        """Those with one of these paths, or that fit one of these globs; the newest first."""
        globs = list(patterns)
        named = [self._images.get(fold(path)) for path in dict.fromkeys(paths)]
        found = {image for image in named if image is not None}
        if globs:
            images = self._images.values()
            found |= {i for i in images if any(matches(i.path, glob) for glob in globs)}
        return sorted(found, key=lambda image: image.at, reverse=True)


def explanation(images: list[RecentImage]) -> str:
    """A sentence about images that were taken in before the file that names them; "" for none."""
    if not images:
        return ""
    newest = images[0]
    job = newest.job[:8]
    if len(images) == 1:
        what = f"{newest.path} was taken in at {_clock(newest.at)} as job {job}"
    else:
        others = f"{len(images) - 1:,} more image{'s' if len(images) > 2 else ''}"
        what = f"{newest.path} (at {_clock(newest.at)}, as job {job}) and {others} were taken in"
    it = "it" if len(images) == 1 else "them"
    return (
        f"{what}, before this file came; to have this file used, drop {it} again "
        f"(`dna-pipeline cancel {job}` ends that job if it still waits)"
    )


def _clock(at: datetime) -> str:
    """A time of day; with the date if that is not today's."""
    local = at.astimezone()
    is_today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M}" if is_today else f"{local:%Y-%m-%d %H:%M}"
