"""What the files of a job say of their making, through the worker's runner and real stages."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest
from PIL import Image

from dna_pipeline import __version__
from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import (
    FileRecord,
    JobDone,
    JobFailed,
    StageDone,
    StageOrder,
)
from dna_pipeline.media.marks.credits import read_credits
from dna_pipeline.media.marks.packet import GENERATED, REWORKED, Marks, xmp
from dna_pipeline.media.marks.signing import Signer
from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages import registry
from tests import certificates, workers

TINY = Path(__file__).parents[3] / "golden" / "triposr-tiny"
WEIGHTS = "5" * 64
TOOL = f"dna-pipeline {__version__}"

pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[..., dict[str, FileRecord]]


def photo(path: Path, **options: Any) -> Path:
    """A red thing before white, in a file of JPEG."""
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste("red", (16, 16, 48, 48))
    picture.save(path, "JPEG", **options)
    return path


CREDITS = Marks(
    "Camera", creators=("Zoë",), rights="© Studio", rating=4, keywords=("chair", "Hero")
)


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Runs stages, each with its parameters, on an image; the files by their names."""

    def bench(
        *stages: tuple[str, dict[str, Any]],
        image: Path,
        tags: tuple[str, ...] = (),
        signer: Signer | None = None,
        folder: str = "work",
    ) -> dict[str, FileRecord]:
        providers: dict[str, Provider] = {"matte": BorderKey(), "triposr": TripoSRModel(path=TINY)}
        if any(kind == "img2img" for kind, _ in stages):
            weights = request.getfixturevalue("models_dir")
            providers["sd15"] = Diffusers(path=weights / "sd-v1-5-local")
        names = {"remove_background": "matte", "triposr": "triposr", "img2img": "sd15"}
        models = [
            registry.stage_class(kind).model_validate({"model": names[kind], **params})
            for kind, params in stages
        ]
        orders = tuple(StageOrder(one.type, one.type, one.params(), "cat") for one in models)
        events = workers.run(
            workers.order(image, tmp_path / folder, *orders, tags=tags), providers, signer=signer,
            fingerprint=lambda one: ("m", None if isinstance(one, BorderKey) else WEIGHTS),
        )  # fmt: skip
        bench.events = events  # type: ignore[attr-defined]
        done = workers.done(events)
        bench.warnings = [text for event in done for text in event.warnings]  # type: ignore[attr-defined]
        if not isinstance(events[-1], JobDone):
            return {}
        for event in done:
            for file in event.artifacts:
                path = tmp_path / folder / event.stage / file.path
                assert (sha256_file(path), path.stat().st_size) == (file.sha256, file.bytes)
        return {file.path: file for event in done for file in event.artifacts}

    return bench


MESH = {"resolution": 16, "preview": False}
CUT = ("remove_background", {})


def document(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + size])


def packet(path: Path) -> dict[str, Any]:
    """The packet of a mesh."""
    (found,) = document(path)["extensions"]["KHR_xmp_json_ld"]["packets"]
    return found


def xmp_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.info.get("xmp", b"").decode()


# --- what the marks say ---


def test_a_mesh_is_generated(bench: Run, tmp_path: Path):
    files = bench(CUT, ("triposr", MESH), image=photo(tmp_path / "cat.jpg"), tags=("hero",))
    assert list(files) == ["cat.matte.png", "cat.glb"]
    found = packet(tmp_path / "work/triposr/cat.glb")
    assert found["Iptc4xmpExt:DigitalSourceType"] == GENERATED
    assert found["Iptc4xmpExt:AISystemUsed"] == "triposr (triposr)"
    version = f"{TOOL}; triposr sha256:{WEIGHTS}"
    assert found["Iptc4xmpExt:AISystemVersionUsed"] == version
    assert found["xmp:CreatorTool"] == TOOL
    assert found["dc:subject"] == {"@set": ["hero"]}


