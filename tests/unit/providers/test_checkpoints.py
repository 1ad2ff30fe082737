"""A folder of checkpoints: each is a model by its name, from the moment that it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import UnknownModel, WeightsMismatch
from dna_pipeline.config.parameters import model_problem
from dna_pipeline.providers.base import CachedModel, Device, ModelCache, Provider
from dna_pipeline.providers.checkpoints import ANY_NAME, MANY, Models
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.matting.rembg import Rembg
from dna_pipeline.providers.stable_diffusion.provider import Diffusers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("anime.safetensors", "photo.v1.ckpt", "notes.txt", ".hidden.ckpt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/model_index.json").write_text("{}")
    (tmp_path / "parts").mkdir()
    return tmp_path


def test_each_is_a_model_by_its_name(folder: Path):
    models = Models({"matte": BorderKey()}, folder)
    assert list(models) == ["matte", "anime", "photo.v1", "whole"]
    assert len(models) == 4
    paths = {"anime": "anime.safetensors", "photo.v1": "photo.v1.ckpt", "whole": "whole"}
    for name, file in paths.items():
        assert models[name] == Diffusers.model_validate({"path": folder / file})
    for name in ("notes", "parts", "", "..", "../x", ".hidden", "anime.safetensors", "a/b"):
        assert models.get(name) is None


def test_one_that_comes_later_is_there(folder: Path):
    models = Models({}, folder)
    assert "late" not in models
    (folder / "late.ckpt").write_bytes(b"x")
    assert "late" in models
    (folder / "late.ckpt").unlink()
    assert "late" not in models
    assert list(Models({}, folder / "absent")) == []


def test_a_declared_model_hides_a_file_of_its_name(folder: Path):
    models = Models({"anime": BorderKey()}, folder)
    assert list(models) == ["anime", "photo.v1", "whole"]
    assert models["anime"] == BorderKey()
    assert not models.is_in_folder("anime")
    assert models.is_in_folder("whole")


def test_two_files_of_one_name_are_no_model(folder: Path):
    (folder / "anime.ckpt").write_bytes(b"x")
    models = Models({}, folder)
    assert "anime" not in models and "anime" not in list(models)
    sentence = f"anime.safetensors and anime.ckpt in {folder} have one name; rename one or move it"
    assert models.problems() == {"anime": f"{sentence} away"}
    assert models.problems(["whole"]) == {}
    assert model_problem(models, "img2img", "anime") == models.problems()["anime"]


def test_what_a_job_is_changes(folder: Path):
    models = Models({"matte": BorderKey()}, folder)
    assert model_problem(models, "img2img", "anime") is None
    assert model_problem(models, "img2img", "anlme") == (
        "no model is called 'anlme'; did you mean 'anime'?"
    )
    assert "is not one for triposr" in (model_problem(models, "triposr", "anime") or "")


class Stand(Provider):
    """Loads nothing but itself."""

    name_in_config = "stand"
    stages = frozenset({"img2img"})
    wrong: str | None = None

    def missing(self) -> str | None:
        return None

    def mismatch(self) -> str | None:
        return self.wrong

    def weights(self) -> tuple[Path, list[Path]]:
        return Path("stand"), []

    def load(self, device: Device) -> Any:
        return self


class Torn(Stand):
    """Cannot be loaded."""

    def load(self, device: Device) -> Any:
        raise OSError("torn")


def test_one_of_many_is_kept_loaded():
    providers = {name: Stand() for name in ("a", "b", "own")}
    cache = ModelCache(providers, Device("cpu", "float32"), {"a", "b"}.__contains__)
    for name in ("own", "a", "b"):
        cache.get(name)
    assert [name for name in providers if cache.is_loaded(name)] == ["b", "own"]
    cache.get("a")
    assert [name for name in providers if cache.is_loaded(name)] == ["a", "own"]


def test_each_change_of_the_loaded_models_is_reported():
    changes: list[list[tuple[str, bool, int | None]]] = []
    allocated = iter([100, 350, None, 7, 7, 5])

    def note(models: Sequence[CachedModel]) -> None:
        changes.append([(model.name, model.is_loading, model.bytes) for model in models])

    providers = {name: Stand() for name in ("a", "b", "own")} | {"torn": Torn()}
    device = Device("cpu", "float32")
    cache = ModelCache(providers, device, {"a", "b"}.__contains__, note, lambda: next(allocated))
    for name in ("own", "own", "a"):
        cache.get(name)
    assert changes == [
        [("own", True, None)], [("own", False, 250)],
        [("own", False, 250), ("a", True, None)], [("own", False, 250), ("a", False, None)],
    ]  # fmt: skip
    changes.clear()
    cache.get("b")
    assert changes[-1] == [("own", False, 250), ("b", False, 0)]
    assert cache.evict("b") == ["own"]
    assert changes[-1] == [("b", False, 0)]
    changes.clear()
    assert cache.evict("b") == []
    assert changes == []


def test_a_model_that_cannot_be_loaded_is_not_reported_as_loaded():
    changes: list[list[str]] = []
    cache = ModelCache(
        {"torn": Torn()}, Device("cpu", "float32"),
        _on_change=lambda models: changes.append([model.name for model in models]),
    )  # fmt: skip
    with pytest.raises(OSError, match="torn"):
        cache.get("torn")
    assert changes == [["torn"], []]


def test_a_wrong_file_is_named_before_it_is_loaded():
    cache = ModelCache({"a": Stand(wrong="a is a LoRA")}, Device("cpu", "float32"))
    with pytest.raises(WeightsMismatch, match="a is a LoRA"):
        cache.get("a")
    with pytest.raises(UnknownModel):
        cache.get("b")


def test_a_folder_that_is_none_is_a_sentence(folder: Path):
    assert Models({}, folder).problems() == Models({}).problems() == {}
    file = folder / "anime.safetensors"
    assert f"{file} is a file, and `*` takes a folder" in Models({}, file).problems()[ANY_NAME]
    absent = folder / "absent"
    assert f"{absent} is not there; make it" in Models({}, absent).problems()[ANY_NAME]


def test_a_folder_in_the_place_of_one_file_is_named(folder: Path):
    entry = Diffusers.model_validate({"path": folder / "whole", "vae": folder / "parts"})
    assert f"{folder / 'parts'} is a folder, and `vae` takes one file" in (entry.missing() or "")
    network = Rembg.model_validate({"name": "u2net", "path": folder / "parts"})
    assert f"{folder / 'parts'} is a folder, and u2net is one file" in (network.missing() or "")


def test_of_many_checkpoints_those_in_use_are_examined(folder: Path):
    models = Models({"matte": BorderKey()}, folder)
    assert models.to_examine(["photo.v1"]) == {"matte", "anime", "photo.v1", "whole"}
    for number in range(MANY):
        (folder / f"{number}.ckpt").write_bytes(b"x")
    assert models.to_examine(["photo.v1", "absent"]) == {"matte", "photo.v1"}
