"""The extension's way to a server, with a stand-in for Blender's module."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from integrations import client
from integrations.client import Drop, ServerClient, State

SOURCES = Path(client.__file__).parent / "blender"
NAME = "blender_extension_of_a_test"


def bpy_module(tmp_path: Path) -> ModuleType:
    bpy: Any = ModuleType("bpy")
    names = ("BoolProperty", "IntProperty", "PointerProperty", "StringProperty")
    props = SimpleNamespace(**{name: lambda **_: None for name in names})
    bpy.props = ModuleType("bpy.props")
    vars(bpy.props).update(vars(props))
    bpy.types = SimpleNamespace(
        AddonPreferences=object, PropertyGroup=object, Image=object, Operator=object, Panel=object
    )
    bpy.path = SimpleNamespace(abspath=lambda path: path)
    bpy.data = SimpleNamespace(filepath="")
    bpy.app = SimpleNamespace(tempdir=str(tmp_path / "temp"), online_access=False)
    chosen = SimpleNamespace(server="", token="", certificate="", folder="", inboxes="")
    addons = {NAME: SimpleNamespace(preferences=chosen)}
    bpy.context = SimpleNamespace(
        preferences=SimpleNamespace(addons=addons), scene=SimpleNamespace(
            name="Scene", cursor=SimpleNamespace(location=[0, 0, 0])
        ),
    )  # fmt: skip
    return bpy


@pytest.fixture
def bpy(tmp_path: Path) -> Iterator[Any]:
    """Blender's module; the extension can be imported as the package `NAME`."""
    module = bpy_module(tmp_path)
    package = ModuleType(NAME)
    package.__path__ = [str(SOURCES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bpy", module)
        patch.setitem(sys.modules, "bpy.props", module.props)
        patch.setitem(sys.modules, NAME, package)
        patch.setitem(sys.modules, f"{NAME}.client", client)
        yield module
    for name in [name for name in sys.modules if name.startswith(f"{NAME}.")]:
        del sys.modules[name]


@pytest.fixture
def preferences(bpy: Any) -> Any:
    return bpy.context.preferences.addons[NAME].preferences


def part(name: str) -> Any:
    return importlib.import_module(f"{NAME}.{name}")


def test_a_server_takes_the_place_of_the_folders(bpy: Any, preferences: Any, tmp_path: Path):
    preferences.server, preferences.token = " http://127.0.0.1:8000 ", "secret"
    preferences.folder = "/studio/outbox"
    made = part("settings").client_for("mesh")
    assert isinstance(made, ServerClient)
    assert made._token == "secret"
    assert made._folder == tmp_path / "temp/dna-pipeline"


def test_results_come_beside_the_blend(bpy: Any, preferences: Any):
    preferences.server = "http://localhost:8000"
    bpy.data.filepath = "/project/chair.blend"
    assert part("settings").client_for("mesh")._folder == Path("/project/dna-pipeline")


def test_another_machine_needs_online_access(bpy: Any, preferences: Any):
    preferences.server = "https://studio:8000"
    with pytest.raises(ValueError, match="Allow Online Access"):
        part("settings").client_for("mesh")
    bpy.app.online_access = True
    assert isinstance(part("settings").client_for("mesh"), ServerClient)


def test_an_address_is_one_of_the_web(bpy: Any, preferences: Any):
    preferences.server = "studio:8000"
    with pytest.raises(ValueError, match="begin with https"):
        part("settings").client_for("mesh")


def test_lists_of_the_panel_ask_once_and_briefly(bpy: Any, preferences: Any):
    preferences.server = "http://127.0.0.1:8000"
    made = part("settings").client_for("", is_brief=True)
    assert (made._timeout_s, made._waits_s) == (3.0, ())


def test_without_a_choice(bpy: Any, preferences: Any):
    with pytest.raises(ValueError, match="Choose the outbox, or a server"):
        part("settings").client_for("mesh")


def test_folders_as_before(bpy: Any, preferences: Any, tmp_path: Path):
    preferences.folder, preferences.inboxes = str(tmp_path / "out"), str(tmp_path / "in")
    made = part("settings").client_for("mesh")
    assert (made.outbox, made._inboxes) == (tmp_path / "out", {"mesh": tmp_path / "in/mesh"})


def test_a_mesh_is_downloaded_before_the_timer_sees_the_end(bpy: Any):
    tasks = part("tasks")
    order: list[str] = []

    class Done(State):
        def paths(self, role: str) -> list[Path]:
            order.append(f"downloaded {role} while {task.state.kind}")
            if len(order) < 3:
                raise ConnectionError("the line is bad")
            return []

    class Server:
        def send(self, **_: Any) -> Drop:
            return Drop("mesh", Path("a.png"), "0", "", 0.0)

        def state(self, _: Drop) -> State:
            return Done("completed", job="1a2b")

        def page(self, state: State) -> str:
            return f"http://127.0.0.1:8000/results/{state.job}"

    tasks.INTERVAL_S = 0.001
    task = tasks.Task(Server(), b"", {"name": "a"})
    task.run()
    assert task.state.kind == "completed"
    assert task.page == "http://127.0.0.1:8000/results/1a2b"
    assert order == ["downloaded mesh while waiting"] * 3


def test_the_manifest_asks_for_what_it_does():
    manifest = tomllib.loads((SOURCES / "blender_manifest.toml").read_text())
    assert set(manifest["permissions"]) == {"files", "network"}
    for reason in manifest["permissions"].values():
        assert len(reason) <= 64
        assert not reason.endswith(".")
