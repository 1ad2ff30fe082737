"""Whether the originals of claimed work are in reach: an inbox can be unmounted with its claims."""

from __future__ import annotations

import os
from pathlib import Path

from dna_pipeline.ledger.tables import Drop


def why_away(drop: Drop, data: Path) -> str | None:
    """Why the drop's claim is out of reach together with its whole inbox; None where it is not.

    A claim that is missing from an inbox that is there is not away but lost.

    Args:
        data: the data folder; what lies in there is never away.
    """
    folder = Path(drop.claim)
    if folder.is_relative_to(data) or os.path.isdir(folder):  # noqa: PTH112 - raises nothing
        return None
    inbox = folder.parents[2]
    try:
        device = inbox.stat().st_dev
    except OSError as error:
        return f"{inbox}: {error.strerror}; the work goes on when the folder is back"
    claimed_on = {stat["device"] for stat in drop.stat.values()}
    if not claimed_on or device in claimed_on:
        return None
    return (
        f"{inbox} is not the folder that the originals came from, but lies on another disk; "
        "the work goes on when that is mounted again"
    )
