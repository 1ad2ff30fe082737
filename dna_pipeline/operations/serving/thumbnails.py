"""Thumbnails of results: where they are, and requests to the daemon for those that are missing.

They are made by the worker alone: a server answers many people, and a picture may be large or
damaged.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import thumbnails
from dna_pipeline.ledger.engine import LedgerError
from dna_pipeline.operations.serving.gallery import kind_of
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.result_files import ORIGINAL
from dna_pipeline.operations.serving.submissions import Submissions
from dna_pipeline.publish.sheet.entries import SOURCE, SheetFile, of_jobs, thumbnail_path
from dna_pipeline.publish.sheet.folder import SUFFIX

ASK_AGAIN_S = 300.0
"""Time until the same thumbnail is requested again."""
MOST_REMEMBERED = 5000
MEDIA_TYPE = "image/webp"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """The small picture of a result.

    Attributes:
        sha256: hash of the picture of which it is made; "" if the result has none.
        path: its file; None if it is not there yet.
        kind: `mesh`, `film` or `picture`: what the result is.
        place: path of the picture below the outbox.
        name: path of the picture in the job's folder; None for an original that was dropped.
    """

    sha256: str
    path: Path | None
    kind: str
    place: str = ""
    name: str | None = None

    @property
    def role(self) -> str | None:
        """Role of the picture's file if it is no artifact."""
        return ORIGINAL if self.name is None else None


def kept(config: Config, sha256: str) -> Path | None:
    """The thumbnail of a picture with that hash; None if there is none yet, or it is no hash."""
    try:
        path = thumbnail_path(config.thumbnails, sha256, SUFFIX)
    except ValueError:
        return None
    return path if path.is_file() else None


def find(config: Config, readers: Readers, job_id: str) -> Thumbnail | None:
    """Find the thumbnail of a job's result; None if the job has no folder in the outbox.

    Raises:
        ConfigError: the ledger cannot be read.
    """
    with readers.lend() as queries:
        entries = of_jobs(queries, [job_id], has_sidecars=False)
    if not entries:
        return None
    (entry,) = entries
    kind = kind_of(file.media_type for file in entry.files)
    if (picture := entry.picture) is None:
        return Thumbnail("", None, kind)
    name = None if picture.role == SOURCE else _name_in(entry.folder or "", picture)
    path = kept(config, picture.sha256)
    return Thumbnail(picture.sha256, path, kind, picture.path, name)


def _name_in(folder: str, picture: SheetFile) -> str:
    return picture.path.removeprefix(f"{folder}/")


class ThumbnailRequests:
    """Asks the daemon for thumbnails, for each once in a while. Threads may share it."""

    def __init__(self, config: Config, submissions: Submissions) -> None:
        self._config = config
        self._submissions = submissions
        self._asked_at: dict[str, float] = {}

    def ask(self, pictures: Mapping[str, str]) -> int:
        """Ask for those of these pictures' thumbnails that are missing; give their number.

        Args:
            pictures: paths below the outbox by SHA-256.

        Raises:
            ConfigError: the ledger cannot be written.
        """
        now = time.monotonic()
        missing = {
            sha256: place
            for sha256, place in pictures.items()
            if now >= self._asked_at.get(sha256, -ASK_AGAIN_S) + ASK_AGAIN_S
            and kept(self._config, sha256) is None
        }
        if missing:
            if len(self._asked_at) > MOST_REMEMBERED:
                self._asked_at.clear()
            self._asked_at |= dict.fromkeys(missing, now)
            try:
                self._submissions.transact(lambda s: thumbnails.request(s, missing))
            except LedgerError as error:
                raise ConfigError(f"the ledger cannot be written: {error}") from None
        return len(missing)
