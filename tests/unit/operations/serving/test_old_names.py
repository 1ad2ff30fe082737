"""Names of results as the web backend gave them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dna_pipeline.operations.serving import old_names
from dna_pipeline.operations.serving.old_names import files_by_kind, find, seed_of
from dna_pipeline.operations.serving.result_files import NoSuchFile

AT = datetime(2026, 11, 30, 12, 0, 5, 900_000, tzinfo=UTC)
SECONDS = int(AT.timestamp())
ID = "9f3c2a10" + "0" * 24


def artifact(path: str, role: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    return {"path": path, "role": role, "media_type": "x/y", "bytes": 1, "sha256": "",
            "stage_id": "s", "facts": facts}  # fmt: skip


def job(*artifacts: dict[str, Any], **more: Any) -> dict[str, Any]:
    stages = [{"id": "img2img", "type": "img2img", "params": {"seed": 42}}]
    drop = {"originals": "delete", "image": None, "sidecar": None, "companions": None}
    row: dict[str, Any] = {
        "id": ID, "seq": 1234, "created_at": AT, "stages": stages, "publish": "done",
        "publish_name": "in/cat-9f3c2a10", "error": None, "manifest_sha256": "", "request": None,
        "drop": drop, "artifacts": list(artifacts),
    }  # fmt: skip
    return row | more


PICTURE = job(artifact("cat.lossless.png", "intermediate"), artifact("cat.webp", "image"))
MESH = job(
    artifact("cat.matte.png", "matte"), artifact("cat.obj", "mesh"), artifact("cat.glb", "mesh"),
    artifact("cat.preview.png", "preview"), artifact("cat.turntable.mp4", "turntable"),
)  # fmt: skip


class Book:
    """The ledger's answers about one job."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row

    def id_of(self, seq: int) -> str | None:
        return self.row["id"] if seq == self.row["seq"] else None

    def ids_from(self, start: str) -> list[str]:
        return [self.row["id"]] if self.row["id"].startswith(start) else []

    def job(self, _: str) -> dict[str, Any]:
        return self.row


def lookup(row: dict[str, Any], name: str) -> tuple[str, str]:
    return find(Book(row), name)  # pyright: ignore[reportArgumentType]


def test_the_names_of_a_picture():
    names = {kind: named.name for kind, named in files_by_kind(PICTURE).items()}
    assert names == {"image": f"img2img_{SECONDS}1234_42.webp"}


def test_the_names_of_a_mesh():
    names = {kind: named.name for kind, named in files_by_kind(MESH).items()}
    stem = f"mesh_{SECONDS}_9f3c2a10"
    assert names["mesh"] == f"{stem}.glb"
    assert names["preview"] == f"{stem}.png"
    assert names["video"] == f"{stem}.mp4"


@pytest.mark.parametrize("row", [PICTURE, MESH])
def test_each_name_leads_back_to_its_file(row: dict[str, Any]):
    for named in files_by_kind(row).values():
        assert lookup(row, named.name) == (ID, named.file.path)


def test_a_mesh_of_another_format_has_a_name_too():
    assert lookup(MESH, f"mesh_{SECONDS}_9f3c2a10.obj") == (ID, "cat.obj")


@pytest.mark.parametrize(
    "name",
    [
        f"img2img_{SECONDS + 1}1234_42.webp", f"img2img_{SECONDS}1235_42.webp",
        f"img2img_{SECONDS}1234_43.webp", f"img2img_{SECONDS}1234_42.png",
        f"img2img_{SECONDS}01234_42.webp", f"mesh_{SECONDS}_9f3c2a10.glb",
        f"img2img_{SECONDS}{'9' * 30}_42.webp", "", "img2img", "../img2img_1_1.png",
        f"img2img_{SECONDS}1234_42.webp\n", f"img2img_{SECONDS}\u0661_42.webp",
    ],
)  # fmt: skip
def test_no_other_name_leads_to_a_picture(name: str):
    with pytest.raises(NoSuchFile):
        lookup(PICTURE, name)


def test_a_job_that_has_no_folder_has_no_names():
    assert files_by_kind(job(artifact("cat.png", "image"), publish="pending")) == {}


def test_the_seed():
    assert seed_of(PICTURE) == 42
    assert seed_of(job(stages=[{"id": "t", "type": "triposr", "params": {}}])) is None


def test_seconds_have_ten_digits():
    assert len(str(SECONDS)) == 10
    assert old_names._IMAGE.fullmatch(f"img2img_{SECONDS}1_0.png")
