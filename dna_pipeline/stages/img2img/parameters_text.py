"""The text `parameters` of a PNG, by which other programs know how it was made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dna_pipeline.providers.stable_diffusion.prompts import tags
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dna_pipeline.stages.img2img.stage import Img2Img


HASH_CHARS = 10
"""Characters of a checkpoint's SHA-256 that AUTOMATIC1111 and Civitai show as its hash."""


def parameters_text(
    stage: Img2Img,
    size: tuple[int, int],
    *,
    model_sha256: str = "",
    inversions: Mapping[str, str] | None = None,
    lora_hashes: Mapping[str, str] | None = None,
) -> str:
    """The text `parameters` that AUTOMATIC1111 would write into this stage's PNG.

    Args:
        size: width and height of the picture.
        model_sha256: the model's hash; "" if it is not known.
        inversions: hashes of the textual inversions that the prompts used, by name.
        lora_hashes: of all LoRAs by their names, as that program shortens them.

    LoRAs of `loras` are written as tags, since that program knows no other way to name them.
    Its format: `create_infotext` in its modules/processing.py.
    """
    fields: dict[str, object] = {
        "Steps": stage.steps,
        "Sampler": SAMPLERS[stage.sampler].label,
        "Schedule type": stage.schedule.capitalize(),
        "CFG scale": tags.number(stage.guidance_scale),
        "Seed": stage.seed,
        "Size": f"{size[0]}x{size[1]}",
        **({"Model hash": model_sha256[:HASH_CHARS]} if model_sha256 else {}),
        "Model": stage.model,
        "Denoising strength": tags.number(stage.strength),
    }
    if stage.clip_skip > 1:
        fields["Clip skip"] = stage.clip_skip
    if inversions:
        fields["TI hashes"] = ", ".join(f"{n}: {sha[:12]}" for n, sha in inversions.items())
    if stage.mask != "none":
        fields |= _mask_fields(stage)
    if lora_hashes:
        hashes = (f"{_without_marks(name)}: {one}" for name, one in lora_hashes.items())
        fields["Lora hashes"] = ", ".join(hashes)
    own = {name: weight for name, weight in stage.loras.items() if weight != 0}
    negative = [f"Negative prompt: {stage.negative_prompt}"] if stage.negative_prompt else []
    last = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in fields.items())
    return "\n".join([tags.with_tags(stage.prompt, own), *negative, last]).strip()


def _mask_fields(stage: Img2Img) -> dict[str, object]:
    """The fields about a mask, as AUTOMATIC1111 names them."""
    fields: dict[str, object] = {}
    if stage.mask_blur:
        fields["Mask blur"] = stage.mask_blur
    if stage.mask_invert:
        fields["Mask mode"] = "Inpaint not masked"
    if stage.area == "masked":
        fields |= {"Inpaint area": "Only masked", "Masked area padding": stage.padding}
    return fields


def _without_marks(name: str) -> str:
    """The name of a LoRA as AUTOMATIC1111 writes it into its list of hashes."""
    return name.replace(":", "").replace(",", "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text


def model_sha256(recipe: Mapping[str, Any]) -> str:
    """The hash of the model of a recipe's last stage; "" if the recipe names none.

    That of a model in a folder is the hash that the manifest has, which no other program shows.
    """
    stages: list[dict[str, Any]] = recipe.get("stages", [])
    model: dict[str, Any] | None = stages[-1]["model"] if stages else None
    return model["sha256"] if model else ""
