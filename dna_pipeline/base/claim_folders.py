"""Whether the folder that holds a job's source is in reach. Knows no database."""

from __future__ import annotations

from pathlib import Path

from dna_pipeline.base.reachability import Look, Reach


def unavailable_reason(claim: Path) -> str | None:
    """Why what was taken in cannot be had for now, as a sentence; None if its folder is there.

    A file that is missing from a folder that is there is gone for good. Of a folder that is
    missing nothing is concluded: an unmounted inbox looks the same, also where someone writes into
    the empty mount point.
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
    """Whether what was taken in is gone for good: a copy that is not in the folder of copies.

    That folder lies beside the ledger, so that no mount can bring the copy back, unless the folder
    itself is a link to somewhere else.
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
    """The same as `away`, but the claim is touched only if the folder that holds it answers."""
    root = claim.parent
    return (
        silent_sentence(root, reach)
        if (reach := look(root)).is_silent
        else unavailable_reason(claim)
    )


def silent_sentence(root: Path, reach: Reach) -> str:
    """The sentence for jobs whose sources lie in a folder that does not answer."""
    return f"{root} {reach.why} The job goes on by itself when it answers"
