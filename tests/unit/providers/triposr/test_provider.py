"""TripoSR's files, their faults, and what pictures of any kind come to before the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dna_pipeline.base.errors import (
    EmptyForeground,
    WeightsMismatch,
    WeightsMissing,
)
from dna_pipeline.media.images import load_image
from dna_pipeline.providers import hardware
from dna_pipeline.providers.base import Device, ImageToField, ModelCache
from dna_pipeline.providers.triposr import (
    conditioning,
    network,
    surface,
    weights,
)
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.registry import provider_class

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Path(__file__).parents[3] / "golden" / "triposr-tiny"
CPU = Device("cpu", "float32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small golden model where it may be damaged."""
    return Path(shutil.copytree(TINY, tmp_path / "triposr-base"))


def edit_state(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = torch.load(folder / "model.ckpt", weights_only=True)
    change(state)
    torch.save(state, folder / "model.ckpt")


def edit_config(folder: Path, old: str, new: str) -> None:
    text = (folder / "config.yaml").read_text()
    assert old in text
    (folder / "config.yaml").write_text(text.replace(old, new))


# --- files ---------------------------------------------------------------------------------------


def test_it_is_registered() -> None:
    assert provider_class("triposr") is TripoSRModel
    assert TripoSRModel.stages == {"triposr"}
    assert TripoSRModel(path=TINY).license is None


def test_a_relative_path_lies_below_the_data_folder(tmp_path: Path) -> None:
    model = TripoSRModel.model_validate({"path": "models/triposr-base"}).located(tmp_path)
    assert model.weights()[0] == tmp_path / "models" / "triposr-base"


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (["config.yaml"], "config.yaml is not there"),
        (["model.ckpt"], "neither model.safetensors nor model.ckpt is in"),
        (["config.yaml", "model.ckpt"], "config.yaml is not there"),
    ],
)
def test_what_is_missing_and_where_to_get_it(folder: Path, gone: list[str], told: str) -> None:
    model = TripoSRModel(path=folder)
    assert model.missing() is None
    for name in gone:
        (folder / name).unlink()
    sentence = model.missing()
    assert sentence is not None
    assert told in sentence
    assert str(folder) in sentence
    assert "https://huggingface.co/stabilityai/TripoSR" in sentence
    assert "\n" not in sentence


def test_missing_weights_hold(folder: Path) -> None:
    (folder / "model.ckpt").unlink()
    cache = ModelCache({"triposr": TripoSRModel(path=folder)}, CPU)
    with pytest.raises(WeightsMissing, match=r"put config\.yaml and model\.ckpt"):
        cache.get("triposr")
    shutil.copy(TINY / "model.ckpt", folder)
    assert isinstance(cache.get("triposr"), ImageToField)


