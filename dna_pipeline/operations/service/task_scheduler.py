r"""Windows' Task Scheduler: a task at the logon of a person, or at the start of the machine.

Written after the schema of tasks (version 1.2) and the manual of schtasks; not run by the project's
own tests on Windows.
"""

from __future__ import annotations

import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

from dna_pipeline.base.errors import ConfigError, ServiceFailed
from dna_pipeline.base.programs import Output, windows_command_line
from dna_pipeline.operations.service.drives import (
    Mapped,
    first_share,
    mapped_drive,
    refuse_mapped,
)
from dna_pipeline.operations.service.site import Site
from dna_pipeline.operations.service.system import (
    MARK,
    Installation,
    Run,
    ServiceStatus,
    call_program,
    require_program,
    run_program,
)

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
FOLDER = "\\dna-pipeline\\"
RETRY = "PT5M"
"""Interval at which the task is started again if it has ended, as ISO 8601 has it."""

STOP_S = 30
"""Time in seconds in which a task has to end that was told to."""

NO_TIME_LIMIT = "PT0S"
PRIORITY = "7"
"""Below normal: people work at such machines."""

SETTINGS = {
    "MultipleInstancesPolicy": "IgnoreNew",
    "DisallowStartIfOnBatteries": "false",
    "StopIfGoingOnBatteries": "false",
    "AllowHardTerminate": "true",
    "StartWhenAvailable": "true",
    "RunOnlyIfNetworkAvailable": "false",
    "Enabled": "true",
    "Hidden": "false",
    "RunOnlyIfIdle": "false",
    "ExecutionTimeLimit": NO_TIME_LIMIT,
    "Priority": PRIORITY,
}