def test_a_cut_out_is_not_generated(bench: Run, tmp_path: Path):
    """A plain one says nothing at all; with tags, no more than these."""
    image = photo(tmp_path / "cat.jpg")
    bench(CUT, image=image, folder="plain")
    assert xmp_of(tmp_path / "plain/remove_background/cat.matte.png") == ""
    bench(CUT, image=image, tags=("hero",), folder="tagged")
    text = xmp_of(tmp_path / "tagged/remove_background/cat.matte.png")
    assert "DigitalSourceType" not in text and "AISystem" not in text
    assert "<rdf:li>hero</rdf:li>" in text


def test_a_cut_out_of_a_generated_picture_is_generated(bench: Run, tmp_path: Path):
    image = photo(tmp_path / "cat.jpg", xmp=xmp(Marks("other tool", GENERATED)))
    bench(CUT, image=image)
    found = read_credits(tmp_path / "work/remove_background/cat.matte.png")
    assert found.source_type == GENERATED


def test_the_credits_of_the_image_travel_on(bench: Run, tmp_path: Path):
    image = photo(tmp_path / "cat.jpg", xmp=xmp(CREDITS))
    bench(CUT, ("triposr", MESH), image=image, tags=("hero", "set 4"))
    found = read_credits(tmp_path / "work/remove_background/cat.matte.png")
    assert (found.creators, found.rights, found.rating) == (("Zoë",), "© Studio", 4)
    assert found.keywords == ("hero", "set 4", "chair")
    mesh = packet(tmp_path / "work/triposr/cat.glb")
    assert mesh["dc:creator"] == {"@list": ["Zoë"]}
    assert mesh["dc:rights"]["rdf:_1"]["@value"] == "© Studio"
    assert mesh["xmp:Rating"] == 4


def test_pictures_and_films_of_a_mesh(
    bench: Run, tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
):
    params = MESH | {"preview": True, "turntable": "mesh", "turntable_views": 2,
                     "turntable_size": 16, "formats": ["glb", "obj", "stl"]}  # fmt: skip
    files = bench(CUT, ("triposr", params), image=photo(tmp_path / "cat.jpg"))
    folder = tmp_path / "work/triposr"
    assert read_credits(folder / "cat.preview.png").source_type == GENERATED
    beside = {name: file for name, file in files.items() if file.role == "marks"}
    assert {name: file.facts for name, file in beside.items()} == {
        f"{name}.xmp": {"describes": name} for name in ("cat.obj", "cat.stl", "cat.turntable.mp4")
    }
    assert {file.media_type for file in beside.values()} == {"application/rdf+xml"}
    for name in (*beside, "cat.turntable.mp4", "cat.preview.png"):
        assert exiftool(folder / name)["XMP:DigitalSourceType"] == GENERATED, name
    assert next(iter(files)) == "cat.matte.png"
    assert [name for name in files if not name.endswith(".xmp")][1] == "cat.glb"


@pytest.mark.slow
def test_a_reworked_photograph(
    bench: Run, tmp_path: Path, exiftool: Callable[[Path], dict[str, Any]]
):
    params = {"prompt": "an owl", "negative_prompt": "fog", "steps": 2, "strength": 0.5}
    image = photo(tmp_path / "cat.jpg", xmp=xmp(CREDITS))
    bench(("img2img", params), CUT, ("triposr", MESH), image=image)
    for path in ("img2img/cat.png", "remove_background/cat.matte.png"):
        tags = exiftool(tmp_path / "work" / path)
        assert tags["XMP:DigitalSourceType"] == REWORKED
        assert tags["XMP:AISystemUsed"] == "sd15 (diffusers)"
        assert tags["XMP:AISystemVersionUsed"] == f"{TOOL}; sd15 sha256:{WEIGHTS}"
        assert tags["XMP:Creator"] == "Zoë"
        assert "XMP:AIPromptInformation" not in tags
    mesh = packet(tmp_path / "work/triposr/cat.glb")
    assert mesh["Iptc4xmpExt:DigitalSourceType"] == GENERATED
    assert mesh["Iptc4xmpExt:AISystemUsed"] == "sd15 (diffusers); triposr (triposr)"


