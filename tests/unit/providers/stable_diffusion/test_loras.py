"""LoRAs on the small model: their files, their effect, and that they leave nothing behind."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from dna_pipeline.base.errors import ParameterInvalid, WeightsMismatch, WeightsMissing
from dna_pipeline.providers.base import ImageToImageRequest
from dna_pipeline.providers.stable_diffusion import adapters, compilation
from dna_pipeline.providers.stable_diffusion.lora_file import read_lora
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion
from dna_pipeline.stages.base import ExtraFile
from dna_pipeline.stages.img2img.used_loras import fitting_loras
from dna_pipeline.weights.loras import Lora
from tests.unit.providers.stable_diffusion.conftest import CPU, REQUEST, ignore, provider
from tests.unit.providers.stable_diffusion.lora_files import TrainedLora

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


@pytest.fixture(scope="module")
def clay(folder: Path) -> TrainedLora:
    return TrainedLora(folder, 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, folder: Path, clay: TrainedLora) -> Path:
    """`clay` in the names of kohya, and `wax` of another rank in those of Diffusers."""
    root = tmp_path_factory.mktemp("loras")
    clay.save_kohya(root / "clay.safetensors")
    TrainedLora(folder, 2, rank=2, alpha=2).save_diffusers(root / "wax.safetensors")
    TrainedLora(folder, 3, text=False).save_kohya(root / "unet.safetensors")
    return root


@pytest.fixture(scope="module")
def own(folder: Path) -> StableDiffusion:
    return provider(folder).load(CPU)


def asking(files: Path, **weights: float) -> ImageToImageRequest:
    loras = [Lora(name, files / f"{name}.safetensors", w) for name, w in weights.items()]
    return replace(REQUEST, loras=tuple(loras))


def drawn(model: StableDiffusion, picture: Image.Image, request: ImageToImageRequest) -> bytes:
    return model.redraw(picture, request, ignore).tobytes()


def modules(model: StableDiffusion) -> dict[str, tuple[nn.Module, type[nn.Module], int]]:
    """Each module of the parts that LoRAs change, its exact type, and the number of its hooks."""
    parts = {"unet": model._pipeline.unet, "text": model._pipeline.text_encoder}
    return {
        f"{part}.{name}": (one, type(one), len(one._forward_hooks) + len(one._forward_pre_hooks))
        for part, own in parts.items()
        for name, one in own.named_modules()
    }


def state(model: StableDiffusion) -> dict[str, torch.Tensor]:
    """All tensors of the parts that LoRAs change."""
    parts = {"unet": model._pipeline.unet, "text": model._pipeline.text_encoder}
    return {f"{p}.{n}": t for p, part in parts.items() for n, t in part.state_dict().items()}


# ---------------------------------------------------------------- the picture


def test_the_same_bytes_whatever_the_file_calls_its_layers(
    own: StableDiffusion, clay: TrainedLora, picture: Image.Image, tmp_path: Path
):
    clay.save_kohya(tmp_path / "kohya.safetensors")
    clay.save_diffusers(tmp_path / "diffusers.safetensors")
    clay.save_peft(tmp_path / "peft.safetensors")
    kohya, *others = (
        drawn(own, picture, asking(tmp_path, **{name: 0.8}))
        for name in ("kohya", "diffusers", "peft")
    )
    assert others == [kohya, kohya]
    assert kohya != drawn(own, picture, REQUEST)


def test_the_first_names_of_diffusers(
    own: StableDiffusion, clay: TrainedLora, picture: Image.Image, tmp_path: Path
):
    """They name the layers of the attention alone."""
    path = clay.save_old_diffusers(tmp_path / "old.safetensors")
    attention = [(part, layer) for part, layer in clay.layers if "fc" in layer or ".ff." in layer]
    kohya = load_file(clay.save_kohya(tmp_path / "kohya.safetensors"))
    other = ("_fc1", "_fc2", "_ff_net_")
    kept = {n: t for n, t in kohya.items() if not any(word in n for word in other)}
    assert attention and len(load_file(path)) * 3 == len(kept) * 2
    save_file(kept, tmp_path / "kohya.safetensors")
    old, new = (drawn(own, picture, asking(tmp_path, **{name: 1.0})) for name in ("old", "kohya"))
    assert old == new


def test_each_layer_has_its_own_alpha_and_rank(
    own: StableDiffusion, clay: TrainedLora, picture: Image.Image, tmp_path: Path
):
    tensors = load_file(clay.save_kohya(tmp_path / "mixed.safetensors"))
    scaled = dict(tensors)
    for index, name in enumerate(sorted(n for n in tensors if n.endswith(".alpha"))):
        factor = 2.0 ** (index % 3)
        up = name.replace(".alpha", ".lora_up.weight")
        tensors[name] = tensors[name] * factor
        scaled[up] = scaled[up] * factor
        if index % 2:  # two more rows of zeros: the rank changes the scale, the alpha mends it
            for file in (tensors, scaled):
                file[up] = nn.functional.pad(file[up], (0, 4))
                down = name.replace(".alpha", ".lora_down.weight")
                file[down] = nn.functional.pad(file[down], (0, 0, 0, 4))
                file[name] = file[name] * 2
    save_file(tensors, tmp_path / "mixed.safetensors")
    save_file(scaled, tmp_path / "scaled.safetensors")
    mixed, other = (drawn(own, picture, asking(tmp_path, **{n: 0.5})) for n in ("mixed", "scaled"))
    assert mixed == other != drawn(own, picture, REQUEST)


def test_a_weight_in_another_order_is_the_same_picture(
    own: StableDiffusion, files: Path, picture: Image.Image
):
    alone = drawn(own, picture, asking(files, clay=0.8))
    assert drawn(own, picture, asking(files, clay=0.4)) != alone
    assert drawn(own, picture, asking(files, clay=0.8, wax=0.5)) != alone


# ---------------------------------------------------------------- between jobs


def test_no_job_leaves_anything_to_the_next(folder: Path, files: Path, picture: Image.Image):
    requests = [
        REQUEST,
        asking(files, clay=0.8),
        asking(files, wax=0.7),
        asking(files, clay=0.3, wax=1.0),
        asking(files, unet=1.0),
        replace(asking(files, clay=0.8), prompt="a glass (figurine:1.2)"),
    ]
    alone = [drawn(provider(folder).load(CPU), picture, request) for request in requests]
    assert len(set(alone)) == len(requests)
    model = provider(folder).load(CPU)
    before = modules(model)
    weights = {n: t.clone() for n, t in state(model).items()}
    for index in [0, 3, 1, 5, 2, 0, 4, 1, 3, 2, 5, 0]:
        assert drawn(model, picture, requests[index]) == alone[index]
        assert modules(model) == before
    after = state(model)
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_a_job_without_loras_does_what_it_did_before_the_first_one(
    folder: Path, files: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    """Call by call, with a LoRA in memory and after one was forgotten."""
    monkeypatch.setattr(adapters, "MOST_RESIDENT", 1)
    model = provider(folder).load(CPU)

    def calls() -> Counter[str]:
        counts: Counter[str] = Counter()

        def count(frame: FrameType, event: str, _: object) -> None:
            if event == "call":
                counts[f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"] += 1

        gc.disable()  # what it calls depends on when it runs
        sys.setprofile(count)
        try:
            drawn(model, picture, REQUEST)
        finally:
            sys.setprofile(None)
            gc.enable()
        return counts

    calls()  # the first job of a process fills the caches of libraries
    before = calls()
    for weights in ({"clay": 1.0}, {"wax": 1.0}, {"clay": 0.5, "unet": 1.0}):
        drawn(model, picture, asking(files, **weights))
        drawn(model, picture, REQUEST)  # whose embeddings are kept again
        assert calls() == before


def test_a_resident_lora_is_not_read_again(
    own: StableDiffusion, files: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    for name in ("clay", "wax"):
        drawn(own, picture, asking(files, **{name: 1.0}))
    read: list[Path] = []
    original = adapters.read_lora

    def counted(path: Path, shapes: Any) -> Any:
        read.append(path)
        return original(path, shapes)

    monkeypatch.setattr(adapters, "read_lora", counted)
    for weights in ({"clay": 0.5}, {"wax": 0.5}, {"clay": 1.0, "wax": 1.0}):
        drawn(own, picture, asking(files, **weights))
    assert read == []


def test_a_file_that_was_replaced_is_read_anew(
    own: StableDiffusion, folder: Path, picture: Image.Image, tmp_path: Path
):
    path = tmp_path / "clay.safetensors"
    TrainedLora(folder, 4).save_kohya(path)
    first = drawn(own, picture, asking(tmp_path, clay=1.0))
    TrainedLora(folder, 5, rank=8).save_kohya(path)
    assert drawn(own, picture, asking(tmp_path, clay=1.0)) != first


def test_the_last_loras_alone_stay_in_memory(
    folder: Path, picture: Image.Image, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(adapters, "MOST_RESIDENT", 2)
    names = [f"lora{number}" for number in range(4)]
    for name in names:
        (tmp_path / f"{name}.safetensors").write_bytes((files / "clay.safetensors").read_bytes())
    model = provider(folder).load(CPU)
    pictures = {drawn(model, picture, asking(tmp_path, **{name: 1.0})) for name in names * 2}
    assert len(pictures) == 1
    assert len(model._adapters._resident) == 2
    three = dict.fromkeys(names[:3], 0.3)
    drawn(model, picture, asking(tmp_path, **three))
    assert len(model._adapters._resident) == 3
    drawn(model, picture, replace(asking(tmp_path, **three), saves_memory=True))
    assert len(model._adapters._resident) == 3
    drawn(model, picture, replace(asking(tmp_path, **{names[1]: 1.0}), saves_memory=True))
    assert len(model._adapters._resident) == 1
    drawn(model, picture, asking(tmp_path, **{names[0]: 1.0}))
    assert len(model._adapters._resident) == 2


def test_many_changes_of_loras_leave_nothing_in_memory(
    folder: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither of those that stay in memory nor of those that are read anew each time."""
    from diffusers import StableDiffusionPipeline

    monkeypatch.setattr(adapters, "MOST_RESIDENT", 2)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    own = adapters.Adapters(pipeline)
    loras = [Lora(name, files / f"{name}.safetensors", 1.0) for name in ("clay", "unet", "wax")]

    def change(times: int) -> int:
        """Tensors and modules that are alive after so many changes."""
        for number in range(times):
            first = loras[number % 3]
            for active in ([first], [first, loras[(number + 1) % 3]], [first]):
                with own.active(active):
                    pass
        gc.collect()
        alive = (torch.Tensor, nn.Module)
        return sum(issubclass(type(one), alive) for one in gc.get_objects())

    assert change(6) == change(90)


