"""The list of published models, and what the providers make of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.matting.rembg import MODELS, Rembg
from dna_pipeline.providers.stable_diffusion.folder import SdFolder
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.weights.licences import LICENCES
from dna_pipeline.weights.pins import PUBLISHED, PinnedModel, load_pins, plain_name

PINS = load_pins({})
HUB = {"HF_ENDPOINT": "http://mirror/hf/", "DNA_GITHUB_ENDPOINT": "http://mirror/gh"}


@pytest.mark.parametrize("model", PINS.models.values(), ids=lambda model: model.name)
def test_each_file_is_pinned_by_size_and_hash(model: PinnedModel):
    assert model.files
    for file in model.files:
        assert file.bytes > 0
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert len({file.path for file in model.files}) == len(model.files)
    assert model.licence
    assert not model.full or model.full in PINS.models


def test_sources_are_at_a_fixed_revision():
    document = json.loads(PUBLISHED.read_bytes())
    for source in document["sources"].values():
        if "hub" in source:
            assert re.fullmatch("[0-9a-f]{40}", source["revision"])


def test_addresses_follow_the_environment():
    sd, net = PINS.models["sd15"], PINS.models["u2net"]
    assert sd.source.url("unet/a b.json", {}) == (
        "https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5/resolve/"
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14/unet/a%20b.json"
    )
    assert sd.source.url("x", HUB).startswith("http://mirror/hf/stable-diffusion-v1-5/")
    assert net.source.url("u2net.onnx", {}) == (
        "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx"
    )
    assert (
        net.source.url("x", HUB) == "http://mirror/gh/danielgatis/rembg/releases/download/v0.0.0/x"
    )


def test_licences_of_manifests_are_those_of_the_list():
    """Of every listed file of weights, of those too that belong to no model that can be pulled."""
    assert len(LICENCES) == 15
    unpulled = "1a189f0be69d6106a48548e7626207dddd7042a418dbf372cefd05e0cdba61b6"
    assert LICENCES[unpulled] == "CreativeML-OpenRAIL-M"
    (isnet,) = PINS.models["isnet-general-use"].files
    assert isnet.sha256 not in LICENCES


@pytest.mark.parametrize("name", ["sd15", "sd15-full"])
def test_the_files_are_all_that_the_provider_needs(tmp_path: Path, name: str):
    model = PINS.models[name]
    for options in ((), ("safety_checker",)):
        for file in model.selected(options):
            path = tmp_path / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert SdFolder(tmp_path, with_safety=bool(options)).absent() == []


def test_the_sizes_are_those_that_the_readme_names():
    sizes = {name: round(model.bytes() / 1e9, 2) for name, model in PINS.models.items()}
    assert (sizes["sd15"], sizes["sd15-full"], sizes["triposr"]) == (2.13, 4.27, 1.68)


def published(provider: Provider) -> list[tuple[str, str]]:
    return [(one.model.name, one.target.name) for one in provider.published(PINS)]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("sd-v1-5-local", "sd15"),
        ("SD15", "sd15"),
        ("stable-diffusion-v1-5", "sd15"),
        ("dreamshaper", None),
        ("sd15-anime", None),
    ],
)
def test_a_diffusers_folder_is_known_by_its_name(tmp_path: Path, name: str, model: str | None):
    found = published(Diffusers.model_validate({"path": tmp_path / name}))
    assert found == ([] if model is None else [(model, name)])


def test_a_single_file_is_known_by_its_name(tmp_path: Path):
    def provider(name: str) -> Diffusers:
        keys = {"path": tmp_path / "sd15", "single_file": tmp_path / name}
        return Diffusers.model_validate(keys | {"tokenizer": tmp_path / "clip"})

    known = provider("v1-5-pruned-emaonly-fp16.safetensors")
    assert published(known) == [("sd15-file", "v1-5-pruned-emaonly-fp16.safetensors")]
    own = provider("mine.safetensors")
    assert published(own) == [("sd15", "sd15")]
    (tmp_path / "mine.safetensors").touch()
    assert published(own) == []
    (tmp_path / "sd15").mkdir()
    assert published(known) == published(own) == [("sd15", "sd15")]


def test_the_checker_is_wanted_where_it_is_used(tmp_path: Path):
    keys = {"path": tmp_path / "sd15", "safety_checker": True}
    (placement,) = Diffusers.model_validate(keys).published(PINS)
    assert {file.option for file in placement.files} == {"", "safety_checker"}


def test_a_path_that_is_one_published_file(tmp_path: Path):
    path = tmp_path / "v1-5-pruned-emaonly-fp16.safetensors"
    entry = Diffusers.model_validate({"path": path})
    assert published(entry) == [("sd15-file", path.name)]
    assert "put a Stable Diffusion 1.5 in one file there" in (entry.missing() or "")
    path.write_bytes(b"")
    assert published(entry) == []


def test_the_other_providers(tmp_path: Path):
    assert published(TripoSRModel(path=tmp_path / "triposr-base")) == [("triposr", "triposr-base")]
    assert published(TripoSRModel(path=tmp_path / "mine")) == []
    assert published(Rembg(name="u2net", path=tmp_path / "a.onnx")) == [("u2net", "a.onnx")]
    assert published(Rembg(name="silueta", path=tmp_path / "a.onnx")) == []
    assert published(BorderKey.model_validate({})) == []


def test_networks_are_published_under_the_names_that_rembg_has():
    networks = [model for model in PINS.models.values() if model.provider == "rembg"]
    assert networks
    for model in networks:
        assert MODELS[model.name] == model.files[0].remote


def test_the_command_ends_the_sentence_only_where_it_helps(tmp_path: Path):
    ending = "or run `dna-pipeline models pull`"
    for known in ({"path": tmp_path / "sd15"}, {"path": tmp_path / "sd15", "safety_checker": True}):
        assert (Diffusers.model_validate(known).missing() or "").endswith(ending)
    assert (TripoSRModel(path=tmp_path / "triposr").missing() or "").endswith(ending)
    assert (Rembg(name="u2net", path=tmp_path / "a.onnx").missing() or "").endswith(ending)
    for unknown in (Diffusers.model_validate({"path": tmp_path / "mine"}),
                    TripoSRModel(path=tmp_path / "mine"),
                    Rembg(name="silueta", path=tmp_path / "a.onnx")):  # fmt: skip
        assert "models pull" not in (unknown.missing() or "models pull")


def test_a_list_that_is_none_is_a_wrong_configuration(tmp_path: Path):
    with pytest.raises(ConfigError, match="DNA_MODEL_PINS"):
        load_pins({"DNA_MODEL_PINS": str(tmp_path / "absent.json")})
    for number, text in enumerate(["", "[]", '{"sources": {}}', '{"sources": {}, "models": [{}]}']):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        with pytest.raises(ConfigError, match="is no list of models"):
            load_pins({"DNA_MODEL_PINS": str(path)})


def test_names_are_compared_without_signs():
    assert plain_name("SD-v1.5_Local") == "sdv15local"