@pytest.mark.slow
def test_a_generated_picture_that_is_reworked_stays_generated(bench: Run, tmp_path: Path):
    image = photo(tmp_path / "cat.jpg", xmp=xmp(Marks("other tool", GENERATED)))
    bench(("img2img", {"steps": 2, "strength": 0.5}), image=image)
    assert read_credits(tmp_path / "work/img2img/cat.png").source_type == GENERATED


# --- full, marks, none ---


@pytest.mark.slow
@pytest.mark.parametrize("metadata", ["full", "marks", "none"])
def test_what_the_key_decides_of_a_picture(bench: Run, tmp_path: Path, metadata: str):
    params = {"prompt": "an owl", "negative_prompt": "fog", "steps": 2, "strength": 0.5}
    params |= {"metadata": metadata, "mark_prompt": True}
    bench(("img2img", params), image=photo(tmp_path / "cat.jpg"), tags=("hero",))
    path = tmp_path / "work/img2img/cat.png"
    with Image.open(path) as image:
        image.load()
        text = str(image.info.get("parameters", ""))
    marks = xmp_of(path)
    assert text.startswith("an owl") == (metadata == "full")
    assert (f"Model hash: {WEIGHTS[:10]}, Model: sd15" in text) == (metadata == "full")
    assert (REWORKED in marks) == (metadata != "none")
    assert ("an owl\nNegative prompt: fog" in marks) == (metadata == "full")
    assert (b"owl" in path.read_bytes()) == (metadata == "full")
    assert (b"hero" in path.read_bytes()) == (metadata != "none")


@pytest.mark.slow
def test_other_tools_read_the_recipe_beside_the_marks(bench: Run, tmp_path: Path):
    from sd_parsers import ParserManager

    params = {"prompt": "an owl", "steps": 2, "strength": 0.5}
    bench(("img2img", params), image=photo(tmp_path / "cat.jpg"))
    info = ParserManager().parse(tmp_path / "work/img2img/cat.png")
    assert info is not None
    assert [prompt.value for prompt in info.prompts] == ["an owl"]
    assert [(model.name, model.hash) for model in info.models] == [("sd15", WEIGHTS[:10])]


@pytest.mark.parametrize("metadata", ["full", "marks", "none"])
def test_what_the_key_decides_of_a_mesh(
    bench: Run,
    tmp_path: Path,
    metadata: str,
    validate_gltf: Callable[[bytes], dict[str, Any]],
):
    params = MESH | {"metadata": metadata, "formats": ["glb", "stl"]}
    files = bench(CUT, ("triposr", params), image=photo(tmp_path / "cat.jpg"))
    glb = tmp_path / "work/triposr/cat.glb"
    found = document(glb)
    assert ("extensions" in found) == (metadata != "none")
    assert ("dna_pipeline" in found["meshes"][0].get("extras", {})) == (metadata == "full")
    assert ("cat.stl.xmp" in files) == (metadata != "none")
    report = validate_gltf(glb.read_bytes())["issues"]
    assert report["numErrors"] == report["numWarnings"] == 0


def test_each_stage_has_its_own(bench: Run, tmp_path: Path):
    cut = ("remove_background", {"metadata": "none"})
    bench(cut, ("triposr", MESH), image=photo(tmp_path / "cat.jpg"), tags=("hero",))
    assert xmp_of(tmp_path / "work/remove_background/cat.matte.png") == ""
    assert packet(tmp_path / "work/triposr/cat.glb")


def test_the_same_job_gives_the_same_bytes(bench: Run, tmp_path: Path):
    image = photo(tmp_path / "cat.jpg", xmp=xmp(CREDITS))
    made = [
        bench(CUT, ("triposr", MESH), image=image, tags=("hero",), folder=folder)
        for folder in ("one", "two")
    ]
    assert made[0] == made[1]


# --- a finished stage, and a later attempt ---


