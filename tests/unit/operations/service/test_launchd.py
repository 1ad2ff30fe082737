from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError, ServiceFailed
from dna_pipeline.base.programs import Output
from dna_pipeline.operations.service import system
from dna_pipeline.operations.service.launchd import Launchd
from dna_pipeline.operations.service.system import MARK, MARK_BYTES
from tests.service_tools import Answer, Tools, refusing, site_at

PRINTED = "gui/501/dna-pipeline.x = {\n\tactive count = 1\n\tstate = running\n\n\tpid = 77\n}\n"


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/bin/{name}")


def agent(folder: Path, tools: Tools, *, is_system: bool = False) -> Launchd:
    return Launchd(
        "ann", 501, is_system=is_system, run=tools, folder=folder / "agents", sleep=lambda _: None
    )


def test_the_property_list_holds_any_path(tmp_path: Path):
    site = site_at(Path("/Volumes/My <Studio> & 50% 猫"), DNA_DATA_DIR="/d")
    text = agent(tmp_path, Tools()).text(site)
    assert MARK in text[:MARK_BYTES]
    values = plistlib.loads(text.encode())
    assert values["ProgramArguments"] == [*site.command, "--quiet"]
    assert values["KeepAlive"] == {"SuccessfulExit": False}
    assert values["RunAtLoad"] is True
    assert values["EnvironmentVariables"] == {"DNA_DATA_DIR": "/d"}
    assert values["StandardErrorPath"] == str(site.logs / "service.log")
    assert "UserName" not in values
    machine = plistlib.loads(agent(tmp_path, Tools(), is_system=True).text(site).encode())
    assert machine["UserName"] == "ann"


def loading(ends_after: int) -> Answer:
    """Answers as launchd does; a service that was ended is still there for so many looks."""
    left = [0]

    def answer(command: list[str]) -> Output | None:
        if "bootstrap" in command:
            left[0] = 1000
        if "bootout" in command:
            left[0] = ends_after
        if "print" not in command:
            return None
        left[0] -= 1
        return Output(0, PRINTED, "") if left[0] >= 0 else Output(113, "", "")

    return answer


def test_an_agent_is_loaded_once_and_anew_after_a_change(tmp_path: Path):
    tools = Tools(loading(ends_after=2))
    launchd, site = agent(tmp_path, tools), site_at(tmp_path / "s")
    name = launchd.name(site.key)
    assert launchd.install(site, waits=False).has_changed
    enable, load = (
        f"launchctl enable gui/501/{name}",
        f"launchctl bootstrap gui/501 {launchd.file(site.key)}",
    )
    assert tools.calls[1:] == [enable, load]
    tools.calls.clear()
    assert not launchd.install(site, waits=False).has_changed
    assert tools.calls == [f"launchctl print gui/501/{name}"]
    tools.calls.clear()
    launchd.install(site_at(tmp_path / "s", PYTHONUTF8="1"), waits=False)
    look = f"launchctl print gui/501/{name}"
    assert tools.calls == [
        look,
        f"launchctl bootout gui/501/{name}",
        look,
        look,
        look,
        enable,
        load,
    ]
    tools.calls.clear()
    assert launchd.remove(site.key)
    assert tools.calls == [look, f"launchctl bootout gui/501/{name}", look, look, look]
    assert not launchd.remove(site.key)


def test_an_agent_that_does_not_end_is_said(tmp_path: Path):
    tools = Tools(loading(ends_after=1000))
    launchd, site = agent(tmp_path, tools), site_at(tmp_path / "s")
    launchd.install(site, waits=False)
    with pytest.raises(ServiceFailed, match="does not end"):
        launchd.remove(site.key)
    assert launchd.file(site.key).exists()


def test_the_status_is_read_from_launchd(tmp_path: Path):
    tools = Tools(loading(ends_after=0))
    launchd, site = agent(tmp_path, tools), site_at(tmp_path / "s")
    assert not launchd.status(site.key).is_installed
    launchd.install(site, waits=False)
    status = launchd.status(site.key)
    assert (status.is_active, status.state, status.details["pid"]) == (True, "running", 77)


def test_an_agent_of_others_is_left_alone(tmp_path: Path):
    launchd, site = agent(tmp_path, Tools()), site_at(tmp_path / "s")
    launchd.file(site.key).parent.mkdir()
    launchd.file(site.key).write_text("<plist/>")
    for act in (lambda: launchd.install(site, waits=False), lambda: launchd.remove(site.key)):
        with pytest.raises(ConfigError, match="not written by dna-pipeline"):
            act()
    assert len(launchd.status(site.key).remarks) == 1


def test_a_refusal_of_launchd_is_said(tmp_path: Path):
    def answer(command: list[str]) -> Output | None:
        return refusing("print", "", 113)(command) or refusing("bootstrap", "5: I/O error")(command)

    with pytest.raises(ServiceFailed, match=r"5: I/O error.*own screen"):
        agent(tmp_path, Tools(answer)).install(site_at(tmp_path / "s"), waits=False)


def test_the_folder_of_the_log_is_made_where_a_data_folder_is(tmp_path: Path):
    site = site_at(tmp_path)
    site.data.mkdir()
    agent(tmp_path, Tools(loading(ends_after=0))).install(site, waits=False)
    assert site.logs.is_dir()
