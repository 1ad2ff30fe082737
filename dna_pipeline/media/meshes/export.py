"""From a mesh in TripoSR's axes to the files of a result: checked, measured, placed, written."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dna_pipeline.base.errors import NonFiniteOutput
from dna_pipeline.base.files import Artifact, write_bytes
from dna_pipeline.media.meshes import gltf, obj_ply_stl, quality
from dna_pipeline.media.meshes.mesh import FloatArray, Mesh, TexturedMesh, vertex_normals
from dna_pipeline.media.meshes.obj_names import word
from dna_pipeline.media.meshes.orientation import srgb_to_linear, to_gltf, to_z_up
from dna_pipeline.media.meshes.placement import Placement

MEDIA_TYPES = {
    "glb": "model/gltf-binary",
    "obj": "model/obj",
    "ply": "model/ply",  # not registered; what viewers call it
    "stl": "model/stl",
}
Y_UP = {"up": "+Y", "front": "+Z"}
Z_UP = {"up": "+Z", "front": "-Y"}
AXES = {"glb": Y_UP, "obj": Y_UP, "ply": Z_UP, "stl": Z_UP}
"""The axes that each format is expected in: Blender's importers assume them by default."""


def checked(
    mesh: Mesh, radius: float, min_component: float, warn: Callable[[str], None]
) -> tuple[Mesh, dict[str, Any]]:
    """A fresh mesh without its small components, and what the manifest is to tell of that.

    Args:
        mesh: in TripoSR's box [-radius, radius]³.
        radius: half the side of that box.
        min_component: least area of a component, by that of the largest; 0 keeps all.
        warn: is told in sentences what may be wrong.

    Raises:
        NonFiniteOutput: a position or a colour is not a number.
    """
    require_finite(mesh)
    facts: dict[str, Any] = {}
    if min_component:
        mesh, removed = quality.without_small(mesh, min_component)
        facts["removed"] = {"components": removed.components, "faces": removed.faces}
    sides = quality.cut_sides(mesh.vertices, radius)
    facts["cut_by_box"] = bool(sides)
    facts["cut_sides"] = sides
    if sides:
        warn(
            f"The mesh reaches the {_joined(sides)} of the box that TripoSR models, and is cut off "
            "and open there; a smaller foreground_ratio leaves more room."
        )
    return mesh, facts


def require_finite(mesh: Mesh) -> None:
    """Raises NonFiniteOutput where a position or a colour is not a number."""
    for what, values in (("positions", mesh.vertices), ("colors", mesh.colors)):
        if bad := int((~np.isfinite(values)).any(axis=1).sum()):
            raise NonFiniteOutput(f"{bad} of {len(values)} {what} are not finite")


def write(
    mesh: Mesh | TexturedMesh,
    path: Callable[[str], Path],
    formats: Sequence[str],
    placement: Placement,
    *,
    facts: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
) -> list[Artifact]:
    """Write the mesh in each format, in their order, then what an OBJ and a PLY need beside it.

    Args:
        mesh: in TripoSR's axes and box.
        path: gives where a file with that suffix belongs.
        formats: at least one of `MEDIA_TYPES`.
        placement: to its size and place, in metres.
        facts: what else the manifest is to tell of each mesh; of an STL no `texture`.
        recipe: how it was made, for the extras of a .glb.
    """
    shape = _Shape(mesh, placement, path(".glb").stem)
    shared_facts = _facts(shape) | (facts or {})
    files: list[Artifact] = []
    for kind in formats:
        target = path(f".{kind}")
        write_bytes(target, shape.encode(kind, recipe))
        own = {
            name: fact for name, fact in shared_facts.items() if (kind, name) != ("stl", "texture")
        }
        files.append(Artifact(target, "mesh", MEDIA_TYPES[kind], _bounds(shape, kind) | own))
    files += shape.companions(path, formats)
    return files


