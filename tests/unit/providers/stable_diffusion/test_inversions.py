"""Textual inversions: the files that are read, and what they do to a picture."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dna_pipeline.base.errors import WeightsMismatch, WeightsMissing
from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import StageDone, StageOrder
from dna_pipeline.providers.stable_diffusion.inversions import InversionFiles
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion
from dna_pipeline.stages.img2img.stage import Img2Img
from tests import workers
from tests.unit.providers.stable_diffusion.conftest import REQUEST, ignore, provider

WIDTH = 32

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]


def vectors(count: int = 2, width: int = WIDTH) -> torch.Tensor:
    return torch.rand(count, width, generator=torch.Generator().manual_seed(3))


def a1111(tensor: torch.Tensor) -> dict[str, Any]:
    return {
        "string_to_token": {"*": 265}, "string_to_param": {"*": tensor}, "name": "ink", "step": 9,
        "sd_checkpoint": None, "sd_checkpoint_name": None,
    }  # fmt: skip


def test_every_form_of_file_gives_the_same_vectors(tmp_path: Path) -> None:
    tensor = vectors()
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(tensor)})
    torch.save(a1111(tensor), tmp_path / "one.pt")
    torch.save(a1111(tensor) | {"string_to_param": parameters}, tmp_path / "two.pt")
    torch.save({"<ink>": tensor}, tmp_path / "three.bin")
    save_file({"emb_params": tensor}, tmp_path / "four.safetensors")
    save_file({"<ink>": tensor}, tmp_path / "five.safetensors")
    files = InversionFiles(WIDTH)
    for path in tmp_path.iterdir():
        read = files.vectors(path)
        assert isinstance(read, torch.Tensor), path
        assert torch.equal(read, tensor)


def test_a_single_vector_may_have_one_dimension(tmp_path: Path) -> None:
    torch.save({"<ink>": vectors(1)[0]}, tmp_path / "ink.bin")
    read = InversionFiles(WIDTH).vectors(tmp_path / "ink.bin")
    assert isinstance(read, torch.Tensor)
    assert read.shape == (1, WIDTH)


class Malice:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("malice",)


def test_what_is_no_inversion_for_the_model_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(a1111(vectors(width=48)), "wide.pt")
    torch.save({"string_to_param": {"*": Malice()}}, "malice.pt")
    torch.save([1, 2], "list.pt")
    save_file({"clip_l": vectors(), "clip_g": vectors(width=48)}, "xl.safetensors")
    torch.save({"<ink>": torch.zeros(2, 2, WIDTH)}, "cube.pt")
    torch.save({"<ink>": torch.tensor(1.0)}, "number.pt")
    Path("page.pt").write_text("<!DOCTYPE html>")
    Path("page.safetensors").write_text("<!DOCTYPE html>")
    Path("empty.pt").write_bytes(b"")
    files = InversionFiles(WIDTH)
    texts = {p.name: str(files.vectors(p)) for p in sorted(Path().iterdir())}
    reading = "is no textual inversion that can be read"
    assert texts == {
        "cube.pt": "cube.pt is no textual inversion: it holds no list of vectors",
        "empty.pt": f"empty.pt {reading}",
        "list.pt": f"list.pt {reading}",
        "malice.pt": f"malice.pt {reading}",
        "number.pt": "number.pt is no textual inversion: it holds no list of vectors",
        "page.pt": f"page.pt {reading}",
        "page.safetensors": f"page.safetensors {reading}",
        "wide.pt": "wide.pt is a textual inversion for another model: its vectors have 48 "
        "numbers, and this model takes 32",
        "xl.safetensors": "xl.safetensors holds 2 tensors, not the one of an inversion",
    }
    assert not Path("malice").exists()
    with pytest.raises(WeightsMissing):
        files.vectors(Path("gone.pt"))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path, files = tmp_path / "ink.safetensors", InversionFiles(WIDTH)
    for count in (1, 2):
        save_file({"emb_params": vectors(count)}, path)
        read = files.vectors(path)
        assert isinstance(read, torch.Tensor)
        assert len(read) == count


# --- pictures ---


@pytest.fixture
def ink(tmp_path: Path, model: StableDiffusion) -> Path:
    path = tmp_path / "data/models/embeddings/dark/ink.pt"
    path.parent.mkdir(parents=True)
    torch.save(a1111(4 * vectors()), path)
    return path


def drawn(model: StableDiffusion, picture: Image.Image, **changes: Any) -> Image.Image:
    return model.redraw(picture, replace(REQUEST, **changes), ignore)


def test_the_picture_is_that_of_diffusers(
    folder: Path, model: StableDiffusion, picture: Image.Image, ink: Path
) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline

    ours = drawn(model, picture, prompt="a hat", negative_prompt="ink", embeddings={"ink": ink})
    pipeline: Any = StableDiffusionImg2ImgPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_textual_inversion({"<i>": 4 * vectors()}, token="<i>")
    theirs = pipeline(
        "a hat", negative_prompt="<i>", image=picture, num_inference_steps=REQUEST.steps,
        strength=REQUEST.strength, guidance_scale=REQUEST.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(REQUEST.seed),
    ).images[0]  # fmt: skip
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert ours.info["embeddings"] == ["ink"]


def test_jobs_around_it_are_as_without_it(
    model: StableDiffusion, picture: Image.Image, ink: Path
) -> None:
    plain = drawn(model, picture, prompt="ink")
    with_it = drawn(model, picture, prompt="ink", embeddings={"ink": ink})
    assert with_it.tobytes() != plain.tobytes()
    assert drawn(model, picture, prompt="ink").tobytes() == plain.tobytes()
    again = drawn(model, picture, prompt="ink", embeddings={"ink": ink})
    assert again.tobytes() == with_it.tobytes()


def test_a_wrong_file_counts_only_where_a_prompt_names_it(
    model: StableDiffusion, picture: Image.Image, ink: Path
) -> None:
    torch.save(a1111(vectors(width=48)), ink)
    drawn(model, picture, prompt="drinking", embeddings={"ink": ink})
    with pytest.raises(WeightsMismatch, match=r"for another model.*names it: ink"):
        drawn(model, picture, negative_prompt="ink", embeddings={"ink": ink})


def test_what_was_used_is_recorded(folder: Path, picture: Image.Image, ink: Path) -> None:
    data = ink.parents[3]
    torch.save(a1111(vectors()), ink.with_name("drink.pt"))
    first = stage_done(folder, data, picture, negative_prompt="(ink:1.2), drinking")
    used = {"name": "ink", "sha256": sha256_file(ink)}
    assert first.model is not None
    assert first.model["embeddings"] == [used]
    with Image.open(data.parent / "work/redraw/cat.png") as result:
        assert f'TI hashes: "ink: {used["sha256"][:12]}"' in result.info["parameters"]
    torch.save(a1111(vectors(1)), ink)
    second = stage_done(folder, data, picture, negative_prompt="(ink:1.2), drinking")
    assert second.stage_key != first.stage_key


def test_a_prompt_without_any_has_the_key_that_it_had(
    folder: Path, picture: Image.Image, ink: Path
) -> None:
    data = ink.parents[3]
    with_file = stage_done(folder, data, picture, prompt="a hat")
    plain = stage_done(folder, data, picture, prompt="ink", prompt_syntax="plain")
    ink.unlink()
    assert stage_done(folder, data, picture, prompt="a hat").stage_key == with_file.stage_key
    assert with_file.model is not None
    assert "embeddings" not in with_file.model
    without = stage_done(folder, data, picture, prompt="ink", prompt_syntax="plain")
    assert without.stage_key == plain.stage_key


def stage_done(folder: Path, data: Path, picture: Image.Image, **params: Any) -> StageDone:
    """The event of a stage that the worker ran."""
    source = data.parent / "cat.png"
    picture.save(source)
    stage = Img2Img(model="sd", steps=2, strength=0.5, max_size=64, **params)
    spec = StageOrder("redraw", "img2img", stage.params(), "cat")
    order = workers.order(source, data.parent / "work", spec)
    (done,) = workers.done(workers.run(order, {"sd": provider(folder)}, data=data))
    return done


@pytest.mark.parametrize("is_legacy", [True, False])
def test_a_file_that_breaks_off_is_no_inversion(tmp_path: Path, is_legacy: bool) -> None:
    whole = tmp_path / "whole.pt"
    content = {"string_to_param": {"*": torch.ones(2, 32)}, "name": "ink"}
    torch.save(content, whole, _use_new_zipfile_serialization=not is_legacy)
    data = whole.read_bytes()
    assert isinstance(InversionFiles(32).vectors(whole), torch.Tensor)
    for length in range(0, len(data), len(data) // 60):
        part = tmp_path / f"{length}.pt"
        part.write_bytes(data[:length])
        assert isinstance(InversionFiles(32).vectors(part), WeightsMismatch)
