"""Finished meshes in the scene: imported once, and replaced by newer ones.

glTF's +Y up and +Z front become +Z up and -Y front in Blender's importer: upright, facing the
front view. The vertex colours come with a material that shows them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .client import State

INBOX, STEM, NAME = "dna_inbox", "dna_stem", "dna_name"
"""Custom properties of a result's collection: of what its meshes were made."""


def import_result(path: Path, state: State, scene: Any, at: Any) -> None:
    """Import a result into a collection of its own, with its origin at that place."""
    scene = scene or bpy.context.scene
    objects = _import(path)
    collection = bpy.data.collections.new(state.folder.name)
    collection[INBOX] = state.manifest["job"]["inbox"]
    collection[STEM] = path.stem
    collection[NAME] = state.manifest["input"]["name"]
    scene.collection.children.link(collection)
    for item in objects:
        _move(item, collection)
        if item.parent is None:
            item.location += at
    _remember(f"Import {collection.name}")


def collection_of(item: Any) -> Any:
    """The result's collection that the object is in; None where it is in none."""
    return next((c for c in item.users_collection if STEM in c), None) if item else None


def replace(collection: Any, path: Path) -> None:
    """Give the meshes of a newer result to the objects of an older one, which stay as placed."""
    old = [item for item in collection.objects if item.type == "MESH"]
    new = [item for item in _import(path) if item.type == "MESH"]
    for item, newer in zip(old, new, strict=False):
        mesh, item.data = item.data, newer.data
        bpy.data.objects.remove(newer)
        _remove_unused(mesh)
    for newer in new[len(old) :]:
        _move(newer, collection)
        newer.matrix_world = old[0].matrix_world
    for item in old[len(new) :]:
        bpy.data.objects.remove(item)
    _remember(f"Reload {collection.name}")


def _import(path: Path) -> list[Any]:
    """Import a GLB and leave the selection as it was; the new objects."""
    before = set(bpy.data.objects)
    with _in_window():
        layer = bpy.context.view_layer
        active, selected = layer.objects.active, list(bpy.context.selected_objects)
        bpy.ops.import_scene.gltf(filepath=str(path))
        new = [item for item in bpy.data.objects if item not in before]
        for item in new:
            item.select_set(False)
        for item in selected:
            item.select_set(True)
        layer.objects.active = active
    return new


@contextmanager
def _in_window() -> Iterator[None]:
    """A timer has no window, and operators want one."""
    windows = bpy.context.window_manager.windows
    if bpy.context.window is not None or not windows:
        yield
        return
    with bpy.context.temp_override(window=windows[0]):
        yield


def _move(item: Any, collection: Any) -> None:
    for other in list(item.users_collection):
        other.objects.unlink(item)
    collection.objects.link(item)


def _remove_unused(mesh: Any) -> None:
    materials = [material for material in mesh.materials if material]
    for block, owner in [(mesh, bpy.data.meshes), *((m, bpy.data.materials) for m in materials)]:
        if block.users == 0:
            owner.remove(block)


def _remember(message: str) -> None:
    """A step that Undo can take back by itself."""
    if not bpy.app.background:
        with _in_window():
            bpy.ops.ed.undo_push(message=message)
