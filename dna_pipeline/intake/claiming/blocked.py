"""Track images that block their batch because they cannot be read or claimed.

A batch is claimed as a whole or not at all, so one blocked image would make its claim start again
for ever. The claim is retried for a while, in which somebody may grant a permission or a program
may close the file; then the row of the image gets an error, and the other rows run.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.base.filesystem import is_disk_fault
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.naming_files import IMAGE_WAIT_S
from dna_pipeline.intake.discovery.stability import StabilityTracker

RETRY_S = 30.0
"""Pause between two attempts to claim an image that may not be moved. Each attempt moves the table
into its claim and back."""

REFUSED_WAIT_S = 60.0
"""Time in which the claim of an image is retried that turned out to be no plain file of this file
system. The image was one when the batch was planned, so files may be moving."""

STALE_S = 600.0
"""Longest time between two failures that still count as one lasting block."""

_HINT = "Give the daemon the right to read and move it, then drop the table again."


@dataclass(slots=True)
class _Block:
    since: float
    last: float
    limit_s: float
    retry_s: float
    why: str


class BlockedImages:
    """Blocked images of one inbox, by batch and path. Time is that of the tracker's last scan."""

    def __init__(self, tracker: StabilityTracker) -> None:
        self._tracker = tracker
        self._blocks: dict[tuple[str, Path], _Block] = {}

    def is_blocked(self, batch: str, image: Path) -> bool:
        """True if the image could not be read or claimed at the last attempt."""
        return (batch, image) in self._blocks

    def final_error(self, batch: str, image: Path) -> ImageUnreadable | None:
        """Error of an image that was blocked for too long; None while its claim may be tried."""
        block = self._blocks.get((batch, image))
        if block is None or self._tracker.looked_at > block.last + STALE_S:
            return None
        if block.last - block.since < block.limit_s:
            return None
        minutes = round(block.limit_s / 60)
        return ImageUnreadable(f"cannot be taken in for {minutes} min: {block.why}", hint=_HINT)

    def wait_reason(self, batch: str, image: Path) -> str | None:
        """Reason of the last failure if it is too early to try again, else None."""
        block = self._blocks.get((batch, image))
        if block is None or self._tracker.looked_at >= block.last + block.retry_s:
            return None
        return block.why

    def note_unreadable(self, batch: str, image: Path, why: str) -> None:
        """Record that the decoder could not read an image."""
        self._note(batch, image, why, IMAGE_WAIT_S, 0.0)

    @contextmanager
    def recording_failures(self, batch: str, image: Path | None) -> Generator[None]:
        """Record the failure of an image that cannot be claimed, and raise the error again."""
        try:
            yield
        except (claims.ClaimError, OSError) as error:
            if image is not None and not is_disk_fault(error):
                is_refused = isinstance(error, claims.Refused)
                limit_s = REFUSED_WAIT_S if is_refused else IMAGE_WAIT_S
                # A file that changed or vanished will soon settle or stay away, so it is retried at
                # once.
                retry_s = 0.0 if isinstance(error, claims.Changed | claims.Lost) else RETRY_S
                self._note(batch, image, str(error), limit_s, retry_s)
            raise

    def forget(self, batch: str) -> None:
        """Forget the images of a batch that was claimed."""
        for key in [key for key in self._blocks if key[0] == batch]:
            del self._blocks[key]

    def _note(self, batch: str, image: Path, why: str, limit_s: float, retry_s: float) -> None:
        now = self._tracker.looked_at
        before = self._blocks.get((batch, image))
        since = now if before is None or now > before.last + STALE_S else before.since
        self._blocks[batch, image] = _Block(since, now, limit_s, retry_s, why)
