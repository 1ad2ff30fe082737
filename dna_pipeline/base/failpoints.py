"""Named places where a test lets the power fail, or the disk.

`$DNA_FAULT=name` ends the process, without any cleaning up, when it passes that point;
`name:3` the third time; `name=enospc` or `name=eio` raise that error instead. With
`$DNA_FAULT_ONCE=path` that happens once among all processes, and the file shows that it did.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

POINTS = (
    "stages-kept",
    "retry-committed",
    "failure-removed",
    "claiming-committed",
    "sidecar-taken",
    "image-taken",
    "claim-synced",
    "hashed",
    "claimed-committed",
    "account-written",
    "attempt-committed",
    "stages-restored",
    "order-sent",
    "stage-written",
    "stage-reported",
    "stage-committed",
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
"""In the order that a drop passes them, those of a retry first. Each step lies between two of
them, so that before and after each step there is one."""

EXIT_STATUS = 137

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_SPEC = re.compile(r"([a-z-]+)(?::([1-9]\d*))?(?:=(enospc|eio))?")


@dataclass(slots=True)
class _Fault:
    """What is to happen at the `left`-th passage; `error` is None where the process ends."""

    name: str
    left: int
    error: int | None
    once: Path | None

    def pass_by(self, name: str) -> None:
        if name != self.name:
            return
        self.left -= 1
        if self.left != 0 or not self._is_first():
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
    """Raises ValueError for a point that there is not: a test of nothing passes too easily."""
    if not spec:
        return None
    found = _SPEC.fullmatch(spec)
    if found is None or found[1] not in POINTS:
        raise ValueError(f"DNA_FAULT={spec}: there is no such point")
    error = _ERRORS[found[3]] if found[3] else None
    return _Fault(found[1], int(found[2] or 1), error, Path(once) if once else None)


_armed = _armed_by(os.environ.get("DNA_FAULT"), os.environ.get("DNA_FAULT_ONCE"))


def failpoint(name: str) -> None:
    """Pass a point; nothing happens unless it is armed."""
    if _armed is not None:
        _armed.pass_by(name)