class _Shape:
    """A mesh at its place, still in TripoSR's axes."""

    def __init__(self, mesh: Mesh | TexturedMesh, placement: Placement, name: str) -> None:
        self.mesh = mesh
        self.placement = placement
        self.name = name
        beside = word(name)
        self.material_file, self.texture_file = f"{beside}.mtl", f"{beside}.texture.png"
        self.vertices = placement.apply(mesh.vertices)
        if isinstance(mesh, TexturedMesh):
            self.normals = mesh.normals
        else:
            self.normals = vertex_normals(mesh.vertices, mesh.faces)

    @cached_property
    def texture_png(self) -> bytes:
        """Made once for all files, where one is to have it."""
        assert isinstance(self.mesh, TexturedMesh)
        return _png(self.mesh)

    def encode(self, kind: str, recipe: dict[str, Any] | None) -> bytes:
        turn = turned(kind)
        vertices, normals, faces = turn(self.vertices), turn(self.normals), self.mesh.faces
        if kind == "stl":
            return obj_ply_stl.stl(vertices, faces)
        colors = self._colors(kind)
        if kind == "ply":
            return obj_ply_stl.ply(vertices, normals, faces, **colors)
        if kind == "obj":
            return obj_ply_stl.obj(vertices, normals, faces, name=self.name, **colors)
        if kind != "glb":
            raise ValueError(f"no mesh format is called {kind!r}")
        extras = {"dna_pipeline": recipe} if recipe else None
        return gltf.glb(vertices, normals, faces, name=self.name, extras=extras, **colors)

    def _colors(self, kind: str) -> dict[str, Any]:
        """Colours or texture, as the writer of that format takes them."""
        mesh = self.mesh
        if isinstance(mesh, Mesh):
            return {"colors": srgb_to_linear(mesh.colors) if kind == "glb" else mesh.colors}
        colors: dict[str, Any] = {"texcoords": mesh.texcoords}
        if kind == "glb":
            return colors | {"texture_png": self.texture_png}
        if kind == "obj":
            return colors | {"material_file": self.material_file}
        return colors | {"texture_file": self.texture_file, "colors": _texels(mesh)}

    def companions(self, path: Callable[[str], Path], formats: Sequence[str]) -> Iterator[Artifact]:
        """The picture and the material that are not in the file itself.

        Their names are those that an OBJ can say, which need not begin with its own.
        """
        if not isinstance(self.mesh, TexturedMesh) or not {"obj", "ply"} & set(formats):
            return
        picture = path(".texture.png").with_name(self.texture_file)
        if "obj" in formats:
            data = obj_ply_stl.mtl(self.name, picture.name, gltf.ROUGHNESS)
            material = picture.with_name(self.material_file)
            write_bytes(material, data)
            yield Artifact(material, "material", "model/mtl")
        height, width = self.mesh.texture.shape[:2]
        write_bytes(picture, self.texture_png)
        yield Artifact(picture, "texture", "image/png", {"width": width, "height": height})


def turned(kind: str) -> Callable[[FloatArray], FloatArray]:
    """The function that turns TripoSR's axes to those of that format."""
    return to_gltf if AXES[kind] is Y_UP else to_z_up


def _facts(shape: _Shape) -> dict[str, Any]:
    """The manifest's facts about a mesh that are the same in all formats; metres."""
    faces = shape.mesh.faces
    if isinstance(shape.mesh, TexturedMesh):
        faces = quality.welded(shape.vertices, faces)
    measures = quality.measure(shape.vertices, faces)
    return {
        "vertices": len(shape.vertices),
        "faces": len(shape.mesh.faces),
        "watertight": measures.watertight,
        "components": measures.components,
        "area": _rounded(measures.area),
        "volume": None if measures.volume is None else _rounded(measures.volume),
    }


def _bounds(shape: _Shape, kind: str) -> dict[str, Any]:
    """The file's axes; in them the least and the greatest corner, metres, and the placement.

    A point of TripoSR's box, turned to these axes, was multiplied by `scale`, then moved.
    """
    turn = turned(kind)
    vertices = turn(shape.vertices)
    moved = turn(np.array([shape.placement.offset], np.float32))
    corners = [vertices.min(axis=0), vertices.max(axis=0), moved[0]]
    extent = float((corners[1] - corners[0]).max())
    # Micrometres; of what is smaller than a metre, a millionth.
    decimals = 6 + max(0, -math.floor(math.log10(extent))) if extent else 6
    least, greatest, offset = (
        [round(float(x), decimals) + 0.0 for x in corner] for corner in corners
    )
    placement = {"scale": _rounded(shape.placement.factor), "offset": offset}
    return {**AXES[kind], "bounds": [least, greatest], "placement": placement}


def _png(mesh: TexturedMesh) -> bytes:
    file = io.BytesIO()
    # Level 6, the usual, takes two and a half times as long for a file 4 % smaller.
    Image.fromarray(mesh.texture).save(file, "PNG", compress_level=4)
    return file.getvalue()


def _texels(mesh: TexturedMesh) -> FloatArray:
    """Colours (n, 3), sRGB in [0, 1]: the texel that each vertex lies in."""
    height, width = mesh.texture.shape[:2]
    place = np.clip(mesh.texcoords * [width, height], 0, [width - 1, height - 1]).astype(np.intp)
    return mesh.texture[place[:, 1], place[:, 0]].astype(np.float32) / np.float32(255)


def _rounded(value: float) -> float:
    """To six digits that count."""
    return float(f"{value:.6g}")


def _joined(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
