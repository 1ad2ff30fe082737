"""Redraws an image under a prompt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from dna_pipeline.base.errors import NoEffectiveSteps, ParameterInvalid
from dna_pipeline.base.files import Artifact
from dna_pipeline.providers.base import ImageToImageRequest
from dna_pipeline.providers.stable_diffusion.prompts import emphasis
from dna_pipeline.providers.stable_diffusion.samplers import (
    SAMPLER_PATTERN,
    SAMPLERS,
    SCHEDULE_PATTERN,
    SCHEDULES,
    sampler_named,
)
from dna_pipeline.stages.base import Seed, Stage, StageContext

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.providers.base import ImageToImage

SamplerName = Literal[
    "lcm", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "heun", "lms", "dpm2",
    "dpm2_a", "ddim", "uni_pc",
]  # fmt: skip
Schedule = Literal["normal", "karras", "exponential", "beta"]

MIN_SIDE_PX = 64
MULTIPLE_PX = 8
"""Pixels of the picture along each side of one pixel of the model's latent."""
EMPTY_PROMPT = "The prompt is empty: the picture was redrawn without a description."
INVISIBLE = (
    "The input is fully transparent and alpha: keep was asked for, so nothing of the result shows."
)


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
        "height": "max_size",
        "negative": "negative_prompt",
        "num_inference_steps": "steps",
        "resolution": "max_size",
        "sampling_method": "sampler",
        "sampling_steps": "steps",
        "size": "max_size",
        "width": "max_size",
    }
    other_words: ClassVar[dict[str, str]] = {
        "sampler": SAMPLER_PATTERN,
        "schedule": SCHEDULE_PATTERN,
    }
    later_parameters: ClassVar[dict[str, Any]] = {
        "alpha": "keep", "prompt_syntax": "a1111", "clip_skip": 1,
    }  # fmt: skip
    templates: ClassVar[tuple[str, ...]] = ("prompt", "negative_prompt")

    prompt: str = Field("", description="what the picture should become")
    negative_prompt: str = Field("", description="what it should not become")
    seed: Seed = Field(
        42, description="of the noise; negative: drawn for each job; from_content: of the image"
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
        description="how much is redrawn; int(steps x strength) steps run",
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
        description="longest side of the result",
        json_schema_extra={"unit": "px"},
    )
    alpha: Literal["keep", "white"] = Field(
        "keep",
        description="transparency of the input: put back on the result, or white instead of it; "
        "the model sees it on white either way",
    )

    prompt_syntax: Literal["a1111", "plain"] = Field(
        "a1111",
        description="a1111: (word:1.2), [word], BREAK and prompts of any length, as in "
        "AUTOMATIC1111; plain: all is text, and 75 tokens are read",
    )
    clip_skip: int = Field(
        1, ge=1, le=12, description="layer of the text encoder, from its end; 1: the last one"
    )

    @classmethod
    def translated(cls, params: dict[str, Any]) -> dict[str, Any]:
        """Samplers and schedules as AUTOMATIC1111 and ComfyUI spell them, in our words.

        `DPM++ 2M Karras` sets the schedule too, if none is set beside it.
        """
        words = dict(params)
        if isinstance(schedule := words.get("schedule"), str):
            near = schedule.strip().casefold()
            words["schedule"] = near if near in SCHEDULES else schedule
        if isinstance(text := words.get("sampler"), str) and text not in SAMPLERS:
            own, named = sampler_named(text)
            is_taken = own is not None and (not named or SAMPLERS[own].takes_schedules)
            if is_taken and (not named or words.get("schedule", named) == named):
                words |= {"sampler": own} | ({"schedule": named} if named else {})
        return words

    @classmethod
    def advice(cls, name: str, value: object) -> str:
        """Our name for a sampler or schedule that AUTOMATIC1111, ComfyUI or Diffusers name
        otherwise, and the longer side for a size like 512x768."""
        if not isinstance(value, str):
            return ""
        if name == "max_size" and (sides := re.fullmatch(r"(\d{2,4})\s*[x×*]\s*(\d{2,4})", value)):
            return f"write the longer side alone: {max(map(int, sides.groups()))}"
        own, schedule = sampler_named(value)
        schedule = schedule if own is not None and SAMPLERS[own].takes_schedules else ""
        if cls.aliases.get(name, name) == "schedule":
            if own is not None:
                return f"that is a sampler: write sampler: {own}"
            near = value.strip().casefold()
            return f"write {near}" if near in SCHEDULES else ""
        if cls.aliases.get(name, name) != "sampler" or own is None:
            return ""
        if not schedule:
            return f"write sampler: {own}"
        # The name alone would have been translated, so a schedule is set beside it.
        return (
            f"the name means schedule {schedule}, and the key schedule names another; "
            f"write sampler: {own}, schedule: {schedule}"
        )

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
                f"not {self.steps}"
            )

    def _check_prompts(self) -> None:
        """Raise `ParameterInvalid` for a prompt that asks for what is not supported. Fields and
        choices in braces are not filled in yet where a pipeline is read, so such a text waits."""
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            if self.prompt_syntax == "a1111" and "{" not in text:
                try:
                    emphasis.parse(text)
                except emphasis.PromptError as error:
                    raise ParameterInvalid(
                        f"{name}: {error}",
                        hint="Mend it, or set prompt_syntax: plain, where all is text.",
                    ) from None

    def disk_bytes(self, width: int, height: int) -> int:
        return 4 * self.max_size**2

    def work(self, width: int, height: int) -> float:
        width, height = self.output_size(width, height)
        return int(self.steps * self.strength) * width * height

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        return fitted_size(width, height, self.max_size)

    def run(self, ctx: StageContext) -> list[Artifact]:
        from dna_pipeline.media.images import load_image, save_png  # the daemon loads no decoder

        assert self.model is not None, "checked when the pipeline was built"
        source = load_image(ctx.source, ctx.warnings)
        image = fitted(on_white(source), self.max_size)
        model: ImageToImage = ctx.models.get(self.model)
        request = self._request(saves_memory=ctx.low_memory_level > 0)
        ctx.warnings += size_remarks(source.size, self.max_size)
        if not self.prompt.strip():
            ctx.warnings.append(EMPTY_PROMPT)
        ctx.warnings += model.remarks(request)
        result = model.redraw(image, request, ctx.on_step)
        ctx.warnings += result.info.pop("remarks", [])
        if self.alpha == "keep" and source.mode == "RGBA":
            result = _with_alpha(result, source.getchannel("A"), ctx.warnings)
        path = ctx.path(".png")
        save_png(result, path, {"parameters": self.parameters_text(result.size)})
        facts: dict[str, Any] = {"width": result.width, "height": result.height}
        return [Artifact(path, "image", "image/png", facts)]

    def _request(self, *, saves_memory: bool) -> ImageToImageRequest:
        assert isinstance(self.seed, int), "made definite at intake"
        return ImageToImageRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            strength=self.strength,
            sampler=self.sampler,
            schedule=self.schedule,
            saves_memory=saves_memory,
            prompt_syntax=self.prompt_syntax,
            clip_skip=self.clip_skip,
        )

    def parameters_text(self, size: tuple[int, int]) -> str:
        """The text `parameters` that AUTOMATIC1111 would write into this stage's PNG.

        Args:
            size: width and height of the picture.

        Its format: `create_infotext` in its modules/processing.py.
        """
        fields: dict[str, object] = {
            "Steps": self.steps,
            "Sampler": SAMPLERS[self.sampler].label,
            "Schedule type": self.schedule.capitalize(),
            "CFG scale": _number(self.guidance_scale),
            "Seed": self.seed,
            "Size": f"{size[0]}x{size[1]}",
            "Model": self.model,
            "Denoising strength": _number(self.strength),
        }
        if self.clip_skip > 1:
            fields["Clip skip"] = self.clip_skip
        negative = [f"Negative prompt: {self.negative_prompt}"] if self.negative_prompt else []
        last = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in fields.items())
        return "\n".join([self.prompt, *negative, last]).strip()


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB; transparent parts are white, as on paper."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    from PIL import Image

    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def _with_alpha(result: Image.Image, alpha: Image.Image, remarks: list[str]) -> Image.Image:
    """The redrawn picture (RGB) with the input's alpha (L), which is brought to its size: RGBA.

    The model saw the subject on white, so its soft pixels are mixed with white. They take the
    colour of the opaque pixels beside them, as in a cut-out, so that no white rim shows on another
    background.
    """
    from dna_pipeline.media.matte import cut_out

    if not alpha.getbbox():
        remarks.append(INVISIBLE)
    return cut_out(result, _resized(alpha, result.size))


