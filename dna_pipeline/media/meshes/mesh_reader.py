"""Meshes as trimesh reads them, with the materials and pictures that they name.

trimesh passes over a material or a picture that it cannot load; here each is a fault.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import trimesh
from trimesh.resolvers import FilePathResolver

logging.getLogger("trimesh").setLevel(logging.CRITICAL)  # its warnings are faults here


class _Companions(FilePathResolver):
    """The files beside a mesh, and the names of those that cannot be read."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.missing: list[str] = []

    def get(self, name: str) -> Any:
        try:
            return super().get(name)
        except Exception:
            self.missing.append(name)
            raise


def read(path: Path) -> dict[str, Any]:
    """Read a .glb, .obj, .ply or .stl, and give its facts as a manifest has them.

    Returns:
        `faces`; `vertices`, except of an STL, in which faces share none; `texture`: the side of
        its picture in pixels, None without one.

    Raises:
        ValueError: the mesh is damaged, or a file that it names.
        Whatever trimesh and Pillow raise where the bytes are damaged.
    """
    kind = path.suffix[1:].lower()
    companions = _Companions(path)
    with path.open("rb") as file:
        load = cast(Any, trimesh).load_scene
        scene = load(file, kind, resolver=companions, process=False)
    if companions.missing:
        raise ValueError(f"{companions.missing[0]}, which it names, cannot be read")
    meshes: list[Any] = [*scene.geometry.values()]
    if not meshes:
        raise ValueError("it has no faces")
    for mesh in meshes:
        _check(mesh)
    facts: dict[str, Any] = {"faces": sum(len(mesh.faces) for mesh in meshes)}
    if kind != "stl":
        facts["vertices"] = sum(len(mesh.vertices) for mesh in meshes)
        facts["texture"] = next(filter(None, map(_texture_px, meshes)), None)
    return facts


def _check(mesh: Any) -> None:
    if not isinstance(mesh, trimesh.Trimesh):
        raise ValueError("it has no faces")
    if bad := int((~np.isfinite(mesh.vertices)).any(axis=1).sum()):
        raise ValueError(f"{bad} of {len(mesh.vertices)} vertices are not finite")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise ValueError("a face names a vertex that is not there")


def _texture_px(mesh: Any) -> int | None:
    """Side of a mesh's picture, which is decoded to its end."""
    material = getattr(mesh.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is None:
        return None
    picture.load()
    return int(picture.width)
