from __future__ import annotations

import os
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError, ServiceFailed
from dna_pipeline.base.programs import Output
from dna_pipeline.operations.service import system
from dna_pipeline.operations.service.systemd import Systemd
from tests.service_tools import Answer, Tools, refusing, site_at

NO_BUS = "Failed to connect to bus: No medium found\n"


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/bin/{name}")


class Machine:
    """A manager with its folders, and whether its daemon is active."""

    def __init__(self, folder: Path, answer: Answer = lambda _: None, *, is_system=False) -> None:
        self.site = site_at(folder / "my studio")
        self.state = "inactive"
        self.answer = answer
        self.tools = Tools(self._say)
        self.lingering = folder / "linger"
        self.systemd = Systemd(
            "ann", is_system=is_system, run=self.tools, env={}, call="dna-pipeline --config F",
            units=folder / "units", lingering=self.lingering,
        )  # fmt: skip
        self.file = self.systemd.file(self.site.key)

    def _say(self, command: list[str]) -> Output | None:
        if (answer := self.answer(command)) is not None:
            return answer
        if "show" in command:
            return Output(0, f"ActiveState={self.state}\nSubState=running\nMainPID=42\n", "")
        if {"start", "restart"} & set(command):
            self.state = "active"
        return None

    def changes(self) -> list[str]:
        """Calls that change something, without those of before."""
        shown = [call for call in self.tools.calls if " show" not in call]
        self.tools.calls.clear()
        return shown


def test_a_service_of_a_person_is_enabled_started_and_lingers(tmp_path: Path):
    machine = Machine(tmp_path)
    done = machine.systemd.install(machine.site, waits=False)
    name = machine.systemd.name(machine.site.key)
    assert machine.changes() == [
        "systemctl --user daemon-reload",
        f"systemctl --user enable {name}",
        f"systemctl --user start {name}",
        "loginctl enable-linger ann",
    ]
    assert (done.file, done.has_changed, done.problems) == (machine.file, True, [])
    assert "Type=notify" in machine.file.read_text()


def test_installing_twice_is_the_same_as_once(tmp_path: Path):
    machine = Machine(tmp_path)
    machine.systemd.install(machine.site, waits=False)
    before = machine.file.stat()
    machine.changes()
    machine.lingering.mkdir()
    (machine.lingering / "ann").touch()
    done = machine.systemd.install(machine.site, waits=False)
    assert not done.has_changed
    assert machine.file.stat() == before
    assert not [call for call in machine.changes() if "start" in call or "linger" in call]


def test_a_changed_service_starts_anew(tmp_path: Path):
    machine = Machine(tmp_path)
    machine.systemd.install(machine.site, waits=False)
    machine.changes()
    done = machine.systemd.install(site_at(tmp_path / "my studio", DNA_DATA_DIR="/d"), waits=False)
    assert done.has_changed
    assert f"systemctl --user restart --no-block {done.name}" in machine.changes()


def test_a_service_that_waits_for_another_daemon_does_not_hold_the_command(tmp_path: Path):
    machine = Machine(tmp_path)
    done = machine.systemd.install(machine.site, waits=True)
    assert f"systemctl --user start --no-block {done.name}" in machine.changes()


def test_a_service_of_the_machine_lingers_by_itself(tmp_path: Path):
    machine = Machine(tmp_path, is_system=True)
    machine.systemd.install(machine.site, waits=False)
    assert not [call for call in machine.changes() if "--user" in call or "loginctl" in call]
    assert "\nUser=ann\n" in machine.file.read_text()


@pytest.mark.parametrize("kind", ["file", "mask", "dangling link", "folder"])
def test_a_unit_of_others_is_left_alone(tmp_path: Path, kind: str):
    machine = Machine(tmp_path)
    machine.file.parent.mkdir()
    if kind == "file":
        machine.file.write_text("[Service]\nExecStart=/bin/true\n")
    elif kind == "folder":
        machine.file.mkdir()
    else:
        machine.file.symlink_to(os.devnull if kind == "mask" else "/nowhere/unit")
    with pytest.raises(ConfigError, match="not written by dna-pipeline"):
        machine.systemd.install(machine.site, waits=False)
    with pytest.raises(ConfigError, match="not written by dna-pipeline"):
        machine.systemd.remove(machine.site.key)
    status = machine.systemd.status(machine.site.key)
    assert (status.is_installed, len(status.remarks)) == (False, 1)
    assert machine.changes() == []
    assert machine.file.is_symlink() == (kind in ("mask", "dangling link"))


def test_without_systemctl_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system.shutil, "which", lambda _: None)
    machine = Machine(tmp_path)
    with pytest.raises(ServiceFailed, match=r"no `systemctl` here.*watch --plain"):
        machine.systemd.install(machine.site, waits=False)
    assert not machine.file.exists()


