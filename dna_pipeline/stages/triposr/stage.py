"""Makes a mesh from one picture of a thing, with TripoSR."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from dna_pipeline.base.errors import EmptyMesh, NonFiniteOutput, UnwrapFailed
from dna_pipeline.base.files import Artifact
from dna_pipeline.stages.base import Authorship, Kind, Stage, StageContext
from dna_pipeline.stages.triposr import turntable

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh
    from dna_pipeline.providers.base import ImageToField
    from dna_pipeline.providers.triposr.field import Field as SceneField

Format = Literal["glb", "obj", "ply", "stl"]


def _mode(value: object) -> object:
    if type(value) is int:  # 0 would pass for False
        raise ValueError("should be false, true, mesh or nerf")
    return "mesh" if value is True else value


TurntableMode = Annotated[
    Literal[False, "mesh", "nerf"],
    BeforeValidator(_mode, json_schema_input_type=Literal[False, True, "mesh", "nerf"]),
]

PREVIEW_PX = 512
LEAST_CHUNK = 1024
"""Least points to evaluate at once when memory ran out; fewer would cost much time and save little
memory."""
BYTES = {"glb": 360, "obj": 1200, "ply": 350, "stl": 600}
"""Size of a file divided by n², the square of the resolution: a surface as large as that of the box
has 6 n² vertices and 12 n² faces."""
FACES_PER_SQUARE = 12
BAKED_FACES = 50_000
"""Most faces with a texture, unless `target_faces` is set: laying out a mesh for its texture takes
a tenth of a millisecond a face."""

# Microseconds on a few CPU cores, about: of the network; of the surface, divided by the square of
# the resolution; of a face that is laid out for a texture.
NETWORK_WORK = 5e6
SURFACE_WORK = 10
UNWRAP_WORK = 100


class TripoSR(Stage):
    """A mesh of the subject, upright, facing the viewer, in metres; and a picture of it."""

    type: ClassVar[str] = "triposr"
    file_words: ClassVar[frozenset[str]] = frozenset({"preview", "texture", "turntable"})
    produces: ClassVar[Kind] = "mesh"
    authorship: ClassVar[Authorship] = "generates"
    max_oom_retries: ClassVar[int] = 2
    aliases: ClassVar[dict[str, str]] = {
        "mc_resolution": "resolution",
        "render_video": "turntable",
        "render_n_views": "turntable_views",
        "render_resolution": "turntable_size",
    }

    asks_for_device: ClassVar[bool] = True
    part: ClassVar[str] = "scene"
    part_params: ClassVar[frozenset[str]] = frozenset({"model", "foreground_ratio"})

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
    level_set: Literal["density", "logit"] = Field(
        "density",
        description="what sets the vertices between the grid's points: the density, as in the "
        "original, or its logarithm (logit), for smoother walls",
    )
    chunk_size: int = Field(
        0, ge=0, le=1 << 26, description="points evaluated at once; 0: chosen for the device"
    )
    turntable: TurntableMode = Field(
        False,
        description="also make a film of it as it turns: of the mesh (true means that), or of the "
        "field itself (nerf), which takes far longer",
    )
    turntable_views: int = Field(30, ge=1, le=720, description="pictures of one turn")
    turntable_size: int = Field(
        256,
        ge=16,
        le=2048,
        multiple_of=2,
        description="side of the film",
        json_schema_extra={"unit": "px"},
    )
    turntable_fps: int = Field(12, ge=1, le=60, description="pictures a second")
    target_faces: int | None = Field(
        None,
        ge=100,
        le=10_000_000,
        description=f"most faces; null: all there are, or {BAKED_FACES} with a texture",
    )
    bake_texture: bool = Field(False, description="colours as a texture, not on the vertices")
    texture_resolution: int = Field(
        2048,
        ge=64,
        le=4096,
        description="side of the texture",
        json_schema_extra={"unit": "px"},
    )
    preview: bool = Field(True, description="also make a picture of the mesh")
    formats: list[Format] = Field(["glb"], min_length=1, description="files to write the mesh to")
    scale: float | None = Field(
        1.0,
        ge=1e-4,
        le=1e4,
        allow_inf_nan=False,
        description="length of the mesh's longest side; null: as the model has it",
        json_schema_extra={"unit": "m"},
    )
    origin: Literal["base", "center"] | None = Field(
        "base", description="what lies at the origin; null: the middle of the model's box"
    )
    min_component: float = Field(
        0.0,
        ge=0,
        le=1,
        description="components with less than this part of the largest one's area are left out",
    )

    @field_validator("formats")
    @classmethod
    def _once(cls, formats: list[Format]) -> list[Format]:
        if twice := next((name for name in formats if formats.count(name) > 1), None):
            raise ValueError(f"names {twice} twice")
        return formats

    def disk_bytes(self, width: int, height: int) -> int:
        meshes = sum(BYTES[name] for name in self.formats) * self._faces() // FACES_PER_SQUARE
        textures = 3 * self.texture_resolution**2 * len(self.formats) if self._is_textured() else 0
        return meshes + textures + 4 * PREVIEW_PX**2 + 2 * self._turntable_pixels()

    def work(self, width: int, height: int) -> float:
        # The network takes the same time for any picture, so it is no part of what varies.
        return sum(self._parts().values()) - NETWORK_WORK

    def part_share(self) -> float:
        return NETWORK_WORK / sum(self._parts().values())

    def _parts(self) -> dict[str, float]:
        """The parts of the stage, and about how long each takes, in microseconds on a CPU."""
        parts = {"network": NETWORK_WORK, "mesh": SURFACE_WORK * self.resolution**2}
        if self._is_textured():
            parts["bake"] = self.texture_resolution**2 + UNWRAP_WORK * self._faces()
        if self.turntable:
            parts["film"] = turntable.WORK[self.turntable] * self._turntable_pixels()
        return parts

    def _turntable_pixels(self) -> int:
        return self.turntable_views * self.turntable_size**2 if self.turntable else 0

    def _progress(self, ctx: StageContext, part: str) -> Callable[[int, int], None]:
        """A callback that reports a part's progress as progress of the whole stage, in percent."""
        parts = self._parts()
        names = list(parts)
        before = sum(parts[name] for name in names[: names.index(part)])
        own, whole = parts[part], sum(parts.values())

        def progress(done: int, total: int) -> None:
            ctx.on_step(int(100 * (before + own * done / total) / whole), 100)

        return progress

    def run(self, ctx: StageContext) -> list[Artifact]:
        from dna_pipeline.media.images import load_image  # the daemon loads no decoder
        from dna_pipeline.media.matte import framing

        image = load_image(ctx.source, ctx.warnings)
        ctx.warnings += framing(image)
        field = ctx.on_device(lambda: self._field(ctx, image))
        chunk = self._chunk(ctx, field.chunk_size)
        mesh, facts = self._mesh(ctx, field, chunk)
        baked = self._baked(ctx, field, mesh, chunk, facts) if self._is_textured() else mesh
        if self.bake_texture and not self._is_textured():
            ctx.warnings.append("No texture was made: an STL holds none.")
        files = self._files(ctx, baked, facts)
        if self.preview:
            files.append(_preview(ctx, baked, closed=files[0].facts["watertight"]))
        if self.turntable:
            files.append(self._turntable(ctx, field, baked, chunk))
        return files

    def _turntable(
        self, ctx: StageContext, field: SceneField, mesh: Mesh | TexturedMesh, chunk: int
    ) -> Artifact:
        size = turntable.Size(self.turntable_views, self.turntable_size, self.turntable_fps)
        progress = self._progress(ctx, "film")
        if self.turntable == "nerf":
            return ctx.on_device(lambda: turntable.of_field(ctx, field, size, chunk, progress))
        return turntable.of_mesh(ctx, mesh, size, progress)

    def _max_faces(self) -> int | None:
        return self.target_faces or (BAKED_FACES if self._is_textured() else None)

    def _is_textured(self) -> bool:
        """True if a texture is requested and a file or the film can show it."""
        return self.bake_texture and (self.formats != ["stl"] or self.turntable == "mesh")

    def _faces(self) -> int:
        """Estimated number of faces at most."""
        surface_faces = FACES_PER_SQUARE * self.resolution**2
        return min(surface_faces, self._max_faces() or surface_faces)

    def _files(
        self, ctx: StageContext, mesh: Mesh | TexturedMesh, facts: dict[str, Any]
    ) -> list[Artifact]:
        from dna_pipeline.media.meshes import export
        from dna_pipeline.media.meshes.placement import place

        placement = place(mesh.vertices, self.scale, self.origin)
        return export.write(mesh, ctx.path, self.formats, placement, facts=facts, recipe=ctx.recipe)

    def _field(self, ctx: StageContext, image: Image.Image) -> SceneField:
        from dna_pipeline.providers.triposr import scenes

        assert self.model is not None, "checked when the pipeline was built"
        model: ImageToField = ctx.models.get(self.model)
        if ctx.parts is not None and isinstance(model, scenes.KeepsScenes):
            return scenes.field_of(model, image, self.foreground_ratio, ctx.parts)
        return model.field(image, foreground_ratio=self.foreground_ratio)

    def _mesh(
        self, ctx: StageContext, field: SceneField, chunk: int
    ) -> tuple[Mesh, dict[str, Any]]:
        """The mesh in TripoSR's axes and box, and the facts about it for the manifest."""
        from dna_pipeline.media.meshes.export import checked
        from dna_pipeline.providers.triposr import surface

        progress = self._progress(ctx, "mesh")
        try:
            extracted = ctx.on_device(
                lambda: surface.extract(
                    field, self.resolution, self.threshold, chunk, progress,
                    level_set=self.level_set,
                )
            )  # fmt: skip
        except surface.EmptySurface as error:
            raise EmptyMesh(str(error)) from error
        except surface.NonFiniteField as error:
            raise NonFiniteOutput(str(error)) from error
        mesh, facts = checked(extracted.mesh, field.radius, self.min_component, ctx.warnings.append)
        limit = self._max_faces()
        if limit is None or len(mesh.faces) <= limit:
            return mesh, facts
        fewer = _decimated_mesh(
            ctx, field, mesh, limit, chunk, lambda _done, _total: progress(1, 1)
        )
        return fewer, facts | {"faces_before": len(mesh.faces)}

    def _baked(
        self, ctx: StageContext, field: SceneField, mesh: Mesh, chunk: int, facts: dict[str, Any]
    ) -> TexturedMesh:
        """The mesh with a texture, whose own facts are added to `facts`."""
        from dna_pipeline.media.meshes.unwrap import UnwrapError
        from dna_pipeline.providers.triposr.bake import bake
        from dna_pipeline.providers.triposr.surface import NonFiniteField

        progress = self._progress(ctx, "bake")
        size = self.texture_resolution
        try:
            baked = bake(
                field, mesh.vertices, mesh.faces, size, chunk, progress, on_device=ctx.on_device
            )
        except UnwrapError as error:
            raise UnwrapFailed(str(error)) from error
        except NonFiniteField as error:
            raise NonFiniteOutput(str(error)) from error
        if baked.fault:
            ctx.is_degraded = True
            ctx.warnings.append(f"OpenGL failed, the texture was baked without it: {baked.fault}")
        facts["texture"] = {
            "size": size,
            "used": round(baked.used, 4),
            "charts": baked.charts,
            "gap": round(baked.gap_px, 2),
        }
        if baked.gap_px < 1:
            ctx.warnings.append(
                f"The texture of {size} × {size} is too small for {baked.charts} charts, which "
                "share texels: a larger texture_resolution or fewer target_faces part them."
            )
        return baked.mesh

    def _chunk(self, ctx: StageContext, default: int) -> int:
        """Points to evaluate at once: a quarter as many after each time that memory ran out."""
        usual = self.chunk_size or default
        if not ctx.low_memory_level:
            return usual
        chunk = max(usual >> 2 * ctx.low_memory_level, min(usual, LEAST_CHUNK))
        ctx.warnings.append(f"The field was read {chunk} points at a time, not {usual}.")
        return chunk


