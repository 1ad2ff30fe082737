"""Check whether a settled file may still be half written."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path

from dna_pipeline.base.errors import ImageUnreadable, JobError
from dna_pipeline.base.files import open_to_read
from dna_pipeline.intake.discovery.probe import NotReadable, Probed

UNREADABLE_WAIT_S = 10.0
"""Quiet period of a file that does not decode."""

ZEROS_WAIT_S = 60.0
"""Quiet period of a file that is empty or ends in zeros, whether it decodes or not."""

_TAIL_BYTES = 16


def incomplete_until(
    path: Path, answer: Probed | JobError, since: float, now: float
) -> float | None:
    """Time until which a file may still be half written; None if it is complete.

    Args:
        answer: that of the decoder.
        since: time of the file's last visible change.

    Returns:
        Infinity if the file cannot be read, and so for an unknown time.
    """
    if isinstance(answer, NotReadable):
        return inf
    until = since + _quiet_period_s(path, answer)
    return until if now < until else None


def _quiet_period_s(path: Path, answer: Probed | JobError) -> float:
    """Seconds that a file may still be written to, counted from its last visible change.

    Explorer and Samba give a file its full size first and fill it from the start. Then the size
    proves nothing, the times may not change before the end, and half a JPEG or WebP followed by
    zeros decodes. Browsers and other programs first make an empty file, to reserve the name.
    """
    if lacks_end(path):
        return ZEROS_WAIT_S
    return UNREADABLE_WAIT_S if isinstance(answer, ImageUnreadable) else 0.0


def lacks_end(path: Path) -> bool:
    """True if the file is empty or its last bytes are all zeros; False if it cannot be read."""
    try:
        with open_to_read(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return False
    return not any(tail)