def test_without_a_bus_a_login_or_the_machine_is_the_way_out(tmp_path: Path):
    machine = Machine(tmp_path, refusing("show-environment", NO_BUS))
    with pytest.raises(ServiceFailed) as error:
        machine.systemd.install(machine.site, waits=False)
    for part in (
        "ann does not answer", "No medium found; XDG_RUNTIME_DIR is not set", "not by su or sudo",
        "`sudo dna-pipeline --config F service install --system`",
    ):  # fmt: skip
        assert part in str(error.value)
    assert not machine.file.exists(), "nothing is half done"


def test_a_machine_without_systemd_at_its_start_is_named(tmp_path: Path):
    why = "System has not been booted with systemd as init system (PID 1). Can't operate.\n"
    machine = Machine(tmp_path, refusing("show-environment", why))
    with pytest.raises(ServiceFailed, match="not started by systemd"):
        machine.systemd.install(machine.site, waits=False)


def test_lingering_that_is_refused_is_left_to_an_administrator(tmp_path: Path):
    machine = Machine(tmp_path, refusing("enable-linger", "Access denied"))
    done = machine.systemd.install(machine.site, waits=False)
    assert len(done.problems) == 1
    assert "`sudo loginctl enable-linger ann`" in done.problems[0]
    status = machine.systemd.status(machine.site.key)
    assert status.remarks == done.problems
    assert status.details["lingers"] is False


def test_a_daemon_that_does_not_start_is_said_with_its_log(tmp_path: Path):
    why = "Job for x failed because the control process exited with error code.\nSee …"
    machine = Machine(tmp_path, refusing("start", why))
    done = machine.systemd.install(machine.site, waits=False)
    assert "did not start (Job for x failed" in done.problems[0]
    assert f"`journalctl --user -u {done.name}`" in done.problems[0]


def test_a_slow_start_is_no_failure(tmp_path: Path):
    def slow(command: list[str]) -> None:
        if "start" in command:
            raise TimeoutError("it did not end within 30 s")

    machine = Machine(tmp_path, slow)
    done = machine.systemd.install(machine.site, waits=False)
    assert done.problems == []
    assert "still starting" in done.remarks[0]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (TimeoutError("it did not end within 30 s"), "30 s"),
        (OSError(8, "Exec format error"), "Exec"),
    ],
)
def test_a_systemctl_that_fails_is_said(tmp_path: Path, fault: OSError, words: str):
    def failing(command: list[str]) -> None:
        if "enable" in command:
            raise fault

    machine = Machine(tmp_path, failing)
    with pytest.raises(ServiceFailed, match=words):
        machine.systemd.install(machine.site, waits=False)


def test_a_refused_write_names_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(file: Path, _: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(system, "write_bytes", refuse)
    machine = Machine(tmp_path, is_system=True)
    with pytest.raises(ServiceFailed) as error:
        machine.systemd.install(machine.site, waits=False)
    assert "cannot be written: Permission denied; this needs root" in str(error.value)
    assert "`sudo dna-pipeline --config F service install --system`" in str(error.value)


def test_the_status_tells_what_systemd_knows(tmp_path: Path):
    shown = (
        "ActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=7\nNRestarts=2\n"
        "StatusText=a=b: img2img 62%\nResult=success\nActiveEnterTimestamp=Sun 2026-11-29\n"
    )
    machine = Machine(tmp_path, lambda command: Output(0, shown, "") if "show" in command else None)
    assert not machine.systemd.status(machine.site.key).is_installed
    machine.systemd.install(machine.site, waits=False)
    status = machine.systemd.status(machine.site.key).to_dict()
    assert (status["installed"], status["enabled"], status["active"]) == (True, True, True)
    assert status["state"] == "active (running)"
    details = status["details"]
    assert (details["pid"], details["restarts"], details["says"]) == (7, 2, "a=b: img2img 62%")


def test_removing_stops_it_first_and_removes_it_once(tmp_path: Path):
    machine = Machine(tmp_path)
    name = machine.systemd.install(machine.site, waits=False).name
    machine.changes()
    assert machine.systemd.remove(machine.site.key)
    assert machine.changes() == [
        f"systemctl --user disable --now {name}",
        "systemctl --user daemon-reload",
        f"systemctl --user reset-failed {name}",
    ]
    assert not machine.file.exists()
    assert not machine.systemd.remove(machine.site.key)
    assert machine.changes() == []


def test_units_of_a_person_are_where_systemd_looks(monkeypatch: pytest.MonkeyPatch):
    tools = Tools()
    moved = Systemd("ann", is_system=False, run=tools, env={"XDG_CONFIG_HOME": "/c"})
    assert moved.file("k") == Path("/c/systemd/user/dna-pipeline-k.service")
    monkeypatch.setenv("HOME", "/home/ann")
    usual = Systemd("ann", is_system=False, run=tools, env={})
    assert usual.file("k") == Path("/home/ann/.config/systemd/user/dna-pipeline-k.service")
    machine = Systemd("ann", is_system=True, run=tools, env={})
    assert machine.file("k") == Path("/etc/systemd/system/dna-pipeline-k.service")
