"""Where the scripts install torch from; a stand-in takes pip's place."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[3]
INDEX = "https://mirror.example/whl/cu130"
TORCH = "torch==2.99.0"

PIP = """\
#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if os.environ.get("PIP_FAILS", "nothing") in sys.argv:
    sys.exit("ERROR: No matching distribution found")
"""


class Project:
    """A project of its own with the script, and an environment whose Python writes down how it is
    called: no test reaches the environment in which it runs."""

    def __init__(self, root: Path) -> None:
        self._log = root / "calls"
        (root / "constraints.txt").write_text(f"{TORCH}\n")
        (root / "pyproject.toml").write_text("")
        (root / "scripts").mkdir()
        script = shutil.copy(ROOT / "scripts/environment.py", root / "scripts/environment.py")
        python = root / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(PIP.format(python=sys.executable, log=str(self._log)))
        python.chmod(0o755)
        spec = importlib.util.spec_from_file_location("environment_of_test", script)
        assert spec is not None
        assert spec.loader is not None
        self.script: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.script)
        assert root == self.script.ROOT

    def calls(self, *, dev: bool = False) -> list[list[str]]:
        """Make the environment; the arguments of each `pip install`, without the common options."""
        self.script.ensure(dev=dev)
        return self.log()

    def log(self) -> list[list[str]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return [json.loads(line)[6:] for line in lines]

    def run_on(self, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the script take this system for another, without a driver."""
        others = {name: getattr(sys, name) for name in ("executable", "version", "version_info")}
        monkeypatch.setattr(self.script, "sys", SimpleNamespace(platform=system, **others))
        monkeypatch.setattr(self.script, "has_nvidia_driver", lambda: False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    if os.name == "nt":
        pytest.skip("the stand-in is a script with #!")
    monkeypatch.delenv("DNA_TORCH_INDEX_URL", raising=False)
    return Project(tmp_path)


@pytest.mark.parametrize(("system", "wanted"), [("linux", f"{TORCH}+cpu"), ("win32", TORCH)])
def test_without_an_index_and_without_a_driver(
    project: Project, monkeypatch: pytest.MonkeyPatch, system: str, wanted: str
):
    project.run_on(system, monkeypatch)
    first, rest = project.calls()
    assert first == [wanted]
    assert rest[:1] == ["-c"]
    assert project.calls() == []


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_torch_comes_from_the_index_that_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, system: str
):
    project.run_on(system, monkeypatch)
    project.calls()
    monkeypatch.setenv("DNA_TORCH_INDEX_URL", INDEX)
    alone, dependencies, rest = project.calls()
    assert alone == ["--index-url", INDEX, "--no-deps", "--force-reinstall", TORCH]
    assert dependencies == ["--extra-index-url", INDEX, TORCH]
    assert INDEX not in rest


@pytest.mark.parametrize(("dev", "extras"), [(False, "[web]"), (True, "[dev,web]")])
def test_the_server_is_installed_with_the_rest(project: Project, dev: bool, extras: str):
    assert project.calls(dev=dev)[-1][-1].endswith(extras)


def test_torch_is_installed_once_from_each_index(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DNA_TORCH_INDEX_URL", INDEX)
    assert len(project.calls()) == 3
    assert project.calls() == []
    assert [call[0] for call in project.calls(dev=True)] == ["-c"]
    monkeypatch.delenv("DNA_TORCH_INDEX_URL")
    assert project.calls() == []
    monkeypatch.setenv("DNA_TORCH_INDEX_URL", INDEX.replace("130", "126"))
    assert len(project.calls()) == 3


def test_an_index_without_torch_is_named(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DNA_TORCH_INDEX_URL", INDEX)
    monkeypatch.setenv("PIP_FAILS", INDEX)
    with pytest.raises(project.script.SetupError, match="DNA_TORCH_INDEX_URL names"):
        project.script.ensure(dev=False)
    assert len(project.log()) == 1
    monkeypatch.delenv("PIP_FAILS")
    assert len(project.calls()) == 3
