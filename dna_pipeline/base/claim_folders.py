"""Checks of the claim folder that holds a job's source: can it be reached? Knows no database."""

from __future__ import annotations

from pathlib import Path

from dna_pipeline.base.reachability import Look


def unavailable_reason(claim: Path) -> str | None:
    """Reason why the claim cannot be read now, as a sentence; None if its folder exists.

    A file that is missing from an existing folder is gone for good. A missing folder proves
    nothing: an unmounted inbox looks the same, even if someone writes into the empty mount point.
    """
    try:
        if claim.is_dir():
            return None
    except OSError as error:
        return f"{claim.parent}: {error.strerror}; the job goes on when it can be read"
    return (
        f"the source lies below {claim.parent} and is not there now; mount the inbox again, the "
        "job goes on by itself"
    )


def is_lost(claim: Path, copies: Path) -> bool:
    """True if the claim is gone for good: a copy that is missing from the folder of copies.

    The folder of copies lies beside the ledger, so no mount can bring the copy back, unless that
    folder itself is a link to somewhere else.
    """
    if claim.parent != copies or (copies.is_symlink() and not copies.is_dir()):
        return False
    try:
        claim.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def unreachable_reason(claim: Path, look: Look) -> str | None:
    """As `unavailable_reason`, but touches the claim only if the folder that holds it answers."""
    if (reach := look(claim.parent)).is_silent:
        return f"{claim.parent} {reach.why} The job goes on by itself when it answers"
    return unavailable_reason(claim)
