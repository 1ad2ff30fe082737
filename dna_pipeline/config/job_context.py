"""What a job's parameters may depend on besides what people wrote: the image and its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class JobContext:
    """What is known of a job before its parameters are.

    Attributes:
        name: of the image's file, as text.
        folder: in which it lay, below the inbox, with forward slashes; "" for the inbox itself.
        batch: the name of the batch; "" where it belongs to none.
        row: of the table that it comes from, from 1.
        sha256: of the image's bytes; None where they were not read.
    """

    name: str = ""
    folder: str = ""
    inbox: str = ""
    batch: str = ""
    row: int | None = None
    sha256: str | None = None

    @property
    def content(self) -> int | None:
        """The seed that the bytes stand for: the first 32 bits of their hash."""
        return None if self.sha256 is None else int(self.sha256[:8], 16)

    def fields(self) -> dict[str, str]:
        """What templates may name of it."""
        return {
            "name": self.name, "stem": PurePosixPath(self.name).stem, "folder": self.folder,
            "inbox": self.inbox, "batch": self.batch, "row": str(self.row or ""),
        }  # fmt: skip