class TaskScheduler:
    """The Task Scheduler, which keeps the description of each task itself.

    Args:
        user: name of the person whom the task runs as, with their domain.
        is_system: True to start with the machine; needs an administrator.
        mapped: what a drive letter stands for.
    """

    def __init__(
        self,
        user: str,
        *,
        is_system: bool,
        run: Run = run_program,
        mapped: Mapped = mapped_drive,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._user = user
        self._is_system = is_system
        self._run = run
        self._mapped = mapped
        self._sleep = sleep

    def name(self, key: str) -> str:
        return f"{FOLDER}{key}"

    def file(self, key: str) -> Path | None:
        return None

    def text(self, site: Site) -> str:
        self._check(site)
        task = ET.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
        about = _child(task, "RegistrationInfo")
        _child(about, "Description", f"{MARK} for {site.config}")
        _child(about, "URI", self.name(site.key))
        self._add_trigger(_child(task, "Triggers"))
        principal = _child(_child(task, "Principals"), "Principal")
        principal.set("id", "Author")
        _child(principal, "UserId", self._user)
        # S4U runs without a session and without a password, and therefore reaches no shares.
        _child(principal, "LogonType", "S4U" if self._is_system else "InteractiveToken")
        _child(principal, "RunLevel", "LeastPrivilege")
        settings = _child(task, "Settings")
        for name, value in SETTINGS.items():
            _child(settings, name, value)
        actions = _child(task, "Actions")
        actions.set("Context", "Author")
        action = _child(actions, "Exec")
        program, *arguments = site.command
        _child(action, "Command", without_window(program))
        _child(action, "Arguments", windows_command_line(arguments))
        ET.indent(task)
        head = '<?xml version="1.0" encoding="UTF-16"?>\n'
        return head + ET.tostring(task, encoding="unicode") + "\n"

    def install(self, site: Site, *, waits: bool) -> Installation:
        name, text = self.name(site.key), self.text(site)
        require_program("schtasks", "this system has no Task Scheduler")
        before = self._read_ours(name)
        has_changed = before is None or _essence(before) != _essence(text)
        if has_changed:
            if before is not None:
                self._end(site.key)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "task.xml")
                file.write_text(text, encoding="utf-16")
                self._schtasks("/Create", "/TN", name, "/XML", str(file), "/F")
        self._schtasks("/Run", "/TN", name)
        installation = Installation(name, None, has_changed)
        if not self._is_system:
            installation.remarks.append(
                "it runs while you are logged on; `--system` (as administrator) starts it with the "
                "machine"
            )
        return installation

    def status(self, key: str) -> ServiceStatus:
        name = self.name(key)
        require_program("schtasks", "this system has no Task Scheduler")
        text = self._read(name)
        scope = "system" if self._is_system else "user"
        if text is None or MARK not in text:
            foreign = [] if text is None else [f"the task {name} was not made by dna-pipeline"]
            return ServiceStatus(
                name, "Task Scheduler", scope, None, is_installed=False, remarks=foreign
            )
        state = self._state(key)
        return ServiceStatus(
            name, "Task Scheduler", scope, None, is_installed=True,
            is_enabled=state != "Disabled", is_active=state == "Running", state=state,
        )  # fmt: skip

    def remove(self, key: str) -> bool:
        name = self.name(key)
        require_program("schtasks", "this system has no Task Scheduler")
        if self._read_ours(name) is None:
            return False
        self._call("/End", "/TN", name)  # fails where it does not run
        self._schtasks("/Delete", "/TN", name, "/F")
        return True

    # --- steps ---

    def _end(self, key: str) -> None:
        """End the task and wait for it: as long as it runs, `/Run` starts no other instance."""
        name = self.name(key)
        self._call("/End", "/TN", name)  # fails where it does not run
        for _ in range(STOP_S):
            if self._state(key) != "Running":
                return
            self._sleep(1.0)
        raise ServiceFailed(
            f"{name} does not end within {STOP_S} s, so it is left as it was; end it in the Task "
            "Scheduler, then try again"
        )

    def _check(self, site: Site) -> None:
        refuse_mapped((*site.places, str(site.config)), self._mapped)
        share = first_share((*site.places, str(site.config)))
        if self._is_system and share is not None:
            raise ConfigError(
                f"{share}: a task that starts with the machine has no password and reaches no "
                "share; leave out --system, and it starts when you log on"
            )
        if names := sorted(name for name in site.variables if name.startswith("DNA_")):
            raise ConfigError(
                f"a task gets no variables of yours ({', '.join(names)}); write the folders into "
                "pipeline.yaml (`paths:`), or set them for the whole system"
            )

    def _add_trigger(self, triggers: ET.Element) -> None:
        trigger = _child(triggers, "BootTrigger" if self._is_system else "LogonTrigger")
        repetition = _child(trigger, "Repetition")
        _child(repetition, "Interval", RETRY)
        _child(trigger, "Enabled", "true")
        if not self._is_system:
            _child(trigger, "UserId", self._user)

    def _read(self, name: str) -> str | None:
        """Description of a task; None if there is no such task."""
        done = self._call("/Query", "/TN", name, "/XML")
        return done.text if done.code == 0 else None

    def _read_ours(self, name: str) -> str | None:
        if (text := self._read(name)) is not None and MARK not in text:
            raise ConfigError(
                f"the task {name} was not made by dna-pipeline, so it is left as it is; rename it "
                "first"
            )
        return text

    def _state(self, key: str) -> str:
        """State of a task in English words, which schtasks would translate."""
        query = f"(Get-ScheduledTask -TaskPath '{FOLDER}' -TaskName '{key}').State"
        try:
            done = self._run(["powershell", "-NoProfile", "-NonInteractive", "-Command", query])
        except (OSError, TimeoutError):
            return "unknown"
        return done.text.strip() or "unknown"

    def _schtasks(self, *arguments: str) -> None:
        done = self._call(*arguments)
        if done.code != 0:
            why = " ".join((done.errors or done.text).split()) or f"exit status {done.code}"
            mend = " A task of the machine needs a terminal that was started as administrator."
            raise ServiceFailed(
                f"`schtasks {' '.join(arguments)}`: {why}{mend if self._is_system else ''}"
            )

    def _call(self, *arguments: str) -> Output:
        return call_program(self._run, ["schtasks", *arguments])


def without_window(program: str) -> str:
    """The Python beside this one that opens no window."""
    path = PureWindowsPath(program)
    return str(path.with_name("pythonw.exe")) if path.name.lower() == "python.exe" else program


def _child(parent: ET.Element, name: str, text: str | None = None) -> ET.Element:
    child = ET.SubElement(parent, name)
    child.text = text
    return child


def _essence(text: str) -> list[str | None]:
    """Texts of a task that Windows keeps as they were given: what it does, and for whom."""
    body = text.partition("?>")[2] if text.lstrip("\ufeff").startswith("<?xml") else text
    try:
        root = ET.fromstring(body)
    except ET.ParseError:
        return []
    names = ("Description", "Command", "Arguments", "LogonType", "Interval", "ExecutionTimeLimit")
    return [root.findtext(f".//{{{NAMESPACE}}}{name}") for name in names]
