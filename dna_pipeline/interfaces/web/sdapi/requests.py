"""Requests of this API. Programs send more keys than are known here, and often null or "" for a
value that they leave open, so every key is optional and unknown ones are kept as they are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _blank_is_open(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value.strip() else _blank_is_open(value)


Open = BeforeValidator(_blank_is_open)
Int = Annotated[int | None, Open]
Float = Annotated[float | None, Field(allow_inf_nan=False), Open]
Bool = Annotated[bool | None, Open]
Text = str | None
Texts = Annotated[list[str] | None, BeforeValidator(_listed)]
Mapping = Annotated[dict[str, Any] | None, Open]


class Request(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Img2ImgRequest(Request):
    """A picture to be redrawn. What is left open comes from the pipeline that redraws it."""

    init_images: Texts = Field(
        None,
        description="pictures in base64, with or without `data:image/png;base64,`; each becomes a "
        "job",
    )
    prompt: Text = Field(None, description="what the picture should become")
    negative_prompt: Text = Field(None, description="what it should not become")
    styles: Texts = Field(None, description="ignored: no styles are kept here")
    seed: Annotated[int | None, Field(lt=2**63), Open] = Field(
        None, description="of the first picture, the next one has the next seed; negative: drawn"
    )
    subseed: Int = Field(None, description="ignored")
    subseed_strength: Float = Field(None, description="ignored, with a warning unless 0")
    steps: Annotated[int | None, Field(ge=1, le=1000), Open] = Field(
        None, description="steps of a full redraw; steps x denoising_strength of them run"
    )
    cfg_scale: Annotated[float | None, Field(ge=0, le=100, allow_inf_nan=False), Open] = Field(
        None, description="how strictly the prompt is followed"
    )
    denoising_strength: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False), Open] = (
        Field(None, description="how much is redrawn")
    )
    sampler_name: Text = Field(None, description="as `samplers` lists them; `DPM++ 2M Karras` too")
    sampler_index: Annotated[str | int | None, Open] = Field(
        None, description="older key for sampler_name"
    )
    scheduler: Text = Field(None, description="as `schedulers` lists them")
    width: Annotated[int | None, Field(ge=16, le=4096), Open] = Field(
        None, description="of the result, in px"
    )
    height: Annotated[int | None, Field(ge=16, le=4096), Open] = Field(
        None, description="of the result, in px"
    )
    resize_mode: Annotated[int | str | None, Open] = Field(
        None, description="0 and 3: stretch; 1: crop; 2: pad with the edges"
    )
    batch_size: Annotated[int | None, Field(ge=1), Open] = Field(
        None, description="pictures of each round"
    )
    n_iter: Annotated[int | None, Field(ge=1), Open] = Field(None, description="rounds")
    mask: Annotated[str | None, Open] = Field(
        None, description="picture in base64: white is redrawn"
    )
    mask_blur: Annotated[float | None, Field(ge=0, le=256, allow_inf_nan=False), Open] = Field(
        None, description="blur of the mask's edge, in px"
    )
    mask_blur_x: Annotated[float | None, Field(ge=0, le=256, allow_inf_nan=False), Open] = None
    mask_blur_y: Annotated[float | None, Field(ge=0, le=256, allow_inf_nan=False), Open] = None
    inpainting_fill: Int = Field(
        None, description="1 is what is done: redraw what is under the mask; others: a warning"
    )
    inpaint_full_res: Bool = Field(
        None, description="redraw the part around the mask alone, enlarged; true if left open"
    )
    inpaint_full_res_padding: Annotated[int | None, Field(ge=0, le=4096), Open] = Field(
        None, description="margin around the mask, in px"
    )
    inpainting_mask_invert: Bool = Field(None, description="redraw what the mask leaves black")
    restore_faces: Bool = Field(None, description="must not be true")
    tiling: Bool = Field(None, description="must not be true")
    override_settings: Mapping = Field(
        None,
        description="sd_model_checkpoint, CLIP_stop_at_last_layers and samples_format count; "
        "others: a warning",
    )
    script_name: Text = Field(None, description="must be left open")
    alwayson_scripts: Mapping = Field(
        None, description="ControlNet must have no unit that is enabled; others: a warning"
    )
    send_images: Bool = Field(None, description="false: the answer has no pictures")
    include_init_images: Bool = Field(
        None, description="true: `parameters` of the answer has init_images and mask, too"
    )


class PngInfoRequest(Request):
    """A picture whose texts are asked for."""

    image: str = Field("", description="PNG, JPEG or WebP in base64")