def test_new_tags_are_written_into_files_that_were_done(bench: Run, tmp_path: Path):
    """A retry keeps finished stages, unless their files would say something else now."""
    image = photo(tmp_path / "cat.jpg")

    def done(**order: Any) -> StageDone:
        bench(CUT, image=image, **order)
        (event,) = (e for e in bench.events if isinstance(e, StageDone))  # type: ignore[attr-defined]
        return event

    plain, hero, other = done(), done(tags=("hero",)), done(tags=("other",))
    assert len({event.stage_key for event in (plain, hero, other)}) == 3
    assert done().stage_key == plain.stage_key
    assert xmp_of(tmp_path / "work/remove_background/cat.matte.png") == ""


def test_tags_do_not_count_where_none_are_written(bench: Run, tmp_path: Path):
    image = photo(tmp_path / "cat.jpg")
    keys: set[str] = set()
    for tags in ((), ("hero",)):
        bench(("remove_background", {"metadata": "none"}), image=image, tags=tags)
        keys |= {e.stage_key for e in bench.events if isinstance(e, StageDone)}  # type: ignore[attr-defined]
    assert len(keys) == 1


# --- signatures ---


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    files = certificates.make(tmp_path)
    return Signer(files.certificate, files.key)


def manifest(path: Path, media_type: str) -> dict[str, Any]:
    with c2pa.Reader(media_type, io.BytesIO(path.read_bytes())) as reader:
        report = json.loads(reader.json())
    assert report["validation_state"] == "Valid"
    return report["manifests"][report["active_manifest"]]


def test_results_are_signed_last(bench: Run, tmp_path: Path, signer: Signer):
    params = MESH | {"preview": True, "turntable": "mesh", "turntable_views": 2,
                     "turntable_size": 16}  # fmt: skip
    image = photo(tmp_path / "cat.jpg", xmp=xmp(CREDITS))
    bench(CUT, ("triposr", params), image=image, signer=signer)
    matte = tmp_path / "work/remove_background/cat.matte.png"
    (parent,) = manifest(matte, "image/png")["ingredients"]
    assert parent["title"] == "cat.jpg"
    assert read_credits(matte).creators == ("Zoë",)
    for name, media_type in (("preview.png", "image/png"), ("turntable.mp4", "video/mp4")):
        found = manifest(tmp_path / f"work/triposr/cat.{name}", media_type)
        assert "ingredients" not in found
        assert found["title"] == f"cat.{name}"
    assert b"c2pa" not in (tmp_path / "work/triposr/cat.glb").read_bytes()


def test_nothing_is_signed_where_nothing_is_written(bench: Run, tmp_path: Path, signer: Signer):
    signer.key.unlink()
    files = bench(
        ("remove_background", {"metadata": "none"}), image=photo(tmp_path / "cat.jpg"),
        signer=signer,
    )  # fmt: skip
    assert list(files) == ["cat.matte.png"]
    assert b"c2pa" not in (tmp_path / "work/remove_background/cat.matte.png").read_bytes()


def test_a_cut_out_of_an_image_without_a_form(bench: Run, tmp_path: Path, signer: Signer):
    """The job is done all the same, and says why its picture has no signature."""
    image = tmp_path / "cat.bmp"
    with Image.open(photo(tmp_path / "cat.jpg")) as picture:
        picture.save(image)
    assert bench(CUT, image=image, signer=signer)
    assert any("is not signed" in text for text in bench.warnings)  # type: ignore[attr-defined]


def test_a_job_waits_where_nothing_can_be_signed(bench: Run, tmp_path: Path, signer: Signer):
    """Before anything is computed."""
    signer.key.write_bytes(b"no key")
    assert bench(CUT, image=photo(tmp_path / "cat.jpg"), signer=signer) == {}
    (failed,) = (e for e in bench.events if isinstance(e, JobFailed))  # type: ignore[attr-defined]
    assert (failed.hold, failed.failure["code"]) == (True, "signing_unavailable")
    assert "c2pa cannot sign with" in failed.failure["detail"]
    assert not (tmp_path / "work").exists()
