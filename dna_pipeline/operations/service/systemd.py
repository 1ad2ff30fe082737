"""systemd: services of a person, which linger, and services of the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from dna_pipeline.base.errors import ServiceFailed
from dna_pipeline.operations.service.site import Site
from dna_pipeline.operations.service.system import (
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
from dna_pipeline.operations.service.systemd_unit import GPU_HELPER, unit_text

SYSTEM_UNITS = Path("/etc/systemd/system")
LINGERING = Path("/var/lib/systemd/linger")
"""Folder with an empty file for each person whose services run without them."""

NO_SYSTEMD = (
    "this system is not started by systemd. Have whatever starts programs here start "
    "`dna-pipeline watch --plain`; in a container see integrations/container"
)
_SHOWN = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "NRestarts", "Result",
    "StatusText", "ActiveEnterTimestamp",
)  # fmt: skip


class Systemd:
    """The service manager of one person, or of the machine.

    Args:
        user: name of the person: whose manager it is, or as whom the machine runs the daemon.
        is_system: True for the machine's.
        call: how people call the program, for messages.
        units, lingering: folders of the unit files, and of the marks of who lingers.
    """

    def __init__(
        self,
        user: str,
        *,
        is_system: bool,
        call: str = "dna-pipeline",
        run: Run = run_program,
        env: Mapping[str, str] = os.environ,
        units: Path | None = None,
        lingering: Path = LINGERING,
    ) -> None:
        self._user = user
        self._is_system = is_system
        self._call_text = call
        self._run = run
        self._env = env
        self._units = units or (SYSTEM_UNITS if is_system else _user_units(env))
        self._lingering = lingering

    def name(self, key: str) -> str:
        return f"dna-pipeline-{key}.service"

    def file(self, key: str) -> Path:
        return self._units / self.name(key)

    def text(self, site: Site) -> str:
        helper = shutil.which(GPU_HELPER)
        return unit_text(site, user=self._user if self._is_system else None, gpu_helper=helper)

    def install(self, site: Site, *, waits: bool) -> Installation:
        self._require()
        name, file = self.name(site.key), self.file(site.key)
        has_changed = write_ours(file, self.text(site).encode(), self._rights("install"))
        was_active = self._is_active(name)
        self._systemctl("daemon-reload")
        self._systemctl("enable", name)
        installation = Installation(name, file, has_changed)
        if not was_active:
            self._start(installation, waits=waits)
        elif has_changed:
            self._systemctl("restart", "--no-block", name)
            installation.remarks.append("it was changed, and starts anew")
        if not self._is_system:
            self._linger(installation)
        return installation

    def status(self, key: str) -> ServiceStatus:
        name, file = self.name(key), self.file(key)
        owned = is_ours(file)
        status = ServiceStatus(
            name, "systemd", "system" if self._is_system else "user",
            None if owned is None else str(file), is_installed=owned is True,
        )  # fmt: skip
        if owned is False:
            status.remarks.append(f"{file} was not written by dna-pipeline")
        if not status.is_installed:
            return status
        self._require()
        shown = self._show(name)
        state = f"{shown.get('ActiveState', 'unknown')} ({shown.get('SubState', 'unknown')})"
        details = {
            "pid": int(shown.get("MainPID") or 0) or None,
            "restarts": int(shown.get("NRestarts") or 0),
            "since": shown.get("ActiveEnterTimestamp") or None,
            "says": shown.get("StatusText") or None,
            "result": shown.get("Result") or None,
            "lingers": None if self._is_system else self._does_linger(),
            "log": self._journal(name),
        }
        if details["lingers"] is False:
            status.remarks.append(self._linger_text())
        return ServiceStatus(
            name, status.manager, status.scope, status.file, is_installed=True,
            is_enabled=shown.get("UnitFileState") == "enabled",
            is_active=shown.get("ActiveState") in ("active", "reloading"),
            state=state, details=details, remarks=status.remarks,
        )  # fmt: skip

    def remove(self, key: str) -> bool:
        name, file = self.name(key), self.file(key)
        if is_ours(file):
            self._require()
            self._systemctl("disable", "--now", name)
        if not remove_ours(file, self._rights("remove")):
            return False
        self._systemctl("daemon-reload")
        self._call("reset-failed", name)  # fails where nothing had failed
        return True

    # --- steps ---

    def _start(self, installation: Installation, *, waits: bool) -> None:
        """Start the service, and wait until the daemon says that it is ready."""
        name = installation.name
        if waits:
            self._systemctl("start", "--no-block", name)
            return
        try:
            done = self._run(self._command("start", name))
        except TimeoutError:
            installation.remarks.append("it is still starting; `dna-pipeline service status`")
            return
        if done.code != 0:
            why = " ".join(done.errors.split()) or f"exit status {done.code}"
            installation.problems.append(
                f"the service is installed, but did not start ({why}). `{self._journal(name)}` "
                "says why; it is tried again every ten seconds"
            )

    def _linger(self, installation: Installation) -> None:
        """Let the person's services run before they log in and after they log out."""
        if self._does_linger():
            return
        try:
            done = self._run(["loginctl", "enable-linger", self._user])
        except (OSError, TimeoutError):
            done = None
        if done is None or done.code != 0:
            installation.problems.append(self._linger_text())

    def _linger_text(self) -> str:
        return (
            f"the daemon ends when {self._user} logs out, and starts only when {self._user} logs "
            f"in; an administrator changes that with `sudo loginctl enable-linger {self._user}`"
        )

    def _does_linger(self) -> bool:
        return (self._lingering / self._user).exists()

    def _is_active(self, name: str) -> bool:
        return self._show(name).get("ActiveState") in ("active", "activating", "reloading")

    def _show(self, name: str) -> dict[str, str]:
        text = self._systemctl("show", name, f"--property={','.join(_SHOWN)}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    # --- the program systemctl ---

    def _require(self) -> None:
        """Raise `ServiceFailed`, with the way out, if the service manager cannot be reached."""
        require_program("systemctl", NO_SYSTEMD)
        code, _, errors = self._call("show-environment")
        if code == 0:
            return
        why = errors.strip().splitlines()[0] if errors.strip() else f"exit status {code}"
        if "not been booted" in errors or self._is_system:
            raise ServiceFailed(f"systemd does not answer ({why}): {NO_SYSTEMD}")
        hint = "" if self._env.get("XDG_RUNTIME_DIR") else "; XDG_RUNTIME_DIR is not set"
        raise ServiceFailed(
            f"the service manager of {self._user} does not answer ({why}{hint}). Log in as "
            f"{self._user} by ssh or at the machine (not by su or sudo) and try again, or have the "
            f"machine run it: `sudo {self._call_text} service install --system`"
        )

    def _systemctl(self, *arguments: str) -> str:
        """Call systemctl; its output. Raises `ServiceFailed`."""
        code, text, errors = self._call(*arguments)
        if code != 0:
            why = " ".join(errors.split()) or f"exit status {code}"
            raise ServiceFailed(f"`{' '.join(self._command(*arguments))}`: {why}")
        return text

    def _call(self, *arguments: str) -> tuple[int, str, str]:
        done = call_program(self._run, self._command(*arguments))
        return done.code, done.text, done.errors

    def _command(self, *arguments: str) -> list[str]:
        return ["systemctl", *([] if self._is_system else ["--user"]), *arguments]

    def _journal(self, name: str) -> str:
        return f"journalctl {'' if self._is_system else '--user '}-u {name}"

    def _rights(self, action: str) -> str:
        if self._is_system:
            return f"this needs root: `sudo {self._call_text} service {action} --system`"
        return "the folder belongs to someone else"


def _user_units(env: Mapping[str, str]) -> Path:
    home = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "systemd/user"
