"""The interface of all service managers, and the files that they read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dna_pipeline.base import programs
from dna_pipeline.base.errors import ConfigError, ServiceFailed
from dna_pipeline.base.files import write_bytes
from dna_pipeline.base.programs import Output
from dna_pipeline.operations.service.site import Site

MARK = "Written by `dna-pipeline service install`"
"""Text in the first lines of each file that the program wrote, and may replace and remove."""

MARK_BYTES = 1000
COMMAND_LIMIT_S = 30.0

Run = Callable[[Sequence[str]], Output]
"""Runs a program to its end. Raises OSError and TimeoutError as `base/programs.py: run`."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Outcome of `install`.

    Attributes:
        name: of the service, as the system's own tools take it.
        file: where it is written; None where the system keeps it itself.
        has_changed: False if it was there already, just so.
        remarks: sentences for people.
        problems: sentences about what is left to do by hand.
    """

    name: str
    file: Path | None
    has_changed: bool
    remarks: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """State of a site's service.

    Attributes:
        manager: systemd, launchd or Task Scheduler.
        scope: `user` or `system`.
        is_installed: its file is there.
        is_enabled: it starts by itself; None if that cannot be told.
        is_active: it runs now.
        state: the system's words for it.
        details: further facts with their names.
        remarks: sentences about what may be wrong.
    """

    name: str
    manager: str
    scope: str
    file: str | None
    is_installed: bool
    is_enabled: bool | None = None
    is_active: bool = False
    state: str = ""
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    remarks: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {key.removeprefix("is_"): value for key, value in values.items()}


class ServiceSystem(Protocol):
    """A service manager, for one person (`user`) or for the machine (`system`)."""

    def name(self, key: str) -> str:
        """Name of the service of the site with that key."""
        ...

    def file(self, key: str) -> Path | None:
        """Path of its file; None where the system keeps it itself."""
        ...

    def text(self, site: Site) -> str:
        """Content of the file. Raises `ConfigError` if the site cannot be run so."""
        ...

    def install(self, site: Site, *, waits: bool) -> Installation:
        """Write the file, and have the service start now and with the machine.

        Args:
            waits: True if a daemon that was started by hand holds the data folder, so that the
                service has to wait for its end.

        Raises:
            ConfigError: there is a file of others at its place.
            ServiceFailed: the service manager is not there, or did not do it.
        """
        ...

    def status(self, key: str) -> ServiceStatus:
        """State of the service. Raises `ServiceFailed`."""
        ...

    def remove(self, key: str) -> bool:
        """Stop the service and remove its file; False if there was none. Raises as `install`."""
        ...


def run_program(command: Sequence[str]) -> Output:
    """Run a program of the system. Raises OSError, TimeoutError."""
    return programs.run(command, COMMAND_LIMIT_S)


def call_program(run: Run, command: Sequence[str]) -> Output:
    """Run a program of the system to its end, whatever its exit status. Raises `ServiceFailed`."""
    try:
        return run(command)
    except TimeoutError as error:
        raise ServiceFailed(f"`{' '.join(command)}`: {error}") from None
    except OSError as error:
        raise ServiceFailed(f"{command[0]}: {error.strerror}") from None


def require_program(name: str, otherwise: str) -> None:
    """Raise `ServiceFailed` if a program is not on the search path."""
    if shutil.which(name) is None:
        raise ServiceFailed(f"there is no `{name}` here; {otherwise}")


def is_ours(file: Path) -> bool | None:
    """True if the program wrote the file, False if others did, None if there is none.

    Raises OSError if it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return MARK.encode() in opened.read(MARK_BYTES)
    except FileNotFoundError:
        return False if os.path.lexists(file) else None  # a link of others that leads nowhere
    except IsADirectoryError:
        return False


def write_ours(file: Path, content: bytes, rights: str) -> bool:
    """Write the file unless its content is there already; True if it was written.

    Args:
        rights: what to do where the rights do not suffice.

    Raises:
        ConfigError: others wrote the file that is there.
        ServiceFailed: it cannot be written.
    """
    try:
        _require_ours(file)
        if file.exists() and file.read_bytes() == content:
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, content)
        file.chmod(0o644)
    except OSError as error:
        raise _refused(file, "cannot be written", error, rights) from None
    return True


def remove_ours(file: Path, rights: str) -> bool:
    """Remove the file; False if there is none. Raises as `write_ours`."""
    try:
        if _require_ours(file) is None:
            return False
        file.unlink()
    except OSError as error:
        raise _refused(file, "cannot be removed", error, rights) from None
    return True


def _require_ours(file: Path) -> bool | None:
    if (owned := is_ours(file)) is False:
        raise ConfigError(
            f"{file}: was not written by dna-pipeline (its first lines do not say so), so it is "
            "left as it is; move it away first"
        )
    return owned


def _refused(file: Path, what: str, error: OSError, rights: str) -> ServiceFailed:
    mend = f"; {rights}" if isinstance(error, PermissionError) else ""
    return ServiceFailed(f"{file}: {what}: {error.strerror}{mend}")
