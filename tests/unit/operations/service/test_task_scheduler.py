from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError, ServiceFailed
from dna_pipeline.base.programs import Output
from dna_pipeline.operations.service import system
from dna_pipeline.operations.service.site import Site
from dna_pipeline.operations.service.task_scheduler import NAMESPACE, TaskScheduler, without_window
from tests.service_tools import Tools, refusing

CONFIG = "D:\\My Studio & <50%> 猫\\pipeline.yaml"
SITE = Site(
    config=Path(CONFIG),
    data=Path("D:\\data"),
    logs=Path("D:\\data\\logs"),
    command=("C:\\v env\\Scripts\\python.exe", "-m", "dna_pipeline", "--config", CONFIG, "watch"),
    places=("D:\\data", "D:\\outbox"),
)


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/bin/{name}")


class Windows:
    """A Task Scheduler with its tasks."""

    def __init__(self, *, is_system: bool = False, drives: dict[str, str] | None = None) -> None:
        self.tasks: dict[str, str] = {}
        self.states: list[str] = []
        """States that the next looks find; those after them find it running."""
        self.tools = Tools(self._answer)
        self.scheduler = TaskScheduler(
            "STUDIO\\ann",
            is_system=is_system,
            run=self.tools,
            mapped=(drives or {}).get,
            sleep=lambda _: None,
        )

    def _answer(self, command: list[str]) -> Output | None:
        if command[0] == "powershell":
            return Output(0, f"{self.states.pop(0) if self.states else 'Running'}\r\n", "")
        name = command[command.index("/TN") + 1]
        if "/Query" in command:
            text = self.tasks.get(name)
            return Output(1, "", "ERROR") if text is None else Output(0, text, "")
        if "/Create" in command:
            self.tasks[name] = Path(command[command.index("/XML") + 1]).read_text("utf-16")
        if "/Delete" in command:
            del self.tasks[name]
        return None


def values(text: str) -> dict[str, str | None]:
    root = ET.fromstring(text.partition("?>")[2])
    return {element.tag.removeprefix(f"{{{NAMESPACE}}}"): element.text for element in root.iter()}


def test_a_task_of_a_person_starts_at_logon_without_a_window():
    found = values(Windows().scheduler.text(SITE))
    assert found["Command"] == "C:\\v env\\Scripts\\pythonw.exe"
    assert found["Arguments"] == f'-m dna_pipeline --config "{CONFIG}" watch'
    assert found["LogonType"] == "InteractiveToken"
    assert (found["ExecutionTimeLimit"], found["MultipleInstancesPolicy"]) == ("PT0S", "IgnoreNew")
    assert found["Interval"] == "PT5M"
    assert "LogonTrigger" in found
    assert "BootTrigger" not in found


def test_a_task_of_the_machine_starts_with_it():
    found = values(Windows(is_system=True).scheduler.text(SITE))
    assert "BootTrigger" in found
    assert found["LogonType"] == "S4U"
    assert found["RunLevel"] == "LeastPrivilege"


def test_parts_of_a_trigger_are_in_the_order_of_the_schema():
    root = ET.fromstring(Windows().scheduler.text(SITE).partition("?>")[2])
    trigger = root.find(f".//{{{NAMESPACE}}}LogonTrigger")
    assert trigger is not None
    names = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in trigger]
    assert names == ["Repetition", "Enabled", "UserId"]


def test_a_task_is_made_once_run_and_removed():
    windows = Windows()
    scheduler, name = windows.scheduler, f"\\dna-pipeline\\{SITE.key}"
    assert scheduler.install(SITE, waits=False).has_changed
    assert windows.tools.calls[-1] == f"schtasks /Run /TN {name}"
    assert not scheduler.install(SITE, waits=False).has_changed
    assert sum("/Create" in call for call in windows.tools.calls) == 1
    assert scheduler.status(SITE.key).is_active
    assert scheduler.remove(SITE.key)
    assert not scheduler.remove(SITE.key)
    assert windows.tasks == {}


def test_a_task_that_has_changed_is_ended_and_started_again():
    windows = Windows()
    scheduler = windows.scheduler
    scheduler.install(SITE, waits=False)
    windows.tools.calls.clear()
    windows.states = ["Running", "Running", "Ready"]
    served = replace(SITE, command=(*SITE.command, "--serve"))
    assert scheduler.install(served, waits=False).has_changed
    steps = [call.split()[1] for call in windows.tools.calls if call.startswith("schtasks")]
    assert steps == ["/Query", "/End", "/Create", "/Run"]
    assert windows.states == []


def test_a_task_that_does_not_end_is_left_as_it_was():
    windows = Windows()
    windows.scheduler.install(SITE, waits=False)
    before = dict(windows.tasks)
    with pytest.raises(ServiceFailed, match="does not end within 30 s"):
        windows.scheduler.install(replace(SITE, command=(*SITE.command, "--serve")), waits=False)
    assert windows.tasks == before


def test_a_task_of_others_is_left_alone():
    windows = Windows()
    windows.tasks[f"\\dna-pipeline\\{SITE.key}"] = "<Task/>"
    for act in (
        lambda: windows.scheduler.install(SITE, waits=False),
        lambda: windows.scheduler.remove(SITE.key),
    ):
        with pytest.raises(ConfigError, match="not made by dna-pipeline"):
            act()
    assert len(windows.scheduler.status(SITE.key).remarks) == 1
    assert windows.tasks == {f"\\dna-pipeline\\{SITE.key}": "<Task/>"}


def place(*places: str) -> Site:
    return Site(SITE.config, SITE.data, SITE.logs, SITE.command, {}, places)


@pytest.mark.parametrize("is_system", [True, False])
def test_a_network_drive_is_refused(is_system: bool):
    windows = Windows(is_system=is_system, drives={"Z:": "\\\\nas\\studio"})
    with pytest.raises(ConfigError, match=r"Write \\\\nas\\studio\\outbox instead"):
        windows.scheduler.install(place("C:\\data", "Z:\\outbox"), waits=False)
    assert windows.tasks == {}


def test_a_share_is_reached_only_while_someone_is_logged_on():
    share = place("\\\\nas\\studio\\outbox")
    assert Windows().scheduler.install(share, waits=False).has_changed
    with pytest.raises(ConfigError, match="leave out --system"):
        Windows(is_system=True).scheduler.text(share)


def test_variables_are_refused():
    site = Site(SITE.config, SITE.data, SITE.logs, SITE.command, {"DNA_DATA_DIR": "D:\\d"})
    with pytest.raises(ConfigError, match=r"DNA_DATA_DIR.*paths:"):
        Windows().scheduler.text(site)


def test_a_refusal_of_windows_is_said():
    tools = Tools(
        lambda command: (
            refusing("/Query", "no such task")(command)
            or refusing("/Create", "ERROR: Access is denied.\r\n")(command)
        )
    )
    scheduler = TaskScheduler("ann", is_system=True, run=tools, mapped=lambda _: None)
    with pytest.raises(ServiceFailed, match=r"Access is denied\..*as administrator"):
        scheduler.install(SITE, waits=False)


def test_only_python_itself_is_replaced():
    assert without_window("C:\\x\\Python.EXE") == "C:\\x\\pythonw.exe"
    assert without_window("C:\\x\\pypy.exe") == "C:\\x\\pypy.exe"
