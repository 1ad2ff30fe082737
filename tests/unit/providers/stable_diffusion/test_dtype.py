"""The number type of a model, and the files that it is read from in that type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dna_pipeline.providers import hardware
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion
from dna_pipeline.weights.fingerprint import Fingerprints
from tests.unit.providers.stable_diffusion.conftest import (
    CPU,
    REQUEST,
    change_json,
    ignore,
    provider,
    unet_weights,
    vae_weights,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
]

FREE = Device("cpu", "float32", dtype_is_free=True)
HALF = Device("cpu", "float16")


@pytest.fixture
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that computes in bfloat16, and no model that is too small for it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(hardware, "_features", hardware._features.__wrapped__)
    monkeypatch.setattr(hardware, "SMALL_BYTES", 1000)


# ---------------------------------------------------------------- the type


@pytest.mark.usefixtures("with_bfloat16")
@pytest.mark.parametrize(
    ("entry", "device", "expected"),
    [
        ("auto", FREE, "bfloat16"),
        ("auto", CPU, "float32"),
        ("auto", HALF, "float16"),
        ("auto", Device("cuda:0", "float16", dtype_is_free=True), "float16"),
        ("auto", Device("mps", "float32", dtype_is_free=True), "float32"),
        ("float32", FREE, "float32"),
        ("float32", Device("cuda:0", "float16", dtype_is_free=True), "float32"),
        ("bfloat16", CPU, "bfloat16"),
    ],
)
def test_the_entrys_dtype_then_the_runtimes_then_the_fastest_of_a_cpu(
    folder: Path, entry: str, device: Device, expected: str
):
    assert provider(folder, dtype=entry).dtype_on(device) == expected


@pytest.mark.usefixtures("with_bfloat16")
@pytest.mark.parametrize(("entry", "expected"), [("auto", "bfloat16"), ("float32", "float32")])
def test_the_manifests_dtype_is_that_of_the_loaded_model(folder: Path, entry: str, expected: str):
    models = ModelCache({"sd": provider(folder, dtype=entry)}, FREE)
    loaded: StableDiffusion = models.get("sd")
    assert loaded.computes_on == models.computes_on("sd") == Device("cpu", expected)


def test_a_small_model_stays_exact(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hardware, "fast_dtype", lambda _: torch.bfloat16)
    assert provider(folder).dtype_on(FREE) == "float32"


@pytest.mark.usefixtures("with_bfloat16")
def test_float32_that_was_asked_for_changes_no_bit(
    folder: Path, model: StableDiffusion, picture: Image.Image
):
    exact = provider(folder, dtype="float32").load(FREE)
    expected = model.redraw(picture, REQUEST, ignore)
    assert exact.redraw(picture, REQUEST, ignore).tobytes() == expected.tobytes()


def test_the_dtype_auto_leaves_no_trace_in_identities(folder: Path):
    assert {"dtype", "compile"}.isdisjoint(provider(folder).model_dump())
    assert provider(folder, dtype="float32").model_dump()["dtype"] == "float32"


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [("float32", torch.contiguous_format), ("bfloat16", torch.channels_last)],
)
def test_the_layout_of_weights_is_changed_for_16_bits_alone(
    folder: Path, dtype: str, layout: torch.memory_format
):
    pipeline = provider(folder).load(Device("cpu", dtype))._pipeline
    for part in (pipeline.unet, pipeline.vae):
        wide = [p for p in part.parameters() if p.ndim == 4 and p.shape[2] > 1 and p.shape[1] > 1]
        assert wide
        assert all(p.is_contiguous(memory_format=layout) for p in wide)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_vae_in_bfloat16_is_near_to_float32(
    folder: Path, picture: Image.Image, layout: torch.memory_format
):
    """In values from 0 to 1, the root of the mean square is below a hundredth: 40 dB."""
    pixels = torch.tensor(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    found: list[torch.Tensor] = []
    for dtype in ("float32", "bfloat16"):
        vae = provider(folder).load(Device("cpu", dtype))._pipeline.vae
        vae.to(memory_format=layout)
        with torch.no_grad():
            latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode()
            found.append(vae.decode(latents).sample.float() / 2 + 0.5)
    assert 0 < (found[0] - found[1]).square().mean().sqrt() < 0.01


# ---------------------------------------------------------------- the files


def fp16_of(path: Path) -> Path:
    """Write the variant of half precision beside a file of weights, and return its path."""
    target = path.with_suffix(".fp16.safetensors")
    tensors = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(tensors, target, {"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("entry", "device", "takes_half"),
    [
        ("auto", HALF, True),
        ("auto", Device("cuda:0", "float16", dtype_is_free=True), True),
        ("float16", CPU, True),
        ("float32", HALF, False),
        ("auto", CPU, False),
        ("auto", Device("cpu", "bfloat16"), False),
    ],
)
def test_float16_takes_the_files_of_half_precision(
    copy: Path, entry: str, device: Device, takes_half: bool
):
    full, half = unet_weights(copy), fp16_of(unet_weights(copy))
    files = provider(copy, dtype=entry).for_device(device).weights()[1]
    assert (half in files, full in files) == (takes_half, not takes_half)
    assert vae_weights(copy) in files, "of a part with one variant, that one is taken"


def test_the_files_that_are_named_are_those_that_are_read(copy: Path, picture: Image.Image):
    """In each dtype, the file that is not named may hold anything."""
    half = fp16_of(unet_weights(copy))
    full = unet_weights(copy)
    for device, unused in ((HALF, full), (CPU, half)):
        models = ModelCache({"sd": provider(copy)}, device)
        expected = models.get("sd").redraw(picture, REQUEST, ignore)
        kept = unused.read_bytes()
        unused.write_bytes(b"no weights")
        again = ModelCache({"sd": provider(copy)}, device)
        assert unused not in again.provider("sd").weights()[1]
        found = again.get("sd").redraw(picture, REQUEST, ignore)
        assert found.tobytes() == expected.tobytes()
        unused.write_bytes(kept)


def test_the_hash_is_that_of_the_files_that_are_read(copy: Path, tmp_path: Path):
    fp16_of(unet_weights(copy))
    fingerprints = Fingerprints(tmp_path)

    def sha256(device: Device) -> str | None:
        models = ModelCache({"sd": provider(copy)}, device)
        return fingerprints.of(models.provider("sd"))[1]

    full, half = sha256(CPU), sha256(HALF)
    assert full != half
    unet_weights(copy).unlink()
    assert provider(copy).missing() is None
    assert sha256(HALF) == sha256(CPU) == half


def test_a_damaged_file_matters_where_it_is_read(copy: Path):
    fp16_of(unet_weights(copy)).write_bytes(b"no weights")
    entry = provider(copy)
    assert entry.for_device(CPU).mismatch() is None
    assert "fp16" in (entry.for_device(HALF).mismatch() or "")
    change_json(copy / "unet/config.json", quantization_config={})
    assert entry.for_device(CPU).mismatch() is not None
