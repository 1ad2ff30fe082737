"""`dna-pipeline service` as people call it, with a `systemctl` of the test's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.service import manage, systemd
from dna_pipeline.operations.service.manage import Caller
from tests.commands import Done, call, facts
from tests.integration.test_cli import CONFIG

if sys.platform == "win32":
    pytest.skip("the stand-in is a shell's", allow_module_level=True)

SYSTEMCTL = """\
#!/bin/sh
# Keeps which units run in files beside it.
cd "$(dirname "$0")" || exit 1
echo "$@" >> calls
[ "$1" = --user ] && shift
command=$1; shift
for unit; do :; done
[ -e fails ] && [ "$command" = "$(cat fails)" ] && { echo "Job for $unit failed." >&2; exit 1; }
case $command in
  show) unit=$1; [ -e "$unit.active" ] && echo ActiveState=active || echo ActiveState=inactive
        echo SubState=running; echo UnitFileState=enabled; echo StatusText=no jobs;;
  start) [ "$1" = --no-block ] || touch "$unit.active";;
  disable) rm -f "$unit.active";;
esac
"""


class Machine:
    """A site, and the folder of the tools that it finds."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "my studio"
        self.tools = folder / "tools"
        self.units = folder / "config/systemd/user"
        self.machine_units = folder / "etc"
        (self.site / "inbox/cut").mkdir(parents=True)
        (self.site / "pipeline.yaml").write_text(CONFIG)
        self.tools.mkdir()
        for name, text in {"systemctl": SYSTEMCTL, "loginctl": "#!/bin/sh\n"}.items():
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)

    def calls(self) -> list[str]:
        file = self.tools / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def service(self, *arguments: str, config: Path | None = None) -> Done:
        chosen = ["--config", str(config)] if config else []
        return call(self.site, *chosen, "service", *arguments)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{machine.tools}{os.pathsep}{os.environ['PATH']}")
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": str(tmp_path)}
    monkeypatch.setattr(manage, "caller", lambda: Caller("linux", "ann", 1000, env))
    monkeypatch.setattr(systemd, "SYSTEM_UNITS", machine.machine_units)
    return machine


def test_install_status_and_remove(machine: Machine):
    done = machine.service("install")
    assert done.returncode == 0, done.stderr
    (unit,) = machine.units.iterdir()
    assert f"wrote {unit}" in done.stdout
    assert unit.name.startswith("dna-pipeline-my-studio-")
    again = machine.service("install")
    assert (again.returncode, list(machine.units.iterdir())) == (0, [unit])
    assert "unchanged:" in again.stdout

    shown = machine.service("status")
    assert shown.returncode == 0
    assert "active (running)" in shown.stdout
    told = facts(machine.site, "service", "status")
    assert (told["installed"], told["active"], told["file"]) == (True, True, str(unit))
    assert told["details"]["says"] == "no jobs"

    assert machine.service("remove").stdout == f"removed: {unit.name}\n"
    assert list(machine.units.iterdir()) == []
    gone = machine.service("status")
    assert (gone.returncode, gone.stdout.split(";")[0]) == (1, "not installed")
    assert machine.service("remove").stdout == "not installed\n"


def test_sites_get_services_of_their_own(machine: Machine, tmp_path: Path):
    other = tmp_path / "other disk/my studio/pipeline.yaml"
    other.parent.mkdir(parents=True)
    other.write_text(CONFIG)
    assert machine.service("install").returncode == 0
    assert machine.service("install", config=other).returncode == 0
    assert len(list(machine.units.iterdir())) == 2
    assert machine.service("remove", config=other).returncode == 0
    (left,) = machine.units.iterdir()
    assert str(machine.site / "pipeline.yaml") in left.read_text()


@pytest.mark.parametrize("option", ["--print", "--dry-run"])
def test_a_preview_does_nothing(machine: Machine, option: str):
    done = machine.service("install", option)
    assert done.returncode == 0
    assert "would be written to" in done.stderr
    assert done.stdout.startswith("# Written by")
    assert f'--config "{machine.site / "pipeline.yaml"}" watch --plain' in done.stdout
    assert not machine.units.exists()
    assert machine.calls() == []


