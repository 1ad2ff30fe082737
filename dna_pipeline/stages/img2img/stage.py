"""Redraws an image under a prompt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from dna_pipeline.base.errors import (
    NoEffectiveSteps,
    ParameterInvalid,
)
from dna_pipeline.base.files import Artifact
from dna_pipeline.providers.stable_diffusion.prompts import emphasis, tags
from dna_pipeline.providers.stable_diffusion.samplers import (
    SAMPLER_PATTERN,
    SAMPLERS,
    SCHEDULE_PATTERN,
)
from dna_pipeline.providers.stable_diffusion.tiles import LATENT_PX, Grid
from dna_pipeline.stages.base import Authorship, ExtraFile, Seed, Stage, StageContext
from dna_pipeline.stages.img2img import other_programs, target_size
from dna_pipeline.stages.img2img.parameters_text import model_sha256, parameters_text
from dna_pipeline.stages.img2img.sizes import (
    MIN_SIDE_PX,
    enlarged_size,
    fitted_size,
    size_remarks,
    tile_remarks,
)
from dna_pipeline.stages.img2img.used_loras import (
    fitting_loras,
    prompt_and_weights,
    trigger_remarks,
)
from dna_pipeline.stages.img2img.working_size import WorkingSize
from dna_pipeline.weights import embeddings
from dna_pipeline.weights.extra_files import EMBEDDING, LORA
from dna_pipeline.weights.loras import Lora, LoraFolder, short_hash

if TYPE_CHECKING:
    from collections.abc import Mapping


SamplerName = Literal[
    "lcm", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "heun", "lms", "dpm2",
    "dpm2_a", "ddim", "uni_pc",
]  # fmt: skip
Schedule = Literal["normal", "karras", "exponential", "beta"]

LoraWeight = Annotated[float, Field(ge=-tags.MOST_WEIGHT, le=tags.MOST_WEIGHT, allow_inf_nan=False)]

MASK_WORDS = ("none", "alpha", "file")
"""The values of `mask` that are no path."""

EMPTY_PROMPT = "The prompt is empty: the picture was redrawn without a description."


class Img2Img(Stage):
    """Stable Diffusion's image to image: noise is added to the picture and taken away again."""

    type: ClassVar[str] = "img2img"
    aliases: ClassVar[dict[str, str]] = {
        "positive_prompt": "prompt",
        "cfg": "guidance_scale",
        "cfg_scale": "guidance_scale",
        "denoise": "strength",
        "denoising_strength": "strength",
        "sampler_name": "sampler",
        "scheduler": "schedule",
    }
    foreign_words: ClassVar[dict[str, str]] = {
        "grow_mask_by": "mask_grow",
        "height": "max_size",
        "inpaint_full_res": "area",
        "inpaint_full_res_padding": "padding",
        "inpainting_mask_invert": "mask_invert",
        "negative": "negative_prompt",
        "num_inference_steps": "steps",
        "resolution": "max_size",
        "sampling_method": "sampler",
        "sampling_steps": "steps",
        "tile_size": "tile",
        "width": "max_size",
    }
    file_words: ClassVar[frozenset[str]] = frozenset({"lossless"})
    other_words: ClassVar[dict[str, str]] = {
        "sampler": SAMPLER_PATTERN,
        "schedule": SCHEDULE_PATTERN,
    }
    later_parameters: ClassVar[dict[str, Any]] = {
        "alpha": "keep", "prompt_syntax": "a1111", "clip_skip": 1, "from_metadata": False,
        "mask": "none", "mask_blur": 4, "mask_grow": 0, "mask_invert": False,
        "area": "whole", "padding": 32, "loras": {},
        "mark_prompt": False,
        "size": "fit", "resize": "crop", "tile": None, "output": "png", "quality": 90,
    }  # fmt: skip
    templates: ClassVar[tuple[str, ...]] = ("prompt", "negative_prompt")
    companion_roles: ClassVar[frozenset[str]] = frozenset({"mask"})
    authorship: ClassVar[Authorship] = "reworks"
    asks_for_device: ClassVar[bool] = True

    prompt: str = Field("", description="what the picture should become")
    negative_prompt: str = Field("", description="what it should not become")
    seed: Seed = Field(
        42,
        description="number from which the noise is drawn; negative: another for each job; "
        "from_content: made from the image",
    )
    steps: int = Field(20, ge=1, le=1000, description="steps of a full redraw; see strength")
    guidance_scale: float = Field(
        7.5, ge=0, le=100, allow_inf_nan=False, description="how strictly the prompt is followed"
    )
    strength: float = Field(
        0.75,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="how much is redrawn; of the steps, this share runs",
    )
    sampler: SamplerName = Field(
        "euler", description="how a step is taken; other programs' names are accepted too"
    )
    schedule: Schedule = Field(
        "normal",
        description="how the noise falls; lcm, euler_a and ddim take normal alone",
    )
    max_size: int = Field(
        768,
        ge=MIN_SIDE_PX,
        le=4096,
        description="longest side of the picture that is redrawn",
        json_schema_extra={"unit": "px"},
    )
    size: Literal["fit", "input"] | str = Field(
        "fit",
        description="size of the result: fit: scaled down to max_size, in multiples of 8; input: "
        "exactly that of the input; 512x768: exactly this width and height",
        json_schema_extra={
            "pattern": target_size.SIZE_PATTERN,
            "values": "fit, input, or width and height like 512x768",
        },
    )
    resize: target_size.Resize = Field(
        "crop",
        description="how an input of another shape gets the width and height of size: crop: cut "
        "evenly at two sides; stretch: out of shape; pad: with its edges repeated",
    )
    tile: int | None = Field(
        None,
        ge=2 * MIN_SIDE_PX,
        le=4096,
        multiple_of=LATENT_PX,
        description="a picture with a longer side is redrawn in overlapping tiles of this side; "
        "null: never",
        json_schema_extra={"unit": "px"},
    )
    alpha: Literal["keep", "white"] = Field(
        "keep",
        description="transparency of the input: put back on the result, or white instead of it; "
        "the model sees it on white either way",
    )
    output: Literal["png", "webp", "jpeg"] = Field("png", description="format of the result's file")
    quality: int = Field(
        90, ge=1, le=100, description="of webp, which is lossless at 100, and of jpeg"
    )

    prompt_syntax: Literal["a1111", "plain"] = Field(
        "a1111",
        description="a1111: (word:1.2), [word], BREAK and prompts of any length, as in "
        "AUTOMATIC1111; plain: all is text, and 75 tokens are read",
    )
    clip_skip: int = Field(
        1, ge=1, le=12, description="layer of the text encoder, from its end; 1: the last one"
    )
    from_metadata: bool = Field(
        False,
        description="prompt and parameters from the image's own texts; those of the sidecar win",
    )

    mask: Literal["none", "alpha", "file"] | str = Field(
        "none",
        description="what is repainted: all; alpha: where the input is transparent; file: where "
        "the mask beside the input, cat.mask.png for cat.png, is white; else the path of a mask",
    )
    mask_blur: int = Field(
        4, ge=0, le=256, description="blur of the mask's edge", json_schema_extra={"unit": "px"}
    )
    mask_grow: int = Field(
        0,
        ge=-256,
        le=256,
        description="how far the mask grows before it is blurred; negative: shrinks",
        json_schema_extra={"unit": "px"},
    )
    mask_invert: bool = Field(False, description="repaint what the mask leaves black")
    area: Literal["whole", "masked"] = Field(
        "whole",
        description="what the model sees: the whole picture; masked: the part around the mask "
        "alone, enlarged to max_size, and the picture keeps its size",
    )
    padding: int = Field(
        32,
        ge=0,
        le=4096,
        description="margin around the mask in area: masked",
        json_schema_extra={"unit": "px"},
    )

    loras: dict[str, LoraWeight] = Field(
        {},
        description="LoRAs by their names below models/loras, each with its weight, like clay: 0.8",
    )

    mark_prompt: bool = Field(
        False, description="also write the prompts into the marks, where metadata is full"
    )

    @field_validator("mask")
    @classmethod
    def _mask_is_word_or_path(cls, value: str) -> str:
        if value not in MASK_WORDS and not re.search(r"\.\w+\s*$", value):
            raise ValueError("should be none, alpha, file or the path of an image, like round.png")
        return value

    @field_validator("size")
    @classmethod
    def _size_is_word_or_sides(cls, value: str) -> str:
        target_size.parse(value)
        return value

    @classmethod
    def translated(cls, params: dict[str, Any]) -> dict[str, Any]:
        return other_programs.translated(params)

    @classmethod
    def advice(cls, name: str, value: object) -> str:
        return other_programs.advice(cls.aliases.get(name, name), value)

    def check(self) -> None:
        self._check_prompts()
        if int(self.steps * self.strength) < 1:
            raise NoEffectiveSteps(f"{self.steps} steps at strength {self.strength} come to none")
        sampler = SAMPLERS[self.sampler]
        if self.schedule != "normal" and not sampler.takes_schedules:
            able = ", ".join(name for name, other in SAMPLERS.items() if other.takes_schedules)
            raise ParameterInvalid(
                f"schedule: {self.schedule} has no effect on the sampler {self.sampler}",
                hint=f"Use schedule: normal, or one of these samplers: {able}.",
            )
        if sampler.max_steps is not None and self.steps > sampler.max_steps:
            raise ParameterInvalid(
                f"steps: the sampler {self.sampler} takes at most {sampler.max_steps} steps, "
                f"not {self.steps}",
                hint=f"Use steps: {sampler.max_steps} or fewer.",
            )

    def _check_prompts(self) -> None:
        """Raise `ParameterInvalid` for a prompt that asks for what is not supported. Fields and
        choices in braces are not filled in yet where a pipeline is read, so such a text waits."""
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            if self.prompt_syntax == "a1111" and "{" not in text:
                try:
                    if name == "prompt":
                        text, _ = self._prompt_and_loras()
                    emphasis.parse(text)
                except emphasis.PromptError as error:
                    raise emphasis.refused(name, error) from None

    def needed_files(self) -> list[str]:
        return [f"{LORA}{name}" for name in self._lora_weights()]

    def extra_files(self, data: Path) -> dict[str, Path]:
        loras = LoraFolder(data).find(self._lora_weights())
        files = {f"{LORA}{name}": path for name, path in loras.items()}
        if self.prompt_syntax == "plain":
            return files
        texts = (self.prompt, self.negative_prompt)
        inversions = embeddings.possibly_named(data / embeddings.FOLDER, texts)
        return files | {f"{EMBEDDING}{name}": path for name, path in inversions.items()}

    def model_facts(self, files: Mapping[str, ExtraFile]) -> dict[str, Any]:
        loras = [
            {"name": name, "sha256": files[f"{LORA}{name}"].sha256, "weight": weight}
            for name, weight in self._lora_weights().items()
        ]
        return {"loras": loras} if loras else {}

    def companions(self) -> dict[str, str]:
        if self.mask in ("none", "alpha"):
            return {}
        return {"mask": "" if self.mask == "file" else self.mask}

    def _prompt_and_loras(self) -> tuple[str, dict[str, float]]:
        """The prompt without tags, and the weights of all LoRAs. Raises `PromptError`."""
        if self.prompt_syntax == "plain":
            return self.prompt, self.loras
        return prompt_and_weights(self.prompt, self.loras)

    def prompt_without_tags(self) -> str:
        """The prompt for the model. Raises `ParameterInvalid`: texts that are filled in last, or
        that come from the image, may bring tags that `check` has not seen."""
        try:
            return self._prompt_and_loras()[0]
        except emphasis.PromptError as error:
            raise emphasis.refused("prompt", error) from None

    def _lora_weights(self) -> dict[str, float]:
        """The weights of the LoRAs that are used, in the order of their names: one of weight 0
        changes nothing. None where the prompt cannot be read, since that fails the job."""
        try:
            weights = self._prompt_and_loras()[1]
        except emphasis.PromptError:
            return {}
        return {name: weights[name] for name in sorted(weights) if weights[name] != 0}

    def disk_bytes(self, width: int, height: int) -> int:
        width, height = self._frame(width, height)
        pixels = width * height if self.keeps_size else self.max_size**2
        # A lossy file has a lossless one beside it.
        return 4 * pixels * (1 if self.output == "png" else 2)

    def work(self, width: int, height: int) -> float:
        size = self._model_size(width, height)
        pixels = size[0] * size[1] if self.tile is None else Grid.over(*size, self.tile).pixels
        return int(self.steps * self.strength) * pixels

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        width, height = self._frame(width, height)
        return (width, height) if self.keeps_size else fitted_size(width, height, self.max_size)

    @property
    def target(self) -> target_size.TargetSize | None:
        """The size to which the input is brought before all else; None if it keeps its own."""
        sides = target_size.parse(self.size)
        return None if sides is None else target_size.TargetSize(sides, self.resize)

    def _frame(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the picture to be redrawn, for an input of that size."""
        return self.target.size if self.target else (width, height)

    @property
    def keeps_size(self) -> bool:
        """True if the result has exactly the width and height of the picture to be redrawn."""
        return self.size != "fit" or self.is_cropped

    @property
    def is_cropped(self) -> bool:
        """True if the model sees the part around the mask alone."""
        return self.mask != "none" and self.area == "masked"

    def _model_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the picture that the model sees; the greatest that it may be where
        a mask decides."""
        if self.is_cropped:
            return enlarged_size(1, 1, self.max_size)
        width, height = self._frame(width, height)
        if self.keeps_size:
            return WorkingSize.of((width, height), self.max_size).padded
        return fitted_size(width, height, self.max_size)

    def run(self, ctx: StageContext) -> list[Artifact]:
        from dna_pipeline.media.images import load_image  # the daemon loads no decoder
        from dna_pipeline.media.picture_writer import Encoding
        from dna_pipeline.stages.img2img import picture_files
        from dna_pipeline.stages.img2img.drawing import Drawing

        source = load_image(ctx.source, ctx.warnings)
        ctx.warnings += tile_remarks(self._frame(*source.size), self.max_size, self.tile)
        picture_files.check_side(self.output_size(*source.size), self.output)
        if not self.keeps_size:
            ctx.warnings += size_remarks(source.size, self.max_size)
        if not self.prompt.strip():
            ctx.warnings.append(EMPTY_PROMPT)
        loras = self.used_loras(ctx.extra_files)
        ctx.warnings += trigger_remarks(self.prompt_without_tags(), loras)
        is_full = self.metadata == "full"
        hashes = {lora.name: short_hash(lora.path) for lora in loras} if is_full else {}
        result = Drawing(self, ctx).picture(source)
        text = self._parameters_text(ctx, result.size, hashes) if is_full else ""
        return picture_files.write(ctx, result, Encoding(self.output, self.quality), text)

    def _parameters_text(
        self, ctx: StageContext, size: tuple[int, int], lora_hashes: Mapping[str, str]
    ) -> str:
        inversions = {one["name"]: one["sha256"] for one in ctx.model_facts.get("embeddings", [])}
        return parameters_text(
            self,
            size,
            model_sha256=model_sha256(ctx.recipe),
            inversions=inversions,
            lora_hashes=lora_hashes,
        )

    def used_loras(self, files: Mapping[str, ExtraFile]) -> list[Lora]:
        """The LoRAs of the job. Raises `WeightsMismatch`."""
        return fitting_loras(files, self._lora_weights())
