"""The container: its files are linted here, and built where something builds images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "integrations/container"
CONTAINERFILE = FOLDER / "Containerfile"
COMPOSE = FOLDER / "compose.yaml"
BUILDERS = ("podman", "docker", "buildah")
BASE = "python:3.11-slim-bookworm"


def run(
    *command: str | Path, limit_s: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=limit_s, **options
    )


def instructions(name: str) -> list[str]:
    """Arguments of all instructions of a name, with continued lines joined."""
    text = CONTAINERFILE.read_text().replace("\\\n", "")
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


@pytest.mark.slow
def test_the_containerfile_is_linted(tmp_path: Path, lacking: Callable[[str], None]):
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        lacking("hadolint is not installed")
    done = run(tool, CONTAINERFILE)
    assert done.stdout + done.stderr == ""
    (wrong := tmp_path / "Containerfile").write_text("FROM python:latest\nRUN cd /tmp && sudo ls\n")
    assert run(tool, wrong).returncode != 0, "it would see a slip"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_follow_their_schema(tmp_path: Path, name: str):
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    done = run(*check, FOLDER / name)
    assert done.returncode == 0, done.stdout
    text = (FOLDER / name).read_text()
    (wrong := tmp_path / name).write_text(
        text.replace("services:\n  daemon:", "services:\n  daemon:\n    comand: x")
    )
    assert run(*check, wrong).returncode != 0, "it would see a slip"


def test_nothing_runs_as_root_and_state_is_outside():
    assert instructions("USER") == ["$UID"]
    (volumes,) = instructions("VOLUME")
    assert yaml.safe_load(volumes) == ["/studio/inbox", "/studio/outbox", "/studio/data"]


def test_what_is_copied_is_sent_to_the_builder():
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied: set[str] = set()
    for line in instructions("COPY"):
        if "--from=" not in line:
            *sources, _ = (word for word in line.split() if not word.startswith("--"))
            copied |= set(sources)
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


def test_the_daemon_of_compose_has_no_network_and_little_rights():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    daemon = services["daemon"]
    assert daemon["network_mode"] == "none"
    assert (daemon["read_only"], daemon["cap_drop"]) == (True, ["ALL"])
    targets = {volume["target"] for volume in daemon["volumes"]}
    assert targets == {f"/studio/{name}" for name in ("pipeline.yaml", "inbox", "outbox", "data")}
    # Docker would make missing folders, as root.
    assert not any(volume["bind"]["create_host_path"] for volume in daemon["volumes"])
    (check,) = instructions("HEALTHCHECK")
    assert yaml.safe_load(check.partition("CMD ")[2]) == daemon["healthcheck"]["test"][1:]
    assert services["pull"]["profiles"] == ["pull"], "only that one has a network"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("arguments", "refused", "calls"),
    [
        (["cpu"], "", ["torch=={v}+cpu"]),
        (["cpu"], "+cpu", ["torch=={v}+cpu", "torch=={v}"]),
        (["cpu", ""], "", ["torch=={v}+cpu"]),
        (["cuda"], "", ["torch=={v}"]),
        (
            ["cuda", "https://mirror.example/x"],
            "",
            ["--extra-index-url https://mirror.example/x torch=={v}"],
        ),
    ],
)
def test_the_build_of_torch_follows_the_device(
    tmp_path: Path, arguments: list[str], refused: str, calls: list[str]
):
    pip = tmp_path / "pip"
    pip.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f'case "$*" in *"{refused or "no such text"}") exit 1;; esac\n'
    )
    pip.chmod(0o755)
    script = FOLDER / "install_torch.sh"
    done = run("sh", script, *arguments, cwd=ROOT, env=os.environ | {"PIP": str(pip)})
    assert done.returncode == 0, done.stderr
    version = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert version is not None
    expected = [f"install -c constraints.txt {call.format(v=version[1])}" for call in calls]
    assert (tmp_path / "calls").read_text().splitlines() == expected


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_another_device_is_refused():
    done = run("sh", FOLDER / "install_torch.sh", "gpu", cwd=ROOT)
    assert done.returncode == 2
    assert "it is cpu or cuda" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_image_is_built_and_runs(tmp_path: Path):
    builder = next((name for name in BUILDERS if shutil.which(name)), None)
    if builder is None or run(builder, "info").returncode != 0:
        pytest.skip("nothing here builds images")
    if run(builder, "pull", BASE, limit_s=600).returncode != 0:
        pytest.skip(f"{BASE} cannot be had")
    options = ["--format", "docker"] if builder != "docker" else []
    build = run(
        builder, "build", *options, "-f", CONTAINERFILE, "-t", "dna-pipeline:test", ROOT,
        limit_s=3000,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr[-3000:]
    if builder == "buildah":
        return
    once = (builder, "run", "--rm", "--network", "none", "dna-pipeline:test")
    assert run(*once, "check", limit_s=120).returncode in (0, 2)
    assert run(*once, "status", "--alive", limit_s=120).returncode == 1