def test_a_service_of_the_machine_runs_as_the_owner_of_the_folder(machine: Machine):
    assert machine.service("install", "--system", "--run-as", "nobody").returncode == 0
    (unit,) = machine.machine_units.iterdir()
    assert "\nUser=nobody\n" in unit.read_text()
    owner = (machine.site / "pipeline.yaml").owner()
    assert machine.service("install", "--system").returncode == 0
    assert f"\nUser={owner}\n" in unit.read_text()
    assert not [line for line in machine.calls() if "--user" in line]
    assert machine.service("status").returncode == 0, "it is found without --system, too"
    assert machine.service("remove").returncode == 0
    assert list(machine.machine_units.iterdir()) == []


def test_sudo_makes_a_service_of_the_machine_for_its_caller(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    root = Caller("linux", "root", 0, {"SUDO_USER": "daemon"})
    monkeypatch.setattr(manage, "caller", lambda: root)
    assert machine.service("install").returncode == 0
    (unit,) = machine.machine_units.iterdir()
    assert "\nUser=daemon\n" in unit.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run-as", "nobody"], "use it with --system"),
        (["--system", "--run-as", "nobody-at-all"], "there is no such user here"),
    ],
)
def test_a_wrong_call(machine: Machine, arguments: list[str], words: str):
    done = machine.service("install", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_wrong_configuration_is_not_installed(machine: Machine):
    (machine.site / "pipeline.yaml").write_text(CONFIG.replace("inboxes", "inboxs"))
    done = machine.service("install")
    assert done.returncode == 2
    assert "line 4" in done.stderr
    assert not machine.units.exists()


def test_a_site_that_is_gone_can_still_be_removed(machine: Machine):
    assert machine.service("install").returncode == 0
    (machine.site / "pipeline.yaml").unlink()
    assert machine.service("remove").returncode == 0
    assert list(machine.units.iterdir()) == []


def test_a_daemon_that_runs_by_hand_is_named(machine: Machine):
    with hold_lock(machine.site / "data"):
        done = machine.service("install")
    assert done.returncode == 0
    assert "is held by another daemon (process" in done.stderr
    assert any("start --no-block" in line for line in machine.calls())


def test_a_unit_of_others_is_a_wrong_call(machine: Machine):
    assert machine.service("install").returncode == 0
    (unit,) = machine.units.iterdir()
    unit.write_text("[Service]\n")
    done = machine.service("install")
    assert done.returncode == 2
    assert "was not written by dna-pipeline" in done.stderr
    assert unit.read_text() == "[Service]\n"


@pytest.mark.parametrize(
    ("step", "words"), [("show-environment", "does not answer"), ("start", "did not start")]
)
def test_a_refusal_of_systemd_is_exit_status_1(machine: Machine, step: str, words: str):
    (machine.tools / "fails").write_text(step)
    done = machine.service("install")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_system_that_is_not_known_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manage, "caller", lambda: Caller("freebsd14", "ann", 1000, {}))
    done = machine.service("install")
    assert done.returncode == 2
    assert "not known for freebsd14" in done.stderr
    assert "watch --plain" in done.stderr


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_what_was_never_run_is_said_to_be_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, platform: str
):
    tool = {"darwin": "launchctl", "win32": "schtasks"}[platform]
    (machine.tools / tool).write_text("#!/bin/sh\n[ $1 != /Query ] && [ $1 != print ]\n")
    (machine.tools / tool).chmod(0o755)
    monkeypatch.setenv("HOME", str(machine.site.parent))
    monkeypatch.setattr(manage, "caller", lambda: Caller(platform, "ann", 501, {}))
    done = machine.service("install")
    assert done.returncode == 0, done.stderr
    assert "the project never ran one" in done.stderr
