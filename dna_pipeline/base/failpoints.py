"""Named points at which a test simulates a power cut or a disk error.

`$DNA_FAULT=name` ends the process at that point, without cleanup; `name:3` does so at the third
passage; `name=enospc` and `name=eio` raise that error instead. With `$DNA_FAULT_ONCE=path` the
fault happens once among all processes, and the file at that path then exists as a sign of it.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

POINTS = (
    "claiming-committed",
    "sidecar-taken",
    "companion-taken",
    "image-taken",
    "stages-kept",
    "claim-synced",
    "hashed",
    "retry-committed",
    "failure-removed",
    "claimed-committed",
    "account-written",
    "attempt-committed",
    "stages-restored",
    "order-sent",
    "stage-written",
    "stage-reported",
    "stage-committed",
    "result-copied",
    "result-kept",
    "result-taken",
    "outcome-committed",
    "original-copied",
    "row-written",
    "staging-filled",
    "manifest-written",
    "plan-committed",
    "published",
    "end-committed",
    "work-removed",
    "disposing-committed",
    "claim-unlinked",
    "gone-committed",
)
"""All failpoints in the order in which a drop passes them, whether it comes from an inbox, by a job
file or a table, or by a command. Each step has one before it and one after it."""

EXIT_STATUS = 137

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_SPEC = re.compile(r"([a-z-]+)(?::([1-9]\d*))?(?:=(enospc|eio))?")


@dataclass(slots=True)
class _Fault:
    """A fault that happens at the `remaining`-th further passage of its failpoint.

    Attributes:
        error: number of the error to raise; None to end the process.
        once: file that marks that the fault happened in some process; None to have no such limit.
    """

    name: str
    remaining: int
    error: int | None
    once: Path | None

    def pass_by(self, name: str) -> None:
        if name != self.name:
            return
        self.remaining -= 1
        if self.remaining != 0 or not self._is_first():
            return
        if self.error is None:
            os._exit(EXIT_STATUS)
        raise OSError(self.error, os.strerror(self.error), f"<{name}>")

    def _is_first(self) -> bool:
        try:
            if self.once is not None:
                self.once.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _armed_by(spec: str | None, once: str | None) -> _Fault | None:
    """Read the fault that a test asks for; None if it asks for none.

    Raises:
        ValueError: there is no such failpoint. A test with a wrong name would always pass.
    """
    if not spec:
        return None
    match = _SPEC.fullmatch(spec)
    if match is None or match[1] not in POINTS:
        raise ValueError(f"DNA_FAULT={spec}: there is no such point")
    error = _ERRORS[match[3]] if match[3] else None
    return _Fault(match[1], int(match[2] or 1), error, Path(once) if once else None)


_armed = _armed_by(os.environ.get("DNA_FAULT"), os.environ.get("DNA_FAULT_ONCE"))


def failpoint(name: str) -> None:
    """Pass a failpoint. Nothing happens unless a test armed it."""
    if _armed is not None:
        _armed.pass_by(name)