def test_reading_a_lora_many_times_takes_no_memory(own: StableDiffusion, files: Path):
    """Also where the memory is that of a library and no object of Python's."""
    parts = {"unet": own._pipeline.unet, "text_encoder": own._pipeline.text_encoder}
    shapes = {
        (part, name): tuple(module.weight.shape)
        for part, model in parts.items()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    process = psutil.Process()

    def read(times: int) -> int:
        for _ in range(times):
            read_lora(files / "clay.safetensors", shapes)
        gc.collect()
        return process.memory_info().rss

    before = read(50)
    assert read(300) - before < 2 << 20


def test_a_file_that_is_overwritten_in_its_place_changes_no_lora_in_memory(
    own: StableDiffusion, files: Path, picture: Image.Image, tmp_path: Path
):
    """Such as by a copy over it that keeps the times; no part of the file is mapped."""
    path = tmp_path / "clay.safetensors"
    path.write_bytes((files / "clay.safetensors").read_bytes())
    stat = path.stat()
    first = drawn(own, picture, asking(tmp_path, clay=1.0))
    with path.open("r+b") as file:
        file.seek(-(stat.st_size // 2), os.SEEK_END)
        file.write(bytes(stat.st_size // 2))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert drawn(own, picture, asking(tmp_path, clay=1.0)) == first


def test_a_failed_job_takes_its_loras_off(own: StableDiffusion, files: Path, picture: Image.Image):
    plain = drawn(own, picture, REQUEST)
    before = modules(own)

    def stop(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own.redraw(picture, asking(files, clay=1.0), stop)
    assert modules(own) == before
    assert drawn(own, picture, REQUEST) == plain


def test_a_compiled_unet_is_not_compiled_for_a_lora(
    folder: Path, files: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []

    def compiled(forward: Any, **_: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append("compiled")
            return forward(*args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(compilation, "lack", lambda kind: None)
    model = provider(folder, compile=True).load(CPU)
    drawn(model, picture, asking(files, clay=1.0))
    assert calls == []
    drawn(model, picture, REQUEST)
    assert calls == ["compiled"] * 3


# ---------------------------------------------------------------- wrong files


def changed(files: Path, tmp_path: Path, change: Any) -> ImageToImageRequest:
    tensors = load_file(files / "clay.safetensors")
    save_file(change(tensors), tmp_path / "bad.safetensors")
    return asking(tmp_path, bad=1.0)


WRONG = {
    "layers of another model": (
        lambda t: t | {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": torch.ones(2, 2)},
        "changes layers that the model lacks, such as 'lora_unet_input_blocks_4_1_proj_in",
    ),
    "other sizes": (
        lambda t: {n: nn.functional.pad(x, (0, 5)) if x.ndim > 1 else x for n, x in t.items()},
        "was made for a model of other sizes: its change of",
    ),
    "half of it": (
        lambda t: {n: x for n, x in t.items() if "lora_up" not in n},
        "is damaged: ",
    ),
    "a DoRA": (
        lambda t: t | {"lora_unet_x.dora_scale": torch.ones(2)},
        "is a DoRA, which is not supported; needed is a LoRA",
    ),
    "nothing": (
        lambda t: {"lora_unet_x.alpha": torch.ones(())},
        "changes no layer of the model",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "text"), WRONG.values(), ids=WRONG)
def test_a_file_that_does_not_fit(
    own: StableDiffusion, files: Path, picture: Image.Image, tmp_path: Path, change: Any, text: str
):
    plain = drawn(own, picture, REQUEST)
    with pytest.raises(WeightsMismatch) as error:
        drawn(own, picture, changed(files, tmp_path, change))
    assert text in str(error.value)
    assert str(tmp_path / "bad.safetensors") in str(error.value)
    assert drawn(own, picture, REQUEST) == plain


def test_a_damaged_file_and_one_that_has_gone(
    own: StableDiffusion, files: Path, picture: Image.Image, tmp_path: Path
):
    data = (files / "clay.safetensors").read_bytes()
    (tmp_path / "bad.safetensors").write_bytes(data[:-100])
    with pytest.raises(WeightsMismatch, match=r"is damaged: .*; download or copy it again"):
        drawn(own, picture, asking(tmp_path, bad=1.0))
    with pytest.raises(WeightsMissing, match="is not there any more"):
        drawn(own, picture, asking(tmp_path, gone=1.0))


def test_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    file = ExtraFile(tmp_path / "styles" / "clay.safetensors", "0" * 64)
    files = {"lora:clay": file, "lora:styles/clay": file}
    with pytest.raises(ParameterInvalid, match="'clay' and 'styles/clay' mean one file"):
        fitting_loras(files, {"clay": 0.5, "styles/clay": 1.0})
