"""A second try to decode a picture, with the VAE in float32.

The VAE's activations are the largest numbers of the model. In float16 they overflow with some
weights, of which the picture becomes black or not a number at all, although its latents are sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture as the pipeline gives it.

    Attributes:
        pixels: (1, height, width, 3) float32 in [0, 1].
        is_blocked: True if the safety checker blanked it.
    """

    pixels: np.ndarray[Any, Any]
    is_blocked: bool


def is_worthwhile(pipeline: Any, latents: torch.Tensor) -> bool:
    """True if decoding in float32 may give another picture: the VAE computes in another type, and
    the latents are numbers."""
    import torch

    return pipeline.vae.dtype != torch.float32 and bool(latents.isfinite().all())


def decode_in_float32(pipeline: Any, latents: torch.Tensor) -> Decoded:
    """Decode latents with the VAE in float32, which gets its own type back afterwards.

    Its weights keep their values, since float32 holds every number of the shorter types. No other
    part of the pipeline is touched.

    Args:
        latents: (1, 4, height / 8, width / 8), as after the last step.
    """
    import torch

    vae = pipeline.vae
    dtype = vae.dtype
    vae.to(torch.float32)
    try:
        with torch.no_grad():
            scaled = latents.float() / vae.config.scaling_factor
            image = vae.decode(scaled, return_dict=False)[0]
            image, blocked = pipeline.run_safety_checker(image, latents.device, latents.dtype)
    finally:
        vae.to(dtype)
    return Decoded(
        pipeline.image_processor.postprocess(image, output_type="np"), any(blocked or [])
    )
