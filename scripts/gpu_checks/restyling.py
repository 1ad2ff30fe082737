"""img2img on the device: beside the CPU, and twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from psnr import psnr_db

from gpu_checks.jobs import PICTURE
from gpu_checks.report import Check, Failed
from gpu_checks.setting import Setting, require_accelerator

if TYPE_CHECKING:
    from dna_pipeline.providers.base import Device

LEAST_PSNR_DB = 40.0
"""Peak signal to noise of the device's picture beside the CPU's, both in float32. A difference of
two or three of 255 steps everywhere comes to that; cuDNN's TF32 alone may take as much."""
SIDE_PX = {True: 64, False: 256}


def beside_cpu(setting: Setting) -> dict[str, Any]:
    """The picture in float32 on the device and on the CPU."""
    from dna_pipeline.providers.base import Device

    require_accelerator(setting, "there is nothing to hold beside the CPU")
    ours, exact = (
        redraw(setting, setting.in_dtype("float32")),
        redraw(setting, Device("cpu", "float32")),
    )
    ratio = psnr_db(ours, exact)
    if not ratio >= LEAST_PSNR_DB:
        raise Failed(f"{ratio:.1f} dB beside the CPU's picture, {LEAST_PSNR_DB:g} are expected")
    return {"psnr_db": ratio}


def repeated(setting: Setting) -> dict[str, Any]:
    """Two runs, whose pictures are to be equal."""
    first, second = (redraw(setting, setting.in_dtype("float32")) for _ in range(2))
    if not np.array_equal(first, second):
        differing = int((first != second).any(axis=-1).sum())
        raise Failed(f"two runs with one seed differ in {differing} pixels")
    return {"pixels": first.shape[0] * first.shape[1]}


def redraw(setting: Setting, device: Device) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A small Stable Diffusion's answer (h, w, 3) to the golden picture."""
    from dna_pipeline.providers.base import ImageToImageRequest
    from dna_pipeline.providers.stable_diffusion.provider import Diffusers

    side = SIDE_PX[setting.small]
    with Image.open(PICTURE) as image:
        picture = image.convert("RGB").resize((side, side))
    request = ImageToImageRequest(
        prompt="the robot", negative_prompt="", seed=7, steps=8, guidance_scale=7.5, strength=0.5,
        sampler="euler", schedule="normal",
    )  # fmt: skip
    model = Diffusers.model_validate({"path": setting.sd_folder}).load(device)
    return np.asarray(model.redraw(picture, request, lambda _step, _steps: None))


CHECKS: tuple[tuple[str, Check], ...] = (
    ("img2img-beside-cpu", beside_cpu),
    ("img2img-two-runs", repeated),
)
