"""Draws the picture of a stage with its model: all of it, or what a mask shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dna_pipeline.base.errors import MaskMissing
from dna_pipeline.media.flat import flattened, resized
from dna_pipeline.media.images import load_image
from dna_pipeline.media.repaint_mask import (
    MaskEdit,
    in_cells,
    mask_of,
    region_of,
    transparency_of,
)
from dna_pipeline.providers.base import ImageToImageRequest
from dna_pipeline.providers.stable_diffusion.tiles import LATENT_PX
from dna_pipeline.stages.img2img import repaint, together
from dna_pipeline.stages.img2img.sizes import enlarged_size, fitted, with_alpha
from dna_pipeline.stages.img2img.working_size import WorkingSize
from dna_pipeline.weights.extra_files import EMBEDDING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from PIL import Image

    from dna_pipeline.stages.base import StageContext
    from dna_pipeline.stages.img2img.stage import Img2Img


@dataclass(frozen=True, slots=True)
class Drawing:
    """One run of a stage. What there is to say about it becomes warnings of its context."""

    stage: Img2Img
    ctx: StageContext

    def picture(self, source: Image.Image) -> Image.Image:
        """The redrawn picture (RGB or RGBA).

        Raises:
            MaskMissing, MaskMismatch: of the job's mask.
            What `ImageToImage.redraw` raises.
        """
        mask = None if self.stage.mask == "none" else self._mask(source)
        if (target := self.stage.target) is not None:
            # A mask of another size belongs to the input, so it takes the input's way.
            mask = None if mask is None else target.fitted(resized(mask, source.size))
            source = target.fitted(source)
        return self._redrawn(source) if mask is None else self._repainted(source, mask)

    def _redrawn(self, source: Image.Image) -> Image.Image:
        image = flattened(source)
        if self.stage.keeps_size:
            result = self._draw_at_own_size(image)
        else:
            result = self._draw(fitted(image, self.stage.max_size))
        if self.stage.alpha == "keep" and source.mode == "RGBA":
            result = with_alpha(result, source.getchannel("A"), self.ctx.warnings)
        return result

    def _repainted(self, source: Image.Image, raw_mask: Image.Image) -> Image.Image:
        """The picture with the part under the mask redrawn, and all else as it was."""
        edit = MaskEdit(self.stage.mask_invert, self.stage.mask_grow, self.stage.mask_blur)
        way = repaint.Repaint(
            edit, self.stage.mask == "alpha" and not self.stage.mask_invert, self.stage.alpha
        )
        picture = source if self.stage.keeps_size else fitted(source, self.stage.max_size)
        masks = way.masks(picture, raw_mask)
        region = region_of(masks.blend, self.stage.padding)
        if region is None:
            is_opaque = self.stage.mask == "alpha" and source.mode != "RGBA"
            remark = repaint.NO_TRANSPARENCY if is_opaque else repaint.NOTHING_TO_REPAINT
            self.ctx.warnings.append(remark)
            return way.unchanged(picture)
        if self.stage.mask != "alpha" and masks.blend.getextrema() == (255, 255):
            self.ctx.warnings.append(repaint.ALL_REPAINTED)
        if self.stage.is_cropped:
            size = enlarged_size(region[2] - region[0], region[3] - region[1], self.stage.max_size)
            return way.run(picture, masks, region, size, self._draw)
        draw = self._draw_at_own_size if self.stage.keeps_size else self._draw
        return way.run(picture, masks, (0, 0, *picture.size), picture.size, draw)

    def _mask(self, source: Image.Image) -> Image.Image:
        """The mask of the job, of any size. Raises `MaskMissing` and `MaskMismatch`."""
        if self.stage.mask == "alpha":
            return transparency_of(source)
        if (path := self.ctx.companions.get("mask")) is None:
            raise MaskMissing(f"mask: {self.stage.mask} was asked for, and the image has no mask")
        mask = mask_of(load_image(path, self.ctx.warnings))
        self.ctx.warnings += repaint.scaling_remarks(mask, source)
        return mask

    def _draw_at_own_size(
        self, picture: Image.Image, mask: Image.Image | None = None
    ) -> Image.Image:
        """As `_draw`, for a picture and a mask of any size; the result has that size."""
        way = WorkingSize.of(picture.size, self.stage.max_size)
        self.ctx.warnings += way.remarks(self.stage.max_size)
        return way.redrawn(self._draw, picture, mask)

    def _draw(self, image: Image.Image, mask: Image.Image | None = None) -> Image.Image:
        """The picture as the model redraws it. Its remarks become warnings.

        The model redraws whole pixels of its latent, and would read the mask at one point of each:
        all that hold some white are white for it.
        """
        if mask is not None:
            mask = in_cells(mask, LATENT_PX)
            if mask.getbbox() is None:
                self.ctx.warnings.append(repaint.TOO_FAINT)
        request = replace(self._request(), mask=mask)
        result = self._draw_by_model(image, request)
        self.ctx.warnings += result.info.pop("remarks", [])
        if names := result.info.pop("embeddings", []):
            self.ctx.model_facts["embeddings"] = [
                {"name": name, "sha256": self.ctx.extra_files[f"{EMBEDDING}{name}"].sha256}
                for name in names
            ]
        return result

    def _draw_by_model(self, image: Image.Image, request: ImageToImageRequest) -> Image.Image:
        """The picture of one turn, or of another one where the first did not finish it."""
        piece = together.Piece(image, request, self.ctx.on_step)
        key = together.key_of(image, request)
        outcome = self._outcome(piece, key)
        while outcome.retry is not None:
            # A key of its own: nobody shares that turn.
            outcome = self._outcome(piece, key if outcome.retry == "together" else object())
        self.ctx.batch_size = max(self.ctx.batch_size, outcome.batch_size)
        return outcome.unwrap()

    def _outcome(self, piece: together.Piece, key: Hashable | None) -> together.Outcome:
        """Let a turn redraw the piece. Its remarks become warnings."""
        if key is None:
            (outcome,) = self.ctx.on_device(lambda: self._redraw([piece]))
        else:
            outcome = self.ctx.on_device_together(key, piece, self._redraw)
        self.ctx.warnings += outcome.remarks
        return outcome

    def _redraw(self, pieces: Sequence[together.Piece]) -> list[together.Outcome]:
        """Redraw pieces of this job or of several."""
        assert self.stage.model is not None, "checked when the pipeline was built"
        return together.redraw(self.ctx.models.get(self.stage.model), pieces)

    def _request(self) -> ImageToImageRequest:
        assert isinstance(self.stage.seed, int), "made definite at intake"
        return ImageToImageRequest(
            prompt=self.stage.prompt_without_tags(),
            negative_prompt=self.stage.negative_prompt,
            seed=self.stage.seed,
            steps=self.stage.steps,
            guidance_scale=self.stage.guidance_scale,
            strength=self.stage.strength,
            sampler=self.stage.sampler,
            schedule=self.stage.schedule,
            saves_memory=self.ctx.low_memory_level > 0,
            prompt_syntax=self.stage.prompt_syntax,
            clip_skip=self.stage.clip_skip,
            embeddings={
                name.removeprefix(EMBEDDING): file.path
                for name, file in self.ctx.extra_files.items()
                if name.startswith(EMBEDDING)
            },
            loras=tuple(self.stage.used_loras(self.ctx.extra_files)),
            tile=self.stage.tile,
        )
