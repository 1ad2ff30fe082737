"""The unit file, read by systemd itself where it is there, and by a shell's rules."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.operations.service.site import Site
from dna_pipeline.operations.service.system import MARK, MARK_BYTES
from dna_pipeline.operations.service.systemd_unit import command_line, quoted, unit_text

NAMES = ["studio", "my studio", "50% off", "猫 é", "a$HOME b", 'say "hi"', "it's", "back\\slash\\"]
HELPER = "/usr/bin/nvidia-modprobe"


def site_in(folder: Path, python: str = sys.executable) -> Site:
    config = folder / "pipeline.yaml"
    return Site(
        config=config,
        data=folder / "data",
        logs=folder / "data/logs",
        command=(python, "-m", "dna_pipeline", "--config", str(config), "watch", "--plain"),
        variables={"DNA_DATA_DIR": str(folder / "data")},
    )


def values(text: str, key: str) -> list[str]:
    return [line[len(key) + 1 :] for line in text.splitlines() if line.startswith(f"{key}=")]


def words(line: str) -> list[str]:
    """The words that systemd makes of a command: quotes as in a shell, then `%%` and `$$`."""
    return shlex.split(line.replace("%%", "%").replace("$$", "$"))


@pytest.fixture
def verify(tmp_path: Path, lacking: Callable[[str], None]) -> Callable[[str, bool], str]:
    """Gives what `systemd-analyze verify` says about a unit; nothing if all is well."""
    if shutil.which("systemd-analyze") is None:
        lacking("systemd-analyze is not installed")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)

    def check(text: str, is_system: bool) -> str:
        file = tmp_path / "dna-pipeline-x.service"
        file.write_text(text, encoding="utf-8")
        scope = [] if is_system else ["--user"]
        done = subprocess.run(
            ["systemd-analyze", *scope, "--man=no", "verify", str(file)],
            capture_output=True, text=True, timeout=60,
            env=os.environ | {"XDG_RUNTIME_DIR": str(runtime)},
        )  # fmt: skip
        said = done.stdout + done.stderr
        return said if done.returncode or "dna-pipeline-x" in said else ""

    return check


@pytest.mark.slow
@pytest.mark.parametrize("is_system", [True, False], ids=["system", "user"])
@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_the_unit(
    tmp_path: Path, verify: Callable[[str, bool], str], name: str, is_system: bool
):
    folder = tmp_path / name
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    text = unit_text(
        site_in(folder, str(python)), user="root" if is_system else None, gpu_helper="/bin/true"
    )
    assert verify(text, is_system) == ""
    assert verify(text.replace("Restart=", "Restrat="), is_system) != "", "it would see a slip"


@pytest.mark.parametrize("name", NAMES)
def test_each_word_of_the_command_is_as_it_was(name: str):
    site = site_in(Path("/studios", name), f"/opt/{name.replace(chr(92), '')}/python")
    found = words(command_line(site.command))
    if found[0] == "/bin/sh":
        assert found[1:3] == ["-c", 'exec "$0" "$@"']
        found = found[3:]
    assert tuple(found) == site.command


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize("name", NAMES)
def test_an_odd_program_is_started_by_a_shell_that_becomes_it(tmp_path: Path, name: str):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "python").symlink_to("/bin/echo")
    line = command_line((str(folder / "python"), "a b", "$HOME", '"', name))
    done = subprocess.run(words(line), capture_output=True, text=True, check=True)
    assert done.stdout == f'a b $HOME " {name}\n'


def test_variables_and_mounts_are_quoted():
    text = unit_text(site_in(Path('/studios/50% "a" \\b')), user=None, gpu_helper=None)
    inner = '/studios/50%% \\"a\\" \\\\b'
    assert values(text, "RequiresMountsFor") == [f'"{inner}" "{inner}/data"']
    assert values(text, "Environment") == [f'"DNA_DATA_DIR={inner}/data"']
    assert values(text, "Description") == ['dna-pipeline (/studios/50%% "a" \\b)']
    assert quoted("$x") == '"$x"', "only commands have variables"


def test_a_hung_or_crashed_daemon_is_started_again_for_ever():
    text = unit_text(site_in(Path("/s")), user=None, gpu_helper=None)
    for key, value in {
        "Type": "notify", "Restart": "on-failure", "WatchdogSec": "180", "OOMPolicy": "continue",
        "StartLimitIntervalSec": "0", "KillMode": "mixed", "WantedBy": "default.target",
    }.items():  # fmt: skip
        assert values(text, key) == [value]
    assert MARK in text[:MARK_BYTES]


def test_a_daemon_of_the_machine_waits_for_network_and_runs_as_someone():
    text = unit_text(site_in(Path("/s")), user="ann", gpu_helper=None)
    assert values(text, "User") == ["ann"]
    assert values(text, "After") == ["network-online.target remote-fs.target"]
    assert values(text, "WantedBy") == ["multi-user.target"]
    assert values(text, "CapabilityBoundingSet") == [""]


def test_restrictions_leave_mounts_and_gpus_alone():
    texts = [
        unit_text(site_in(Path("/s")), user=user, gpu_helper=helper)
        for user in (None, "ann")
        for helper in (None, HELPER)
    ]
    for text in texts:
        for key in (
            "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "DevicePolicy",
            "ReadOnlyPaths", "MemoryDenyWriteExecute", "RestrictSUIDSGID", "PrivateMounts",
        ):  # fmt: skip
            assert values(text, key) == []
    without, with_helper, machine, machine_with_helper = texts
    assert values(without, "NoNewPrivileges") == values(machine, "NoNewPrivileges") == ["yes"]
    # CUDA's helper has to become root, which these restrictions of a person's service forbid.
    assert values(with_helper, "NoNewPrivileges") == values(with_helper, "LockPersonality") == []
    assert values(machine_with_helper, "ExecStartPre") == [f"-+{HELPER} -u -c=0"]
    assert values(machine_with_helper, "NoNewPrivileges") == ["yes"]
