"""`dna-pipeline run`: a folder of drops, good and bad, is worked off."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from conftest import PHOTOGRAPHS, Studio, photograph, product_shot
from PIL import Image

pytestmark = pytest.mark.slow


def test_ten_photographs_two_of_them_broken(studio: Studio):
    inbox = studio.inbox("restyle")
    for index in range(8):
        picture = photograph(PHOTOGRAPHS[index % 4], 120 + index)
        picture.save(inbox / f"photo{index}.{'jpg' if index % 2 else 'png'}")
    whole = (inbox / "photo1.jpg").read_bytes()
    (inbox / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (inbox / "words.png").write_text("this is not a picture")

    done = studio.cli("run")

    assert done.returncode == 1, done.stderr
    assert "8 completed, 2 failed" in done.stdout
    statuses = [job["status"] for job in studio.jobs()]
    assert sorted(statuses) == ["completed"] * 8 + ["failed"] * 2
    assert studio.leftovers() == []
    assert studio.error_of("cut")["code"] == "image_unreadable"
    assert studio.error_of("words")["code"] == "image_unreadable"
    (source,) = studio.outbox.glob("restyle/failed/cut-*/source/cut.jpg")
    assert source.read_bytes() == whole[: len(whole) // 2]
    verified = studio.cli("verify")
    assert verified.returncode == 0
    assert "8 results" in verified.stderr


def test_what_verify_says_of_a_changed_result(studio: Studio):
    (studio.inbox("restyle") / "egg.yaml").write_text("pipeline: cut")
    product_shot().save(studio.inbox("restyle") / "egg.png")
    assert studio.cli("run").returncode == 0
    (picture,) = studio.outbox.glob("restyle/egg-*/egg.matte.png")
    picture.write_bytes(picture.read_bytes() + b"!")

    verified = studio.cli("verify")

    assert verified.returncode == 1
    assert "egg.matte.png: is not what the manifest says" in verified.stdout


def test_a_photograph_becomes_a_mesh(studio: Studio):
    product_shot().save(studio.inbox("mesh") / "egg.png")
    (studio.inbox("mesh") / "egg.yaml").write_text(
        "pipeline: restyle_to_mesh\nseed: -1\n"
        "triposr: {mc_resolution: 40, formats: [glb, stl],\n"
        "  render_video: true, render_n_views: 4, render_resolution: 64}\n"
        "tags: [hero]\nmeta: {asset: egg_01}\n"
    )

    done = studio.cli("run")

    assert done.returncode == 0, done.stderr
    (folder,) = studio.outbox.glob("mesh/egg-*")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    names = {file["path"]: file["role"] for file in manifest["artifacts"]}
    assert names == {
        "egg.png": "image", "egg.matte.png": "matte", "egg.glb": "mesh",
        "egg.stl": "mesh", "egg.preview.png": "preview", "egg.turntable.mp4": "turntable",
        "egg.stl.xmp": "marks", "egg.turntable.mp4.xmp": "marks",
    }  # fmt: skip
    assert sorted(p.name for p in (folder / "source").iterdir()) == ["egg.png", "egg.yaml"]
    assert manifest["job"]["tags"] == ["hero"]
    assert manifest["job"]["meta"] == {"asset": "egg_01"}
    assert [stage["id"] for stage in manifest["stages"]] == [
        "img2img", "remove_background", "triposr",
    ]  # fmt: skip
    assert 0 <= manifest["stages"][0]["params"]["seed"] < 2**32
    assert manifest["stages"][2]["params"]["resolution"] == 40
    (mesh,) = trimesh.load(folder / "egg.glb").geometry.values()
    told = next(file for file in manifest["artifacts"] if file["role"] == "mesh")
    assert (len(mesh.vertices), len(mesh.faces)) == (told["vertices"], told["faces"])
    assert mesh.volume > 0
    assert mesh.metadata["dna_pipeline"] == recipe(manifest)
    (film,) = (file for file in manifest["artifacts"] if file["role"] == "turntable")
    assert (film["media_type"], film["frames"], film["width"]) == ("video/mp4", 4, 64)
    assert manifest["stages"][2]["params"]["turntable"] == "mesh"


def test_a_later_stage_reads_no_lossy_picture(studio: Studio):
    """The picture is published as a poor JPEG, and the matte is that of a lossless one."""
    folders: dict[str, Path] = {}
    for output in ("png", "jpeg"):
        name = f"of_{output}"
        product_shot().save(studio.inbox("mesh") / f"{name}.png")
        (studio.inbox("mesh") / f"{name}.yaml").write_text(
            "pipeline: restyle_to_mesh\n"
            f"img2img: {{output: {output}, quality: 1}}\n"
            "triposr: {resolution: 40}\n"
        )
    done = studio.cli("run")
    assert done.returncode == 0, done.stderr
    for output in ("png", "jpeg"):
        (folders[output],) = studio.outbox.glob(f"mesh/of_{output}-*")
    mattes = [Image.open(folder / f"of_{output}.matte.png") for output, folder in folders.items()]
    assert mattes[0].tobytes() == mattes[1].tobytes()
    manifest = json.loads((folders["jpeg"] / "manifest.json").read_bytes())
    image = manifest["artifacts"][0]
    assert (image["path"], image["role"], image["media_type"]) == (
        "of_jpeg.jpg", "image", "image/jpeg",
    )  # fmt: skip
    params = manifest["stages"][0]["params"]
    assert (params["output"], params["quality"], params["size"], params["tile"]) == (
        "jpeg", 1, "fit", None,
    )  # fmt: skip
    names = {path.name for path in folders["jpeg"].iterdir()}
    assert names == {
        "of_jpeg.jpg", "of_jpeg.matte.png", "of_jpeg.glb", "of_jpeg.preview.png", "manifest.json",
        "source",
    }  # fmt: skip
    verified = studio.cli("verify", "--open")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_two_runs_give_the_same_bytes(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    """Each with a daemon and a worker of its own, and sets in another order."""
    runs: list[dict[str, bytes]] = []
    for number in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", number)
        product_shot().save(studio.inbox("mesh") / "egg.png")
        (studio.inbox("mesh") / "egg.yaml").write_text(
            "pipeline: restyle_to_mesh\nseed: 5\n"
            "triposr: {resolution: 40, formats: [glb, obj, ply, stl], bake_texture: true,\n"
            "  texture_resolution: 128, turntable: nerf, turntable_views: 4, turntable_size: 64}\n"
        )
        done = studio.cli("run")
        assert done.returncode == 0, done.stderr
        (folder,) = studio.outbox.glob("mesh/egg-*")
        files = [path for path in folder.iterdir() if path.is_file()]
        runs.append({path.name: path.read_bytes() for path in files})
        shutil.rmtree(folder)
    first, second = runs
    # Two pictures, four meshes, material, texture, preview, film and manifest; and the marks beside
    # three meshes and the film.
    assert len(first) == 15
    assert first.pop("manifest.json") != second.pop("manifest.json")
    assert first == second


def recipe(manifest: dict[str, Any]) -> dict[str, Any]:
    """What of a manifest is the same each time the same is made."""
    stages = [
        {key: stage[key] for key in ("id", "type", "provider", "model", "params")}
        for stage in manifest["stages"]
    ]
    for stage in stages:
        del stage["params"]["reuse"]
        if stage["model"]:
            del stage["model"]["path"]
    given = {"sha256": manifest["input"]["sha256"]}
    version = manifest["environment"]["dna_pipeline"]
    return {"version": version, "input": given, "stages": stages}


BAD = {
    "unknown_key": ("img2img: {strenght: 0.5}", "sidecar_invalid"),
    "not_yaml": ("img2img: {", "sidecar_invalid"),
    "wrong_type": ("img2img: {steps: many}", "parameter_invalid"),
    "out_of_range": ("img2img: {strength: 1.5}", "parameter_invalid"),
    "no_pipeline": ("pipeline: sculpt", "unknown_pipeline"),
    "no_model": ("img2img: {model: sdxl}", "unknown_model"),
    "no_steps": ("img2img: {steps: 2, strength: 0.3}", "no_effective_steps"),
    "karras": ("img2img: {sampler: ddim, schedule: karras}", "parameter_invalid"),
}


def test_bad_input_fails_with_its_code_beside_its_source(studio: Studio):
    inbox = studio.inbox("restyle")
    for name, (sidecar, _) in BAD.items():
        photograph("chelsea").save(inbox / f"{name}.png")
        (inbox / f"{name}.yaml").write_text(sidecar)
    Image.new("RGB", (1, 1)).save(inbox / "dot.png")
    (inbox / "escape.yaml").write_text("image: ../../etc/passwd")
    product_shot().save(inbox / "good.png")
    (inbox / "good.yaml").write_text("pipeline: cut")

    report = studio.facts("run")

    assert report["completed"] == 1
    codes = {job["name"]: job["code"] for job in report["jobs"] if job["code"]}
    expected = {f"{name}.png": code for name, (_, code) in BAD.items()}
    assert codes == expected | {
        "dot.png": "image_too_small", "escape.yaml": "path_escapes_inbox",
    }  # fmt: skip
    for name, (sidecar, _) in BAD.items():
        (folder,) = studio.outbox.glob(f"restyle/failed/{name}-*")
        assert (folder / "source" / f"{name}.yaml").read_text() == sidecar
        assert (folder / "source" / f"{name}.png").is_file()
        assert name in (folder / "ERROR.txt").read_text()
    assert "did you mean 'strength'" in studio.error_of("unknown_key")["detail"]
    assert "line 1" in studio.error_of("out_of_range")["detail"]
    assert studio.leftovers() == []


def test_unusual_but_good_pictures(studio: Studio):
    inbox = studio.inbox("restyle")
    picture = photograph("astronaut")
    frames = [picture, photograph("coffee").resize(picture.size)]
    frames[0].save(inbox / "moving.gif", save_all=True, append_images=frames[1:])
    picture.convert("CMYK").save(inbox / "print.jpg")
    grey = np.asarray(picture.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(inbox / "deep.png")
    picture.quantize(16).save(inbox / "palette.png", transparency=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = photograph("coffee")
    wide.save(inbox / "turned.jpg", exif=exif)

    report = studio.facts("run")

    assert (report["completed"], report["failed"]) == (5, 0)
    sizes = {job["name"]: _size(studio.root / "outbox" / job["folder"]) for job in report["jobs"]}
    assert sizes["turned.jpg"][0] < sizes["turned.jpg"][1], "upright by its EXIF orientation"
    assert wide.width > wide.height


def _size(folder: Path) -> tuple[int, int]:
    (path,) = folder.glob("*.png")
    with Image.open(path) as picture:
        return picture.size
