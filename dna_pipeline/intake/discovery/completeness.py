"""How long a file that stands still may yet turn out to be half written."""

from __future__ import annotations

import os
from pathlib import Path

from dna_pipeline.base.errors import ImageUnreadable, JobError
from dna_pipeline.base.files import open_to_read
from dna_pipeline.intake.discovery.probe import Probed

UNREADABLE_WAIT_S = 10.0
"""For a file that does not decode."""

ZEROS_WAIT_S = 60.0
"""For one that is empty or ends in zeros, whether it decodes or not."""

_TAIL_BYTES = 16


def patience_s(path: Path, answer: Probed | JobError) -> float:
    """Seconds that a file may still be written to, counted from when it first stood still.

    Explorer and Samba give a file its full size first and fill it from the start. Its size tells
    nothing then, its times may not change before the end, and half a JPEG or WebP followed by
    zeros decodes. Browsers and others make an empty file first, to have the name.
    """
    if lacks_its_end(path):
        return ZEROS_WAIT_S
    return UNREADABLE_WAIT_S if isinstance(answer, ImageUnreadable) else 0.0


def lacks_its_end(path: Path) -> bool:
    """Whether nothing but zeros, or nothing at all, is where the file ends."""
    try:
        with open_to_read(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return False
    return not any(tail)