def test_files_that_go_while_they_are_read_hold_too(folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(WeightsMissing, match=r"config\.yaml is not there"):
        TripoSRModel(path=folder).load(CPU)


def test_weights_are_the_files_that_are_read(folder: Path) -> None:
    model = TripoSRModel(path=folder)
    names = ["config.yaml", "model.ckpt", "image_tokenizer/config.json"]
    assert model.weights() == (folder, [folder / name for name in names])
    save_file(torch.load(folder / "model.ckpt", weights_only=True), folder / "model.safetensors")
    names[1] = "model.safetensors"
    assert model.weights() == (folder, [folder / name for name in names])
    (folder / "model.ckpt").write_bytes(b"not read any more")
    assert isinstance(model.load(CPU), ImageToField)
    (folder / "image_tokenizer" / "config.json").unlink()
    assert model.weights() == (folder, [folder / name for name in names[:2]])


class Attack:
    """Runs a command when it is read without care."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("true",))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (
        lambda f: (f / "model.ckpt").write_bytes((TINY / "model.ckpt").read_bytes()[:300_000]),
        "model.ckpt cannot be read as weights",
    ),
    "empty": (lambda f: (f / "model.ckpt").write_bytes(b""), "model.ckpt cannot be read"),
    "a pointer of Git LFS": (
        lambda f: (f / "model.ckpt").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "model.ckpt cannot be read as weights",
    ),
    "code": (
        lambda f: torch.save({"a": Attack()}, f / "model.ckpt"),
        r"cannot be read as weights: .*GLOBAL \w+\.system",
    ),
    "broken safetensors": (
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64),
        "model.safetensors cannot be read as weights",
    ),
    "a tensor too few": (
        lambda f: edit_state(f, lambda s: s.pop("decoder.layers.0.bias")),
        r"decoder\.layers\.0\.bias \(\d+,\) is missing",
    ),
    "a tensor too many": (
        lambda f: edit_state(f, lambda s: s.update(extra=torch.zeros(2))),
        r"extra \(2,\) is not part of the model",
    ),
    "another shape": (
        lambda f: edit_state(f, lambda s: s.update({"decoder.layers.0.bias": torch.zeros(5)})),
        r"decoder\.layers\.0\.bias is \(5,\), expected",
    ),
    "an unknown class": (
        lambda f: edit_config(f, "tsr.models.network_utils.NeRFMLP", "os.system"),
        r"config\.yaml: decoder_cls: expected .*NeRFMLP, found 'os\.system'",
    ),
    "no YAML": (lambda f: (f / "config.yaml").write_text("a: [1"), "config.yaml: not YAML"),
    "an unknown key": (
        lambda f: edit_config(f, "renderer:\n", "renderer:\n  radios: 1.0\n"),
        "renderer: unknown keys radios",
    ),
    "another encoder": (
        lambda f: (f / "image_tokenizer" / "config.json").write_text('{"model_type": "clip"}'),
        "model_type must be vit",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_are_no_such_model(folder: Path, damage: str) -> None:
    harm, told = DAMAGES[damage]
    harm(folder)
    model = TripoSRModel(path=folder)
    assert model.missing() is None
    with pytest.raises(WeightsMismatch, match=told) as caught:
        model.load(CPU)
    assert "weights_only" not in caught.value.detail


# --- the field -----------------------------------------------------------------------------------


def test_the_field_is_the_golden_one() -> None:
    with np.load(TINY / "expected.npz") as expected:
        codes, points, density = (expected[k] for k in ("scene_codes", "points", "density"))
    field = TripoSRModel(path=TINY).load(CPU).field(
        load_image(TINY / "input.png"), foreground_ratio=0.85
    )  # fmt: skip
    np.testing.assert_allclose(field.scene_code, codes[0], atol=1e-5 * np.abs(codes).max(), rtol=0)
    np.testing.assert_allclose(field.density(torch.as_tensor(points)), density, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "agreement"), [("float16", 0.99), ("bfloat16", 0.97)])
def test_half_precision_is_for_the_network_alone(dtype: str, agreement: float) -> None:
    exact = weights.load(TINY)
    model = TripoSRModel(path=TINY).load(Device("cpu", dtype))
    field = model.field(load_image(TINY / "input.png"), foreground_ratio=0.85)
    for ours, theirs in zip(field.decoder.parameters(), exact.decoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == torch.float32
    assert model._network.dtype == getattr(torch, dtype)
    with np.load(TINY / "expected.npz") as expected:
        inside = expected["density_grid"] > 25
    found = surface.density_grid(field, 40) > 25
    assert (found & inside).sum() / (found | inside).sum() > agreement


@pytest.mark.parametrize(
    ("entry", "device", "expected"),
    [
        ("auto", Device("cpu", "float32", dtype_is_free=True), "bfloat16"),
        ("auto", CPU, "float32"),
        ("auto", Device("cpu", "float16"), "float16"),
        ("float32", Device("cpu", "float32", dtype_is_free=True), "float32"),
        ("bfloat16", CPU, "bfloat16"),
    ],
)
def test_the_entrys_dtype_then_the_runtimes_then_the_fastest(
    entry: str, device: Device, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "fast_dtype", lambda _: torch.bfloat16)
    monkeypatch.setattr(hardware, "SMALL_BYTES", 1000)
    model = TripoSRModel.model_validate({"path": TINY, "dtype": entry})
    assert model.dtype_on(device) == expected
    assert model.load(device)._network.dtype == getattr(torch, expected)


def test_a_small_network_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "fast_dtype", lambda _: torch.bfloat16)
    free = Device("cpu", "float32", dtype_is_free=True)
    assert TripoSRModel(path=TINY).dtype_on(free) == "float32"


def test_an_empty_picture(folder: Path) -> None:
    model = TripoSRModel(path=folder).load(CPU)
    with pytest.raises(EmptyForeground, match="every pixel is fully transparent"):
        model.field(Image.new("RGBA", (40, 30)), foreground_ratio=0.85)


def test_weights_that_are_no_numbers(folder: Path) -> None:
    edit_state(folder, lambda s: s["post_processor.upsample.bias"].fill_(float("nan")))
    model = TripoSRModel(path=folder).load(Device("cpu", "float16"))
    field = model.field(load_image(TINY / "input.png"), foreground_ratio=0.85)
    with pytest.raises(surface.NonFiniteField, match="not finite, computed in float16"):
        surface.extract(field, 24)


# --- pictures of any size, in bounded memory -----------------------------------------------------


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, len(mode)), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", [(512, 700), (1300, 257), (64, 64), (333, 777), (20, 320), (319, 20), (1601, 1200)]
)
def test_the_middle_square_is_that_of_the_whole_picture(size: tuple[int, int]) -> None:
    picture = noise(*size)
    width, height = (max(512, round(side * 512 / min(size))) for side in size)
    whole = picture.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - 512) // 2, (height - 512) // 2
    expected = whole.crop((left, top, left + 512, top + 512))
    assert conditioning.crop_square(picture).tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [(20, 4000), (4000, 20), (33, 901), (16, 32_768)])
def test_a_strip_is_not_blown_up_to_its_ends(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 16 squares are resized, and the middle stays the middle."""
    made: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def spy(image: Image.Image, size: tuple[int, int], *args: object) -> Image.Image:
        made.append(size)
        return resize(image, size, *args)

    monkeypatch.setattr(Image.Image, "resize", spy)
    side = max(size)
    ramp = np.abs(np.arange(side) - (side - 1) / 2).clip(0, 20) * 10  # dark in the middle
    rows = np.broadcast_to(ramp.astype(np.uint8)[:, None, None], (side, min(size), 3))
    tall = size[1] > size[0]
    found = conditioning.crop_square(
        Image.fromarray(np.ascontiguousarray(rows if tall else rows.swapaxes(0, 1)))
    )
    assert found.size == (512, 512)
    assert [width * height <= 512 * 512 * 17 for width, height in made] == [True]
    line = np.asarray(found)[:, 256, 0] if tall else np.asarray(found)[256, :, 0]
    np.testing.assert_allclose(line.astype(int), line[::-1], atol=4)
    assert line[256] < 10 < 60 < line[0]


def as_the_original_does(image: Image.Image, ratio: float) -> np.ndarray:
    """Two paddings and one composite of the whole picture, in floats."""
    rgba = np.asarray(image)
    rows, columns = np.nonzero(rgba[..., 3])
    crop = rgba[rows.min() : rows.max(), columns.min() : columns.max()]
    side = max(crop.shape[:2])
    for size in (side, int(side / ratio)):
        height, width = crop.shape[:2]
        top, left = (size - height) // 2, (size - width) // 2
        crop = np.pad(crop, ((top, size - height - top), (left, size - width - left), (0, 0)))
    unit = crop.astype(np.float32) / 255.0
    mixed = unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:]) * 0.5
    return (mixed * 255.0).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "ratio"), [((61, 40), 0.85), ((40, 61), 0.5), ((700, 533), 0.33), ((90, 91), 1.0)]
)
def test_the_foreground_lies_where_the_original_puts_it(
    size: tuple[int, int], ratio: float
) -> None:
    picture = noise(*size, mode="RGBA")
    alpha = np.asarray(picture)[..., 3].copy()
    alpha[:7], alpha[:, -5:] = 0, 0
    picture.putalpha(Image.fromarray(alpha))
    found = conditioning.condition(picture, ratio)
    np.testing.assert_array_equal(np.asarray(found), as_the_original_does(picture, ratio))


def test_a_foreground_for_too_large_a_square_is_made_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = Image.new("RGBA", (900, 500))
    picture.paste((200, 30, 90, 255), (100, 100, 501, 301))
    exact = conditioning.condition(picture, 0.5)
    assert exact.size == (800, 800)
    monkeypatch.setattr(conditioning, "_MAX_SIDE_PX", 200)
    small = conditioning.condition(picture, 0.5)
    assert small.size == (200, 200)
    wanted = exact.resize((200, 200), Image.Resampling.BOX)
    np.testing.assert_array_equal(np.asarray(small), np.asarray(wanted))


def test_a_strip_of_the_picture_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees the same, whatever the strips and whether in bytes or in floats."""
    model = weights.load(TINY)
    picture = torch.as_tensor(np.array(noise(233, 301)))[None]
    whole = torch.nn.functional.interpolate(
        picture.permute(0, 3, 1, 2).float() / 255,
        size=(model.config.cond_image_size,) * 2,
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    assert torch.equal(model.pixels(picture), whole)
    monkeypatch.setattr(network, "_STRIP_ROWS", 17)
    assert torch.equal(model.pixels(picture), whole)
    assert torch.equal(model.pixels(picture.float() / 255), whole)