def _decimated_mesh(
    ctx: StageContext,
    field: SceneField,
    mesh: Mesh,
    most: int,
    chunk: int,
    progress: Callable[[int, int], None],
) -> Mesh:
    """The mesh with fewer faces, and the field's colours at its new vertices."""
    from dna_pipeline.media.meshes import quality
    from dna_pipeline.media.meshes.decimate import decimate
    from dna_pipeline.media.meshes.export import require_finite
    from dna_pipeline.media.meshes.mesh import Mesh
    from dna_pipeline.providers.triposr import surface

    vertices, faces = decimate(mesh.vertices, mesh.faces, most, progress)
    if len(faces) > most:
        ctx.warnings.append(
            f"The mesh has {len(faces)} faces, not {most}: no way to fewer left it whole."
        )
    before, after = quality.components(mesh.faces), quality.components(faces)
    if before != after:
        ctx.warnings.append(
            f"The mesh was of {before} separate pieces, and is of {after} with {len(faces)} faces."
        )
    colors = ctx.on_device(lambda: surface.colors_at(field, vertices, chunk))
    fewer = Mesh(vertices, faces, colors)
    require_finite(fewer)
    return fewer


def _preview(ctx: StageContext, mesh: Mesh | TexturedMesh, *, closed: bool) -> Artifact:
    from dna_pipeline.media.images import save_png
    from dna_pipeline.media.meshes.preview import render_preview

    path = ctx.path(".preview.png")
    save_png(render_preview(mesh, PREVIEW_PX, closed=closed), path)
    return Artifact(path, "preview", "image/png", {"width": PREVIEW_PX, "height": PREVIEW_PX})
