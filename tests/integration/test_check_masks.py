"""What `dna-pipeline check` says of masks, prompt files and textual inversions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.operations import check_plan
from dna_pipeline.operations.check import check
from tests.integration.companions import weights
from tests.integration.conftest import Site
from tests.pictures import png
from tests.unit.weights import weight_files

__all__ = ["weights"]

pytestmark = pytest.mark.usefixtures("weights")

MakeSite = Callable[..., Site]
PICTURE = png(np.zeros((64, 64, 3), np.uint8))
WIDE = png(np.zeros((32, 64, 3), np.uint8))


def report_of(site: Site) -> dict[str, Any]:
    return json.loads(json.dumps(check(site.config)))


def faults(report: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    return {job["file"]: (job["error"], job["detail"]) for job in report["jobs"]}


@pytest.fixture
def studio(make_site: MakeSite) -> Site:
    site = make_site(pipeline="two_stages", prompt_files=True)
    site.put("cat.png", PICTURE)
    site.put("shapes/round.png", PICTURE)
    return site


def test_a_yaml_with_a_missing_mask_is_judged_as_a_whole(studio: Site) -> None:
    studio.put(
        "cat.png.yaml",
        "img2img:\n  mask: shapes/rond.png\n  strenght: 0.5\n  steps: many\n"
        "  prompt: '<lora:clay:much>'\ncount: none\n",
    )
    report = report_of(studio)
    assert not report["would_all_run"]
    code, detail = faults(report)["cat.png"]
    assert code == "sidecar_invalid"
    assert detail is not None
    for part in (
        "did you mean 'strength'?",
        "img2img.steps: should be a whole number",
        "count: should be a whole number",
        "prompt: ",
        "line 2: mask: there is no 'shapes/rond.png'; did you mean 'shapes/round.png'?",
    ):
        assert part in detail
    assert report["waiting"] == []


def test_a_yaml_that_lacks_its_mask_alone_is_wrong_too(studio: Site) -> None:
    studio.put("cat.png.yaml", "img2img: {mask: shapes/rond.png}\n")
    report = report_of(studio)
    assert faults(report)["cat.png"] == (
        "mask_missing",
        "mask: there is no 'shapes/rond.png'; did you mean 'shapes/round.png'?",
    )
    assert not report["would_all_run"]


def test_a_row_has_all_its_faults(studio: Site) -> None:
    studio.put("all.csv", "image,img2img.mask,img2img.steps,count\ncat.png,rond.png,many,none\n")
    code, detail = faults(report_of(studio))["cat.png"]
    assert detail is not None
    assert [line.split(": ")[1] for line in detail.splitlines()] == [
        "count", "img2img.steps", "mask",
    ]  # fmt: skip
    assert code == "parameter_invalid"


def test_each_combination_shows_its_faults(studio: Site) -> None:
    studio.put("cat.png.yaml", "matrix: {img2img.strength: [2, 0.5, -1]}\n")
    _, detail = faults(report_of(studio))["cat.png"]
    assert detail is not None
    assert len(detail.splitlines()) == 2


@pytest.mark.parametrize(
    "files",
    [
        {"cat.png.yaml": "img2img: {mask: shapes/wide.png}"},
        {"all.csv": "image,img2img.mask\ncat.png,shapes/wide.png\n"},
    ],
)
def test_a_mask_of_another_shape_is_found(studio: Site, files: dict[str, str]) -> None:
    studio.put("shapes/wide.png", WIDE)
    for name, text in files.items():
        studio.put(name, text)
    (job,) = report_of(studio)["jobs"]
    assert job["error"] == "mask_mismatch"
    text = "mask shapes/wide.png: the mask has 64 x 32 px, the picture 64 x 64 px"
    assert job["detail"] == (f"row 2: {text}" if job["row"] else text)
    assert job["column"] == ("img2img.mask" if job["row"] else None)


def test_texts_and_masks_without_an_image_are_listed(make_site: MakeSite) -> None:
    site = make_site(
        pipeline="two_stages", prompt_files=True, defaults={"img2img": {"mask": "file"}}
    )
    site.put("dog.txt", "a dog")
    site.put("fox.mask.png", PICTURE)
    report = report_of(site)
    assert {entry["file"]: entry["reason"] for entry in report["waiting"]} == {
        "dog.txt": "is the prompt of no image that is here, or a YAML beside the image counts",
        "fox.mask.png": "a mask; waits for an image called fox",
    }
    assert report["jobs"] == []


def test_a_mask_with_a_sidecar_of_its_own_is_a_job(studio: Site) -> None:
    studio.put("dog.png", PICTURE)
    studio.put("dog.png.yaml", "tags: [own]\n")
    studio.put("cat.png.yaml", "img2img: {mask: dog.png}\n")
    report = report_of(studio)
    assert faults(report) == {"cat.png": (None, None), "dog.png": (None, None)}
    assert report["waiting"] == []


def test_each_yaml_and_each_mask_is_read_once(
    studio: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        studio.put(f"{number}.png", PICTURE)
        studio.put(f"{number}.png.yaml", "img2img: {mask: shapes/round.png}\n")
    read: list[str] = []
    decoded: list[str] = []
    real_read, real_probe = check_plan.read_companions, Prober.probe

    def reads(inbox: Any, path: str, look: Any) -> Any:
        read.append(path)
        return real_read(inbox, path, look)

    def probes(self: Prober, path: Path) -> Any:
        decoded.append(path.name)
        return real_probe(self, path)

    monkeypatch.setattr(check_plan, "read_companions", reads)
    monkeypatch.setattr(Prober, "probe", probes)
    report_of(studio)
    assert sorted(read) == [f"{number}.png.yaml" for number in range(4)]
    assert decoded.count("round.png") == 1


def test_a_wrong_inversion_is_named_where_a_prompt_has_its_name(studio: Site) -> None:
    folder = studio.config.data / "models/embeddings"
    folder.mkdir(parents=True)
    for name in ("bad-hands", "other"):
        weight_files.write_safetensors(folder / f"{name}.safetensors", {"emb_params": (2, 2048)})
    studio.put("cat.png.yaml", "img2img: {prompt: 'a cat, (bad-hands:1.2)'}\n")
    studio.put("dog.png", PICTURE)
    studio.put("dog.png.yaml", "img2img: {prompt: 'another cat, bad-handshake'}\n")
    report = report_of(studio)
    wrong = {job["file"]: job["mismatched"] for job in report["jobs"]}
    assert wrong == {"cat.png": ["embedding:bad-hands"], "dog.png": []}
    assert [file["name"] for file in report["extra_files"]] == ["embedding:bad-hands"]
    assert not report["would_all_run"]
