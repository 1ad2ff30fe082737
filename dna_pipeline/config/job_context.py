"""Facts of an image and its place that a job's parameters may depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class JobContext:
    """Facts about a job that exist before its parameters are resolved.

    Attributes:
        name: name of the image's file, as text.
        folder: its folder below the inbox, with forward slashes; "" for the inbox itself.
        batch: name of the batch; "" if the job belongs to none.
        row: row of the table, from 1; None if the job comes from no table.
        sha256: SHA-256 of the image's bytes; None if they have not been read.
        file: the image itself, where it lies now; None if that is not known yet.
        result_name: template of the result folder's name if neither the sidecar nor the inbox has
            one; None: the image's stem.
    """

    name: str = ""
    folder: str = ""
    inbox: str = ""
    batch: str = ""
    row: int | None = None
    sha256: str | None = None
    file: Path | None = field(default=None, compare=False)
    result_name: str | None = None

    @property
    def content(self) -> int | None:
        """Seed made from the image's bytes: the first 32 bits of their hash."""
        return None if self.sha256 is None else int(self.sha256[:8], 16)

    def fields(self) -> dict[str, str]:
        """The fields that templates may use, by name."""
        return {
            "name": self.name, "stem": PurePosixPath(self.name).stem, "folder": self.folder,
            "inbox": self.inbox, "batch": self.batch, "row": str(self.row or ""),
        }  # fmt: skip
