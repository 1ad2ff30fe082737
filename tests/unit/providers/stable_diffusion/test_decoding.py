"""A picture that comes out wrong in 16 bits is decoded once more, with the VAE in float32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dna_pipeline.base.errors import BlackImage, ContentFiltered, NonFiniteOutput
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion
from tests.unit.providers.stable_diffusion.conftest import (
    CPU,
    REQUEST,
    change_tensors,
    ignore,
    provider,
    vae_weights,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
]

HALF = Device("cpu", "float16")
NAN = float("nan")


def overflow(tensors: dict[str, torch.Tensor]) -> None:
    """Let a layer's output leave float16's range; the norm behind it gives the same picture."""
    for name in ("decoder.conv_in.weight", "decoder.conv_in.bias"):
        tensors[name] *= 2000
    tensors["decoder.up_blocks.0.upsamplers.0.conv.weight"] *= 4


def spoil(monkeypatch: pytest.MonkeyPatch, model: StableDiffusion, value: float) -> list[str]:
    """Let the VAE decode to one value in 16 bits; the list gets the type of each decoding."""
    vae = model._pipeline.vae
    decode, dtypes = vae.decode, list[str]()

    def spoilt(latents: torch.Tensor, **options: Any) -> Any:
        dtypes.append(str(vae.dtype))
        result = decode(latents, **options)
        return result if vae.dtype == torch.float32 else (torch.full_like(result[0], value),)

    monkeypatch.setattr(vae, "decode", spoilt)
    return dtypes


@pytest.mark.parametrize(("value", "flaw"), [(NAN, "are not finite"), (-1, "pixel is black")])
def test_the_second_picture_is_that_of_float32(
    folder: Path,
    picture: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    flaw: str,
):
    half = provider(folder).load(HALF)
    good = half.redraw(picture, REQUEST, ignore)
    assert "remarks" not in good.info
    before = {name: p.clone() for name, p in half._pipeline.vae.state_dict().items()}
    dtypes = spoil(monkeypatch, half, value)
    found = half.redraw(picture, REQUEST, ignore)
    apart = np.abs(np.asarray(found, np.int16) - np.asarray(good, np.int16))
    assert apart.max() <= 8
    (remark,) = found.info["remarks"]
    assert flaw in remark
    assert "in float16" in remark
    assert "float32" in remark
    assert dtypes == ["torch.float16", "torch.float32"]
    after = half._pipeline.vae.state_dict()
    assert all(torch.equal(after[name], p) and after[name].dtype == p.dtype
               for name, p in before.items())  # fmt: skip


def test_a_vae_that_overflows(copy: Path, model: StableDiffusion, picture: Image.Image):
    change_tensors(vae_weights(copy), overflow)
    found = provider(copy).load(HALF).redraw(picture, REQUEST, ignore)
    assert "are not finite" in found.info["remarks"][0]
    exact = model.redraw(picture, REQUEST, ignore)
    apart = np.abs(np.asarray(found, np.int16) - np.asarray(exact, np.int16))
    assert apart.mean() < 12


def test_only_the_vae_is_moved(folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch):
    half = provider(folder).load(HALF)
    spoil(monkeypatch, half, NAN)
    moved: list[torch.nn.Module] = []
    to = torch.nn.Module.to

    def counted(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        moved.append(module)
        return to(module, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", counted)
    half.redraw(picture, REQUEST, ignore)
    assert moved == [half._pipeline.vae] * 2


def test_latents_that_are_no_numbers_are_not_decoded_again(
    folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    half = provider(folder).load(HALF)
    dtypes = spoil(monkeypatch, half, NAN)
    half._pipeline.unet.conv_out.bias.data.fill_(NAN)
    with pytest.raises(NonFiniteOutput):
        half.redraw(picture, REQUEST, ignore)
    assert dtypes == ["torch.float16"]


@pytest.mark.parametrize(("bias", "error"), [(NAN, NonFiniteOutput), (-1000.0, BlackImage)])
@pytest.mark.parametrize(("device", "tries"), [(CPU, 1), (HALF, 2)])
def test_it_fails_when_float32_is_wrong_too(
    folder: Path,
    picture: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
    bias: float,
    error: type[Exception],
    device: Device,
    tries: int,
):
    model = provider(folder).load(device)
    model._pipeline.vae.decoder.conv_out.bias.data.fill_(bias)
    calls = Counter[str]()
    decode = model._pipeline.vae.decode

    def counted(*args: Any, **options: Any) -> Any:
        calls["decode"] += 1
        return decode(*args, **options)

    monkeypatch.setattr(model._pipeline.vae, "decode", counted)
    with pytest.raises(error):
        model.redraw(picture, REQUEST, ignore)
    assert calls["decode"] == tries
    assert model._pipeline.vae.dtype == model._pipeline.unet.dtype


def test_the_second_picture_is_checked_too(
    folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    half = provider(folder).load(HALF)
    spoil(monkeypatch, half, NAN)

    def block(image: Any, device: Any, dtype: Any) -> tuple[Any, list[bool]]:
        return image, [bool(image.isfinite().all())]

    monkeypatch.setattr(half._pipeline, "run_safety_checker", block)
    with pytest.raises(ContentFiltered):
        half.redraw(picture, REQUEST, ignore)