def fitted(image: Image.Image, max_size: int) -> Image.Image:
    """The picture at the size that the model works with."""
    return _resized(image, fitted_size(*image.size, max_size))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def size_remarks(size: tuple[int, int], max_size: int) -> list[str]:
    """A sentence that says to which size a picture of that size was brought, and why; none if the
    picture keeps its size."""
    result = fitted_size(*size, max_size)
    if result == size:
        return []
    over, under = _scale(*size, max_size)
    long_enough = [side for side in size if side * over >= MIN_SIDE_PX * under]
    is_limited, is_stretched = over == max_size, len(long_enough) < 2
    is_rounded = any(side * over % (under * MULTIPLE_PX) for side in long_enough)
    reasons = {
        f"max_size is {max_size}": is_limited,
        f"sides have at least {MIN_SIDE_PX} px": is_stretched or over > under,
        f"sides are multiples of {MULTIPLE_PX}": is_rounded,
    }
    shape = ", of another shape" if is_stretched else ""
    *others, last = (reason for reason, holds in reasons.items() if holds)
    why = ", and ".join([", ".join(others), last] if others else [last])
    before, after = (f"{width} x {height} px" for width, height in (size, result))
    return [f"The picture of {before} became {after}{shape}: {why}."]


def fitted_size(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Width and height for the model, multiples of 8 of at least 64.

    Scaled down so that the longer side is at most `max_size`, or up so that the shorter is at
    least 64; then each is floored. Only a picture too narrow for both bounds loses its shape.
    """
    over, under = _scale(width, height, max_size)

    def side(length: int) -> int:
        # In whole numbers: 1000 * (768 / 1000) can be a hair less than 768, and lose 8 pixels.
        return max(length * over // under // MULTIPLE_PX * MULTIPLE_PX, MIN_SIDE_PX)

    return side(width), side(height)


def _scale(width: int, height: int, max_size: int) -> tuple[int, int]:
    """Factor from a picture's size to the model's before rounding, as a fraction."""
    longer, shorter = max(width, height), min(width, height)
    scale = max((1, 1), (MIN_SIDE_PX, shorter), key=_ratio)
    return min((max_size, longer), scale, key=_ratio)


def _ratio(fraction: tuple[int, int]) -> float:
    return fraction[0] / fraction[1]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text
