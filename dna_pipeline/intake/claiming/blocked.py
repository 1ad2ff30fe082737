"""Images that hold up their batch, since they cannot be read or taken in, and for how long.

A batch is taken in whole or not at all, so one such image would let it begin again and again for
ever. It does so for a while, in which a right may be given or a program may close the file; then
the image's row is wrong, and the others run.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.pairing import IMAGE_WAIT_S
from dna_pipeline.intake.discovery.stability import StabilityTracker

RETRY_S = 30.0
"""Pause between two tries to take an image that may not be moved. Each try moves the table into its
claim and back."""

REFUSED_WAIT_S = 60.0
"""Time in which an image is tried again that turned out to be no plain file of this file system. It
was one when the batch was planned, so files may be on the move."""

STALE_S = 600.0
"""Longest time between two failures that still count as one lasting block."""

_HINT = "Give the daemon the right to read and move it, then drop the table again."


@dataclass(slots=True)
class _Block:
    since: float
    last: float
    patience_s: float
    retry_s: float
    why: str


class BlockedImages:
    """Blocked images of one inbox, by batch and path. Time is that of the tracker's last look."""

    def __init__(self, tracker: StabilityTracker) -> None:
        self._tracker = tracker
        self._blocks: dict[tuple[str, Path], _Block] = {}

    def is_blocked(self, batch: str, image: Path) -> bool:
        """True if the image could not be read or claimed at the last attempt."""
        return (batch, image) in self._blocks

    def given_up(self, batch: str, image: Path) -> ImageUnreadable | None:
        """The error of an image that was blocked for too long; None while it may be tried."""
        block = self._blocks.get((batch, image))
        if block is None or self._tracker.looked_at > block.last + STALE_S:
            return None
        if block.last - block.since < block.patience_s:
            return None
        minutes = round(block.patience_s / 60)
        return ImageUnreadable(f"cannot be taken in for {minutes} min: {block.why}", hint=_HINT)

    def rests(self, batch: str, image: Path) -> str | None:
        """Reason of the last failure if it is too early to try again, else None."""
        block = self._blocks.get((batch, image))
        if block is None or self._tracker.looked_at >= block.last + block.retry_s:
            return None
        return block.why

    def note_unread(self, batch: str, image: Path, why: str) -> None:
        """Take note that the decoder could not read it."""
        self._note(batch, image, why, IMAGE_WAIT_S, 0.0)

    @contextmanager
    def noting(self, batch: str, image: Path | None) -> Generator[None]:
        """Take note of an image that cannot be taken in; the error passes."""
        try:
            yield
        except claims.ClaimError as error:
            if image is not None:
                is_refused = isinstance(error, claims.Refused)
                patience_s = REFUSED_WAIT_S if is_refused else IMAGE_WAIT_S
                # What changed or went is moving on, and soon done.
                retry_s = 0.0 if isinstance(error, claims.Changed | claims.Lost) else RETRY_S
                self._note(batch, image, str(error), patience_s, retry_s)
            raise

    def forget(self, batch: str) -> None:
        """Forget the images of a batch that was taken in."""
        for key in [key for key in self._blocks if key[0] == batch]:
            del self._blocks[key]

    def _note(self, batch: str, image: Path, why: str, patience_s: float, retry_s: float) -> None:
        now = self._tracker.looked_at
        before = self._blocks.get((batch, image))
        since = now if before is None or now > before.last + STALE_S else before.since
        self._blocks[batch, image] = _Block(since, now, patience_s, retry_s, why)
