"""Makes a mesh from one picture of a thing, with TripoSR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from dna_pipeline.artifact import Artifact, write_bytes
from dna_pipeline.errors import EmptyMesh, NonFiniteOutput
from dna_pipeline.stages.base import Kind, Stage, StageContext

if TYPE_CHECKING:
    from dna_pipeline.providers.base import ImageToField
    from dna_pipeline.tsr.mesh import Mesh

PREVIEW_PX = 512
LEAST_CHUNK = 1024
"""Smaller chunks save no memory worth the time."""


class TripoSR(Stage):
    """A mesh with vertex colours, +Y up, front +Z, in glTF; and a picture of it."""

    type: ClassVar[str] = "triposr"
    produces: ClassVar[Kind] = "mesh"
    most_thrift: ClassVar[int] = 2
    aliases: ClassVar[dict[str, str]] = {"mc_resolution": "resolution"}

    foreground_ratio: float = Field(
        0.85, gt=0.1, le=1, allow_inf_nan=False, description="part of the frame the subject fills"
    )
    resolution: int = Field(
        256,
        ge=16,
        le=1024,
        description="points along each side of the grid the surface is cut from",
    )
    threshold: float = Field(
        25.0, gt=0, le=1e6, allow_inf_nan=False, description="density at which the surface lies"
    )
    chunk_size: int = Field(
        0, ge=0, le=1 << 26, description="points evaluated at once; 0: chosen for the device"
    )
    preview: bool = Field(True, description="also make a picture of the mesh")

    def disk_bytes(self, width: int, height: int) -> int:
        # A surface as large as the box's own: 6 n² vertices of 36 bytes, two faces each.
        return 360 * self.resolution**2 + 4 * PREVIEW_PX**2

    def work(self, width: int, height: int) -> float:
        # Most points read lie by the surface; the network takes as long for any picture.
        return self.resolution**2

    def run(self, ctx: StageContext) -> list[Artifact]:
        assert self.model is not None, "checked when the pipeline was built"
        model: ImageToField = ctx.models.get(self.model)
        mesh = self._mesh(ctx, model)
        path = ctx.path(".glb")
        write_bytes(path, to_glb(mesh, path.stem, {self.type: self.params()}))
        files = [Artifact(path, "mesh", "model/gltf-binary", mesh_facts(mesh))]
        if self.preview:
            files.append(_preview(ctx, mesh))
        return files

    def _mesh(self, ctx: StageContext, model: ImageToField) -> Mesh:
        from dna_pipeline.imaging import load_image  # the daemon loads no decoder
        from dna_pipeline.tsr import surface

        field = model.field(
            load_image(ctx.source, ctx.warnings), foreground_ratio=self.foreground_ratio
        )
        chunk = self._chunk(ctx, field.chunk_size)

        def progress(done: int, total: int) -> None:
            ctx.on_step(100 * done // total, 100)

        try:
            found = surface.extract(field, self.resolution, self.threshold, chunk, progress)
        except surface.EmptySurface as error:
            raise EmptyMesh(str(error)) from error
        except surface.NonFiniteField as error:
            raise NonFiniteOutput(str(error)) from error
        return found.mesh

    def _chunk(self, ctx: StageContext, default: int) -> int:
        """Points to evaluate at once: a quarter for each time that memory has run out."""
        usual = self.chunk_size or default
        if not ctx.thrift:
            return usual
        chunk = max(usual >> 2 * ctx.thrift, min(usual, LEAST_CHUNK))
        ctx.warnings.append(f"The field was read {chunk} points at a time, not {usual}.")
        return chunk


def to_glb(mesh: Mesh, name: str, extras: dict[str, Any] | None = None) -> bytes:
    """The mesh in glTF's axes and colour, as a .glb file."""
    from dna_pipeline.gltf import glb
    from dna_pipeline.tsr.mesh import vertex_normals
    from dna_pipeline.tsr.orientation import srgb_to_linear, to_gltf

    normals = to_gltf(vertex_normals(mesh.vertices, mesh.faces))
    colors = srgb_to_linear(mesh.colors)
    vertices = to_gltf(mesh.vertices)
    return glb(vertices, normals, colors, mesh.faces, name=name, extras=extras)


def mesh_facts(mesh: Mesh) -> dict[str, Any]:
    """What the manifest tells of a mesh; bounds are the least and the greatest corner, metres."""
    from dna_pipeline.tsr.mesh import is_watertight
    from dna_pipeline.tsr.orientation import to_gltf

    vertices = to_gltf(mesh.vertices)
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": is_watertight(mesh.faces),
        "bounds": [
            [round(float(x), 6) for x in corner]
            for corner in (vertices.min(axis=0), vertices.max(axis=0))
        ],
    }


def _preview(ctx: StageContext, mesh: Mesh) -> Artifact:
    from dna_pipeline.imaging import save_png
    from dna_pipeline.tsr.preview import render_preview

    path = ctx.path(".preview.png")
    save_png(render_preview(mesh, PREVIEW_PX), path)
    return Artifact(path, "preview", "image/png", {"width": PREVIEW_PX, "height": PREVIEW_PX})
