"""launchd of macOS: an agent, which runs while its person is logged in, or a daemon of the machine.

Written after launchd.plist(5) and launchctl(1); not run by the project's own tests on a Mac.
"""

from __future__ import annotations

import plistlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ServiceFailed
from dna_pipeline.base.programs import Output
from dna_pipeline.operations.service.site import Site
from dna_pipeline.operations.service.system import (
    MARK,
    Installation,
    Run,
    ServiceStatus,
    call_program,
    is_ours,
    remove_ours,
    require_program,
    run_program,
    write_ours,
)

RESTART_S = 10
STOP_S = 30
LOG = "service.log"
"""File beside the daemon's own log, with what it prints before that is open."""


class Launchd:
    """launchd, for one person or for the machine.

    Args:
        user: name of the person: whose agent it is, or as whom the machine runs the daemon.
        uid: their number.
        call: how people call the program, for messages.
        folder: of the property lists.
    """

    def __init__(
        self,
        user: str,
        uid: int,
        *,
        is_system: bool,
        call: str = "dna-pipeline",
        run: Run = run_program,
        sleep: Callable[[float], None] = time.sleep,
        folder: Path | None = None,
    ) -> None:
        self._user = user
        self._is_system = is_system
        self._call_text = call
        self._run = run
        self._sleep = sleep
        self._domain = "system" if is_system else f"gui/{uid}"
        at_home = Path.home() / "Library/LaunchAgents"
        self._folder = folder or (Path("/Library/LaunchDaemons") if is_system else at_home)

    def name(self, key: str) -> str:
        return f"dna-pipeline.{key}"

    def file(self, key: str) -> Path:
        return self._folder / f"{self.name(key)}.plist"

    def text(self, site: Site) -> str:
        values: dict[str, Any] = {
            "Label": self.name(site.key),
            # Warnings alone, since launchd never shortens the file; the whole log is in data/logs.
            "ProgramArguments": [*site.command, "--quiet"],
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_S,
            "ExitTimeOut": STOP_S,
            "ProcessType": "Standard",
            "StandardOutPath": str(site.logs / LOG),
            "StandardErrorPath": str(site.logs / LOG),
        }
        if site.variables:
            values["EnvironmentVariables"] = dict(site.variables)
        if self._is_system:
            values["UserName"] = self._user
        head, _, rest = plistlib.dumps(values, sort_keys=False).decode().partition("\n")
        return f"{head}\n<!-- {MARK}, which replaces it. -->\n{rest}"

    def install(self, site: Site, *, waits: bool) -> Installation:
        require_program("launchctl", "this system is not started by launchd")
        name, file = self.name(site.key), self.file(site.key)
        has_changed = write_ours(file, self.text(site).encode(), self._rights("install"))
        self._make_log(site)
        is_loaded = self._print(name) is not None
        if has_changed and is_loaded:
            self._unload(name)
        if has_changed or not is_loaded:
            self._launchctl("enable", f"{self._domain}/{name}")
            self._launchctl("bootstrap", self._domain, str(file))
        installation = Installation(name, file, has_changed)
        if not self._is_system:
            installation.remarks.append(
                "it runs while you are logged in; `--system` (with sudo) starts it with the machine"
            )
        return installation

    def status(self, key: str) -> ServiceStatus:
        name, file = self.name(key), self.file(key)
        scope = "system" if self._is_system else "user"
        owned = is_ours(file)
        where = None if owned is None else str(file)
        if not owned:
            foreign = [] if owned is None else [f"{file} was not written by dna-pipeline"]
            return ServiceStatus(name, "launchd", scope, where, is_installed=False, remarks=foreign)
        require_program("launchctl", "this system is not started by launchd")
        printed = self._print(name)
        state = _value(printed or "", "state") or "not loaded"
        pid = _value(printed or "", "pid")
        details = {"pid": int(pid) if pid else None, "log": None}
        return ServiceStatus(
            name, "launchd", scope, where, is_installed=True, is_enabled=printed is not None,
            is_active=state == "running", state=state, details=details,
        )  # fmt: skip

    def remove(self, key: str) -> bool:
        name, file = self.name(key), self.file(key)
        if is_ours(file):
            require_program("launchctl", "this system is not started by launchd")
            if self._print(name) is not None:
                self._unload(name)
        return remove_ours(file, self._rights("remove"))

    # --- steps ---

    def _unload(self, name: str) -> None:
        """End the service and wait for it: launchd returns before, and refuses to load it again
        until then."""
        self._launchctl("bootout", f"{self._domain}/{name}")
        for _ in range(STOP_S):
            if self._print(name) is None:
                return
            self._sleep(1.0)
        raise ServiceFailed(f"{name} does not end within {STOP_S} s; try again when it has ended")

    def _make_log(self, site: Site) -> None:
        """Make the folder of the log, which launchd does not make; it belongs to the person."""
        if self._is_system or not site.data.exists():
            return
        try:
            site.logs.mkdir(exist_ok=True)
        except OSError:
            return  # the daemon says what is wrong with its data folder

    def _print(self, name: str) -> str | None:
        """Print the entry that launchd has of the service; None if it is not loaded."""
        done = self._call("print", f"{self._domain}/{name}")
        return done.text if done.code == 0 else None

    def _launchctl(self, *arguments: str) -> None:
        done = self._call(*arguments)
        if done.code != 0:
            why = " ".join((done.errors or done.text).split()) or f"exit status {done.code}"
            raise ServiceFailed(
                f"`launchctl {' '.join(arguments)}`: {why}. Try again in a terminal on the Mac's "
                "own screen: a service of a person needs them logged in there"
            )

    def _call(self, *arguments: str) -> Output:
        return call_program(self._run, ["launchctl", *arguments])

    def _rights(self, action: str) -> str:
        if self._is_system:
            return f"this needs root: `sudo {self._call_text} service {action} --system`"
        return "the folder belongs to someone else"


def _value(printed: str, key: str) -> str:
    """Value of `key = value` in the first lines of `launchctl print`; "" if it has none."""
    for line in printed.splitlines():
        name, sign, value = line.strip().partition(" = ")
        if sign and name == key:
            return value
    return ""
