"""Masks that sidecars, job files, tables and pipeline.yaml name by their paths."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.reachability import SILENT, Reach, look_directly
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.naming_files import IMAGE_WAIT_S
from dna_pipeline.intake.inbox_intake import InboxIntake
from dna_pipeline.ledger import requests
from dna_pipeline.ledger.tables import Drop
from dna_pipeline.operations.check_plan import preview
from tests.hashes import sha256
from tests.integration.companions import MASKED, weights
from tests.integration.conftest import Site
from tests.integration.test_batches import report, statuses
from tests.integration.test_dispatch import PlayedExecutor

__all__ = ["weights"]

pytestmark = pytest.mark.usefixtures("weights")

MakeSite = Callable[..., Site]

ROUND, SQUARE = b"a round mask", b"a square mask"
NAMED = "img2img: {mask: shapes/round.png}\n"


@pytest.fixture
def painted(make_site: MakeSite) -> Site:
    return painting(make_site)


def painting(make_site: MakeSite, *root: Path, **keys: Any) -> Site:
    site = make_site(*root, pipeline="two_stages", **keys)
    site.put("shapes/round.png", ROUND)
    return site


def masks(site: Site) -> dict[str, list[str | None]]:
    """The references of the companions of each image that was claimed."""
    drops = [site.drop(job) for job in site.jobs()]
    return {
        drop.image or "": [file.get("reference") for file in drop.companions or ()]
        for drop in drops
    }


def errors(site: Site) -> list[tuple[str, str]]:
    return [(job.name, job.error["code"]) for job in site.jobs() if job.error is not None]


def orders(site: Site) -> list[list[tuple[str, str, str]]]:
    """The inputs of the orders of all jobs, in their order."""
    executor = PlayedExecutor()
    executor.capacity = 10
    Dispatcher(site.config, site.ledger, executor).dispatch()
    return [[(f.role, Path(f.path).name, f.reference) for f in o.inputs] for o in executor.orders]


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_a_sidecar_names_a_mask_which_stays(make_site: MakeSite, originals: str) -> None:
    site = painting(make_site, originals=originals)
    site.put("cat.png.yaml", NAMED)
    site.put("cat.png")
    site.settle()
    (mask,) = site.drop(site.job()).companions or []
    assert mask == {
        "role": "mask", "name": "round.mask.png", "sha256": sha256(ROUND), "bytes": len(ROUND),
        "reference": "shapes/round.png",
    }  # fmt: skip
    assert ROUND in [path.read_bytes() for path in site.claims()]
    site.run_next()
    assert (site.inbox / "shapes/round.png").read_bytes() == ROUND
    assert site.claims() == []
    (folder,) = [site.outbox / name for name in site.folders()]
    files = json.loads((folder / "manifest.json").read_bytes())["input"]["files"]
    assert [(f["role"], f.get("reference")) for f in files] == [
        ("image", None), ("sidecar", None), ("mask", "shapes/round.png"),
    ]  # fmt: skip
    archived = {path.name for path in (folder / "source").glob("*")}
    assert archived == (
        {"cat.png", "cat.png.yaml", "round.mask.png"} if originals == "archive" else set()
    )


def test_the_worker_gets_the_mask_that_the_job_names(painted: Site) -> None:
    painted.put("shapes/square.png", SQUARE)
    painted.put("cat.png.yaml", "matrix: {img2img.mask: [shapes/round.png, shapes/square.png]}\n")
    painted.put("cat.png")
    painted.settle()
    assert masks(painted) == {"cat.png": ["shapes/round.png", "shapes/square.png"]}
    assert orders(painted) == [
        [("image", "cat.png", ""), ("mask", f"{name}.mask.png", f"shapes/{name}.png")]
        for name in ("round", "square")
    ]


def test_each_row_has_its_mask_and_its_archive(painted: Site) -> None:
    painted.put("shapes/square.png", SQUARE)
    painted.put("cat.png")
    painted.put("dog.png", b"a dog")
    rows = "cat.png,shapes/round.png\ncat.png,shapes/square.png\ndog.png,shapes/round.png\n"
    painted.put("all.csv", f"image,img2img.mask\n{rows}")
    painted.settle()
    assert [job.name for job in painted.jobs()] == ["cat.png", "cat.png", "dog.png"]
    for _ in range(3):
        painted.run_next()
    sources = sorted(
        sorted(path.name for path in (painted.outbox / name / "source").iterdir())
        for name in painted.folders()
    )
    assert sources == [
        [f"{name}.png", f"{name}.png.yaml", f"{mask}.mask.png"]
        for name, mask in (("cat", "round"), ("cat", "square"), ("dog", "round"))
    ]
    painted.accounts().write()
    assert painted.left() == {"shapes/round.png", "shapes/square.png"}
    assert painted.claims() == []


def test_a_row_whose_mask_is_not_there_is_wrong(painted: Site) -> None:
    painted.put("cat.png")
    painted.put("dog.png", b"a dog")
    painted.put(
        "all.csv", "image,img2img.mask\ncat.png,shapes/rund.png\ndog.png,shapes/round.png\n"
    )
    painted.settle()
    painted.run_next()
    painted.accounts().write()
    (report,) = painted.outbox.rglob("batch.csv")
    rows = list(csv.DictReader(io.StringIO(report.read_text("utf-8-sig"), newline="")))
    assert [(row["status"], row["code"]) for row in rows] == [
        ("wrong", "mask_missing"), ("completed", ""),
    ]  # fmt: skip
    assert "row 2: mask: there is no 'shapes/rund.png'" in rows[0]["detail"]


def test_the_same_rows_run_again_only_if_the_mask_changed(make_site: MakeSite) -> None:
    site = painting(make_site, originals="keep", on_duplicate="skip")
    site.put("cat.png")
    table = "image,img2img.mask\ncat.png,shapes/round.png\n"
    site.put("all.csv", table)
    site.settle()
    site.run_next()
    site.put("again.csv", table)
    site.settle()
    assert len(site.jobs()) == 1
    site.put("shapes/round.png", SQUARE)
    site.put("third.csv", table)
    site.settle()
    assert [(site.drop(job).companions or [])[0]["sha256"] for job in site.jobs()][-1] == sha256(
        SQUARE
    )


def test_a_job_file_with_globs_takes_no_masks_for_pictures(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    for name in ("cat.png", "cat.mask.png", "dog.png", "dog.mask.png"):
        site.put(name, name.encode())
    site.put("all.yaml", 'images: "*.png"\n')
    site.settle()
    assert masks(site) == {"cat.png": [None], "dog.png": [None]}
    assert site.left() == set()


def test_rows_get_the_masks_beside_their_images(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    for name in ("cat.png", "cat.mask.png", "dog.png"):
        site.put(name, name.encode())
    site.put("all.csv", "image,img2img.seed\ncat.png,1\ncat.png,2\ndog.png,3\n")
    site.settle()
    assert [job.name for job in site.jobs()] == ["cat.png", "cat.png"]
    assert masks(site) == {"cat.png": [None]}
    assert site.left() == {"dog.png"}
    for _ in range(2):
        site.run_next()
    site.accounts().write()
    (report,) = site.outbox.rglob("batch.csv")
    assert "no dog.mask.png came beside dog.png" in report.read_text("utf-8-sig")


@pytest.mark.parametrize("recursive", [False, True])
def test_a_mask_in_the_inbox_is_no_picture(make_site: MakeSite, recursive: bool) -> None:
    site = painting(make_site, recursive=recursive)
    site.put("top.png", SQUARE)
    site.put("cat.png.yaml", NAMED)
    site.put("cat.png")
    site.put("dog.png.yaml", "img2img: {mask: top.png}\n")
    site.put("dog.png", b"a dog")
    site.settle()
    site.restart()
    site.settle()
    assert sorted(job.name for job in site.jobs()) == ["cat.png", "dog.png"]
    assert site.left() == {"shapes/round.png", "top.png"}
    assert "serves as a mask, since dog.png.yaml named it" in site.gate.finder.ignored["top.png"]
    site.put("top.png", b"improved")
    site.settle()
    assert len(site.jobs()) == 2
    content = preview(site.config, site.config.inboxes[0])
    assert content.candidates == []
    assert "serves as a mask" in content.ignored["top.png"]


def test_a_mask_that_a_job_named_is_listed_once_by_check(make_site: MakeSite) -> None:
    """Its name makes it look like a render pass, too."""
    site = make_site(pipeline="two_stages", originals="keep")
    site.put("cup.mask0001.png", ROUND)
    site.put("cup.png.yaml", "img2img: {mask: cup.mask0001.png}")
    site.put("cup.png")
    site.settle()
    assert [job.name for job in site.jobs()] == ["cup.png"]
    (site.inbox / "cup.png.yaml").unlink()
    content = preview(site.config, site.config.inboxes[0])
    assert "serves as a mask" in content.ignored["cup.mask0001.png"]
    assert [waits.path for waits in content.waiting] == []


def test_the_image_waits_an_hour_for_a_mask_that_is_named(painted: Site) -> None:
    (painted.inbox / "shapes/round.png").unlink()
    painted.put("cat.png.yaml", NAMED)
    painted.put("cat.png")
    painted.tick(100)
    reason = "cat.png.yaml waits for shapes/round.png"
    assert painted.waiting() == {"cat.png": reason, "cat.png.yaml": reason}
    painted.put("shapes/round.png", ROUND)
    painted.settle()
    assert masks(painted) == {"cat.png": ["shapes/round.png"]}


def test_after_an_hour_the_job_fails_and_says_why(painted: Site) -> None:
    (painted.inbox / "shapes/round.png").unlink()
    painted.put("cat.png.yaml", NAMED)
    painted.put("cat.png")
    painted.tick(3700)
    assert errors(painted) == [("cat.png", "mask_missing")]
    assert "there is no 'shapes/round.png'" in str(painted.job().error)


def test_a_mask_that_is_still_written_keeps_its_image_waiting(painted: Site) -> None:
    painted.put("cat.png.yaml", NAMED)
    painted.put("cat.png")
    painted.tick(3)
    painted.put("shapes/round.png", b"broken")
    painted.tick(8)
    assert painted.jobs() == []
    painted.put("shapes/round.png", ROUND)
    painted.settle()
    assert masks(painted) == {"cat.png": ["shapes/round.png"]}


@pytest.mark.parametrize(
    "path", ["../outside.png", "/etc/outside.png", "C:\\\\outside.png", ".dna/x.png", "link.png"]
)
def test_no_path_leads_out_of_the_inbox(painted: Site, path: str) -> None:
    outside = painted.root / "outside.png"
    outside.write_bytes(SQUARE)
    painted.put(".dna/x.png", SQUARE)
    (painted.inbox / "link.png").symlink_to(outside)
    painted.put("cat.png.yaml", f'img2img: {{mask: "{path}"}}\n')
    painted.put("cat.png")
    painted.tick(3700)
    ((name, code),) = errors(painted)
    assert name == "cat.png"
    assert code in ("path_escapes_inbox", "mask_missing")
    assert SQUARE not in [path.read_bytes() for path in painted.claims() if path.name != "x.png"]


def test_a_source_root_may_hold_the_masks(make_site: MakeSite, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/round.png").write_bytes(ROUND)
    site = make_site(pipeline="two_stages", source_roots=["library"])
    site.put("cat.png.yaml", "img2img: {mask: round.png}\n")
    site.put("cat.png")
    site.settle()
    assert masks(site) == {"cat.png": ["round.png"]}
    site.put("dog.png", b"a dog")
    site.put("all.csv", f"image,img2img.mask\ndog.png,{tmp_path}/library/round.png\n")
    site.settle()
    assert masks(site)["dog.png"] == [f"{tmp_path}/library/round.png"]
    assert [inputs[1] for inputs in orders(site)] == [
        ("mask", "round.mask.png", path) for path in ("round.png", f"{tmp_path}/library/round.png")
    ]
    assert (tmp_path / "library/round.png").read_bytes() == ROUND


def test_pipeline_yaml_may_name_a_mask_beside_it(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(pipeline="two_stages", defaults={"img2img": {"mask": "masks/all.png"}})
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/all.png").write_bytes(SQUARE)
    for name in ("cat.png", "dog.png"):
        site.put(name, name.encode())
    site.settle()
    drops: list[Drop] = [site.drop(job) for job in site.jobs()]
    assert [(d.companions or [])[0]["sha256"] for d in drops] == [sha256(SQUARE)] * 2
    assert [inputs[1][0] for inputs in orders(site)] == ["mask", "mask"]


def test_a_path_of_a_sidecar_is_its_own_also_if_pipeline_yaml_has_the_same(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(pipeline="two_stages", defaults={"img2img": {"mask": "masks/all.png"}})
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/all.png").write_bytes(SQUARE)
    site.put("cat.png")
    site.settle()
    site.put("masks/all.png", ROUND)
    site.put("dog.png.yaml", "img2img: {mask: masks/all.png}\n")
    site.put("dog.png", b"a dog")
    site.settle()
    assert masks(site) == {"cat.png": ["masks/all.png"], "dog.png": ["./masks/all.png"]}
    assert hashes(site) == [sha256(SQUARE), sha256(ROUND)]
    assert [inputs[1][2] for inputs in orders(site)] == ["masks/all.png", "./masks/all.png"]


def test_an_absolute_path_means_the_same_in_a_sidecar_and_in_pipeline_yaml(
    make_site: MakeSite, tmp_path: Path
) -> None:
    mask = str(tmp_path / "all.png")
    (tmp_path / "all.png").write_bytes(SQUARE)
    site = make_site(pipeline="two_stages", defaults={"img2img": {"mask": mask}})
    site.put("cat.png.yaml", f"img2img: {{mask: {mask}}}\n")
    site.put("cat.png")
    site.settle()
    assert masks(site) == {"cat.png": [mask]}


def test_one_image_may_have_both_masks_of_the_same_path(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(pipeline="two_stages", defaults={"img2img": {"mask": "masks/all.png"}})
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/all.png").write_bytes(SQUARE)
    site.put("masks/all.png", ROUND)
    rows: list[dict[str, Any]] = [{"image": "cat.png"}, {"image": "cat.png"}]
    rows[1]["img2img"] = {"mask": "masks/all.png"}
    site.put("all.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    site.put("cat.png")
    site.settle()
    companions = site.drop(site.jobs()[0]).companions or []
    assert {file["reference"]: file["sha256"] for file in companions} == {
        "masks/all.png": sha256(SQUARE), "./masks/all.png": sha256(ROUND),
    }  # fmt: skip


def test_names_in_a_claim_do_not_collide(painted: Site) -> None:
    painted.put("round.png", b"an image")
    painted.put("other/round.png", SQUARE)
    painted.put("round.png.yaml", "matrix: {img2img.mask: [shapes/round.png, other/round.png]}\n")
    painted.settle()
    assert orders(painted) == [
        [("image", "round.png", ""), ("mask", "round.mask.png", "shapes/round.png")],
        [("image", "round.png", ""), ("mask", "round-2.mask.png", "other/round.png")],
    ]


def test_a_late_sidecar_brings_the_mask_that_it_names(painted: Site) -> None:
    painted.put("cat.png")
    painted.settle()
    painted.put("cat.png.yaml", NAMED)
    painted.settle()
    assert masks(painted) == {"cat.png": ["shapes/round.png"]}
    assert [len(inputs) for inputs in orders(painted)] == [2]
    assert painted.left() == {"shapes/round.png"}


def test_a_cancelled_row_keeps_its_mask(painted: Site) -> None:
    painted.put("cat.png")
    painted.put("all.csv", "image,img2img.mask\ncat.png,shapes/round.png\n")
    painted.settle()
    job = painted.job()
    painted.ledger.transact(lambda s: requests.request_cancel(s, job.id))
    painted.publish()
    (folder,) = painted.outbox.glob(f"in/*/cancelled/*-{job.id[:8]}")
    sources = {path.name for path in (folder / "source").iterdir()}
    assert sources == {"cat.png", "cat.png.yaml", "round.mask.png"}


@pytest.mark.parametrize(
    ("keys", "mask"),
    [({"pipeline": "two_stages"}, "shapes/round.png"), (MASKED, "file")],
    ids=["named", "beside"],
)
def test_a_row_with_a_mask_is_done_though_its_image_was_archived(
    make_site: MakeSite, keys: dict[str, Any], mask: str
) -> None:
    site = make_site(**keys, on_duplicate="skip")
    name = "cat.mask.png" if mask == "file" else mask
    site.put(name, ROUND)
    site.put("cat.png")
    table = f"image,img2img.mask\ncat.png,{mask}\n"
    site.put("all.csv", table)
    site.settle()
    site.run_next()
    assert "cat.png" not in site.left()
    site.put("again.csv", table)
    site.settle()
    assert statuses(site) == {"2": "skipped"}


def test_a_kept_picture_that_served_as_a_mask_is_still_a_picture(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages", originals="keep")
    site.put("dog.png", b"a dog")
    site.settle()
    sidecar = site.put("fox.png.yaml", "img2img: {mask: dog.png}\n")
    site.put("fox.png")
    site.settle()
    assert masks(site)["fox.png"] == ["dog.png"]
    sidecar.unlink()
    site.restart()
    site.put("dog.png", b"another dog")
    site.settle()
    hashes = [site.drop(job).sha256 for job in site.jobs() if job.name == "dog.png"]
    assert hashes[-1] == sha256(b"another dog")


def test_a_kept_picture_that_is_its_own_mask_is_still_a_picture(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages", originals="keep")
    sidecar = site.put("job.yaml", "image: cat.png\nimg2img: {mask: cat.png}\n")
    for data in (b"a cat", b"another cat", b"a third cat"):
        site.put("cat.png", data)
        site.settle()
        assert site.drop(site.jobs()[-1]).sha256 == sha256(data)
        site.restart()
    sidecar.unlink()
    site.put("cat.png", b"a fourth cat")
    site.settle()
    assert site.drop(site.jobs()[-1]).sha256 == sha256(b"a fourth cat")


@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_rows_name_the_images_and_masks_of_other_rows(make_site: MakeSite, originals: str) -> None:
    site = make_site(**MASKED, originals=originals)
    for name in ("cat.png", "cat.mask.png", "dog.png"):
        site.put(name, name.encode())
    pairs = [
        ("cat.png", "dog.png"), ("dog.png", "cat.png"), ("cat.png", "cat.png"), ("cat.png", "file"),
        ("cat.png", "cat.mask.png"), ("dog.png", "cat.mask.png"),
    ]  # fmt: skip
    site.put("all.csv", "\n".join(map(",".join, [("image", "img2img.mask"), *pairs])))
    site.settle()
    assert [job.name for job in site.jobs()] == [image for image, _ in pairs]
    companions = {job.name: site.drop(job).companions or [] for job in site.jobs()}
    assert {
        (image, file.get("reference", "file"), file["sha256"])
        for image, files in companions.items()
        for file in files
    } == {
        (image, mask, sha256(b"cat.mask.png" if mask == "file" else mask.encode()))
        for image, mask in pairs
    }


# --- folders that do not answer ---


class SilentFolder:
    """A look at folders, of which one does not answer for a while; names below it are not touched
    meanwhile."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.is_silent = folder, True
        real = os.path.isfile

        def is_file(path: str | Path) -> bool:
            assert not (self.is_silent and Path(path).is_relative_to(folder)), path
            return real(path)

        monkeypatch.setattr(os.path, "isfile", is_file)

    def __call__(self, folder: Path) -> Reach:
        is_inside = self.is_silent and folder.is_relative_to(self.folder)
        return SILENT if is_inside else look_directly(folder)

    def watch(self, site: Site) -> None:
        site.gate = InboxIntake(
            site.config, site.config.inboxes[0], site.ledger, site.prober, site.cleanup, self
        )


@pytest.mark.parametrize("path", ["round.png", "{library}/round.png"])
def test_an_image_waits_in_the_inbox_for_a_silent_source_root(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "round.png").write_bytes(ROUND)
    site = make_site(pipeline="two_stages", source_roots=["library"])
    silent = SilentFolder(library, monkeypatch)
    silent.watch(site)
    path = path.format(library=library)
    site.put("cat.png.yaml", f"img2img: {{mask: {path}}}\n")
    site.put("cat.png")
    site.put("dog.png")
    site.tick(4000)
    assert list(masks(site)) == ["dog.png"]
    assert site.left() == {"cat.png", "cat.png.yaml"}
    assert "does not answer" in site.waiting()["cat.png"]
    silent.is_silent = False
    site.settle()
    assert masks(site)["cat.png"] == [path]


@pytest.mark.parametrize("place", ["library", "masks"])
def test_a_claim_waits_for_a_folder_that_falls_silent(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / place
    folder.mkdir()
    (folder / "round.png").write_bytes(ROUND)
    site = make_site(
        pipeline="two_stages", source_roots=["library"],
        defaults={"img2img": {"mask": f"{place}/round.png" if place == "masks" else "none"}},
    )  # fmt: skip
    silent = SilentFolder(folder, monkeypatch)
    silent.watch(site)
    if place == "library":
        # It answers until the image lies in its claim.
        silent.is_silent = False
        site.put("cat.png.yaml", "img2img: {mask: round.png}\n")
        monkeypatch.setattr(
            "dna_pipeline.intake.claiming.claimer.failpoint",
            lambda name: setattr(silent, "is_silent", True) if name == "image-taken" else None,
        )
    site.put("cat.png")
    site.tick(100)
    assert site.jobs() == []
    assert not site.gate.is_busy(), "a one-shot run does not wait for the folder"
    monkeypatch.undo()
    silent.is_silent = False
    site.settle()
    assert [error for error in errors(site) if error[1] == "mask_missing"] == []
    assert [reference is not None for reference in masks(site)["cat.png"]] == [True]


# --- masks outside of the inbox ---


@pytest.fixture(params=["library", "masks"])
def outside(request: pytest.FixtureRequest, make_site: MakeSite) -> tuple[Site, Path]:
    """A site whose images have a mask in a source root, or beside pipeline.yaml, and that mask."""
    if request.param == "library":
        site = make_site(pipeline="two_stages", source_roots=["library"])
        site.put("cat.png.yaml", "img2img: {mask: round.png}\n")
    else:
        defaults = {"img2img": {"mask": "masks/round.png"}}
        site = make_site(pipeline="two_stages", defaults=defaults)
    folder = site.root / request.param
    folder.mkdir()
    return site, folder / "round.png"


def hashes(site: Site) -> list[str]:
    return [(site.drop(job).companions or [{}])[0].get("sha256") for job in site.jobs()]


def test_a_mask_may_come_into_a_source_root_after_its_sidecar(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages", source_roots=["library"])
    (site.root / "library").mkdir()
    site.put("cat.png.yaml", "img2img: {mask: round.png}\n")
    site.put("cat.png")
    site.tick(100)
    assert site.waiting()["cat.png"] == "cat.png.yaml waits for round.png"
    (site.root / "library/round.png").write_bytes(ROUND)
    site.settle()
    assert masks(site) == {"cat.png": ["round.png"]}


def test_a_half_written_mask_outside_of_the_inbox_is_waited_for(
    outside: tuple[Site, Path],
) -> None:
    site, mask = outside
    mask.write_bytes(b"broken")
    site.put("cat.png")
    site.tick(9)
    assert site.left() >= {"cat.png"}
    assert "does not decode yet" in site.waiting()[str(mask)]
    mask.write_bytes(ROUND)
    site.settle()
    assert hashes(site) == [sha256(ROUND)]


def test_a_broken_mask_of_pipeline_yaml_is_waited_for_once(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages", defaults={"img2img": {"mask": "all.png"}})
    (site.root / "all.png").write_bytes(b"broken")
    for number in range(5):
        site.put(f"{number}.png")
    site.settle()
    assert len(site.jobs()) == 5


def test_a_mask_that_changes_after_it_was_decoded_settles_first(
    outside: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, mask = outside
    mask.write_bytes(ROUND)

    def write_again(name: str) -> None:
        if name == "image-taken":
            mask.write_bytes(b"half")

    monkeypatch.setattr("dna_pipeline.intake.claiming.claimer.failpoint", write_again)
    site.put("cat.png")
    while "cat.png" in site.left():
        site.tick(1)
    assert site.jobs() == []
    mask.write_bytes(SQUARE)
    site.settle()
    assert hashes(site) == [sha256(SQUARE)]


@pytest.mark.parametrize(
    "error", [claims.Changed("it grew"), claims.Busy("locked"), OSError(5, "I/O error")]
)
def test_a_mask_that_cannot_be_copied_is_tried_again(
    outside: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    site, mask = outside
    mask.write_bytes(ROUND)
    site.put("cat.png")
    real = claims.snapshot

    def snapshot(source: Path, target: Path, **keys: Any) -> claims.Hashed:
        if source == mask:
            raise error
        return real(source, target, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(claims, "snapshot", snapshot)
        site.tick(300)
    assert site.jobs() == []
    assert not site.gate.is_busy(), "a one-shot run does not wait for the mask"
    site.settle()
    assert hashes(site) == [sha256(ROUND)]
    assert errors(site) == []


def test_a_mask_that_cannot_be_copied_for_an_hour_fails_its_job(
    outside: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, mask = outside
    mask.write_bytes(ROUND)
    site.put("cat.png")

    def snapshot(*_: Any, **__: Any) -> claims.Hashed:
        raise claims.Busy("locked")

    monkeypatch.setattr(claims, "snapshot", snapshot)
    site.tick(3500)
    assert site.jobs() == []
    site.tick(200)
    assert errors(site) == [("cat.png", "mask_missing")]


# --- pictures with sidecars of their own ---


@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_a_mask_with_a_sidecar_of_its_own_is_a_picture_too(
    make_site: MakeSite, originals: str
) -> None:
    site = make_site(pipeline="two_stages", originals=originals)
    site.put("dog.png", b"a dog")
    site.put("dog.png.yaml", "tags: [own]\n")
    site.put("cat.png.yaml", "img2img: {mask: dog.png}\n")
    site.settle()
    if originals == "archive":
        assert site.waiting()["dog.png"] == (
            "waits until cat.png.yaml is taken in, which names dog.png as a mask"
        )
        assert site.left() == {"dog.png", "dog.png.yaml", "cat.png.yaml"}
    site.put("cat.png")
    site.settle()
    assert masks(site) == {"cat.png": ["dog.png"], "dog.png": []}
    assert [job.tags for job in site.jobs() if job.name == "dog.png"] == [["own"]]
    assert errors(site) == []
    assert site.left() == (
        set() if originals == "archive"
        else {"dog.png", "dog.png.yaml", "cat.png", "cat.png.yaml"}
    )  # fmt: skip


def test_two_pictures_that_are_masks_of_each_other_do_not_wait_for_ever(painted: Site) -> None:
    for name, other in (("cat", "dog"), ("dog", "cat")):
        painted.put(f"{name}.png", name.encode())
        painted.put(f"{name}.png.yaml", f"img2img: {{mask: {other}.png}}\n")
    painted.tick(4000)
    assert painted.left() == {"shapes/round.png"}
    assert sorted(job.name for job in painted.jobs()) == ["cat.png", "dog.png"]


# --- forms of letters ---


COMPOSED, DECOMPOSED = "Bl\u00fcte.png", "Blu\u0308te.png"


@pytest.mark.parametrize(
    ("written", "stored"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)], ids=["NFC", "NFD"]
)
@pytest.mark.parametrize("place", ["inbox", "recursive", "root", "config", "table"])
def test_accents_of_a_path_may_have_another_form(
    make_site: MakeSite, tmp_path: Path, written: str, stored: str, place: str
) -> None:
    keys: dict[str, Any] = {"recursive": place == "recursive"}
    if place == "root":
        keys["source_roots"] = ["root"]
    if place == "config":
        keys["defaults"] = {"img2img": {"mask": f"shapes/{written}"}}
    site = make_site(pipeline="two_stages", **keys)
    home = {"root": tmp_path / "root", "config": tmp_path}.get(place, site.inbox)
    (home / "shapes").mkdir(parents=True)
    (home / "shapes" / stored).write_bytes(ROUND)
    site.put("cat.png")
    if place == "table":
        site.put("all.csv", f"image,img2img.mask\ncat.png,shapes/{written}\n")
    elif place != "config":
        site.put("cat.png.yaml", f"img2img: {{mask: 'shapes/{written}'}}\n")
    site.settle()
    assert [sha256(ROUND)] == [
        file["sha256"] for job in site.jobs() for file in site.drop(job).companions or ()
    ]
    assert errors(site) == []


LONG = f"{'m' * 300}.png"


def test_a_row_whose_mask_has_a_name_that_no_file_system_accepts_fails_alone(painted: Site) -> None:
    painted.put("a.png", b"a")
    painted.put("b.png", b"b")
    painted.put("c.png", b"c")
    rows = [
        {"image": "a.png", "img2img.mask": LONG},
        {"image": "c.png", "img2img.mask": "\ud800.png"},
        {"image": "b.png"},
    ]
    painted.put("all.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    painted.settle()
    assert statuses(painted) == {"1": "wrong", "2": "wrong", "3": "queued"}


def test_an_image_whose_mask_has_such_a_name_fails_alone(painted: Site) -> None:
    painted.put("a.png", b"a")
    painted.put("a.png.yaml", f"img2img: {{mask: {LONG}}}\n")
    painted.put("b.png", b"b")
    painted.tick(IMAGE_WAIT_S + 60)
    assert errors(painted) == [("a.png", "mask_missing")]
    assert len(painted.jobs()) == 2


def test_a_mask_with_the_longest_name_is_copied(painted: Site) -> None:
    name = f"{'猫' * 83}.png"
    painted.put(name, ROUND)
    painted.put("a.png", b"a")
    painted.put("all.csv", f"image,img2img.mask\na.png,{name}\n")
    painted.settle()
    assert statuses(painted) == {"2": "queued"}
    assert masks(painted) == {"a.png": [name]}


def test_a_row_that_names_a_file_whose_name_is_no_text_is_reported(painted: Site) -> None:
    odd = os.fsdecode(b"St\xfchle.png")
    painted.put(odd, b"chairs")
    painted.put("all.yaml", "images: ['*.png']\nimg2img: {mask: file}\n")
    painted.settle()
    (row,) = report(painted)
    assert row["code"] == "mask_missing"
    assert r"St\xfchle.mask.png" in row["detail"]
    painted.put("b.png", b"b")
    painted.settle()
    assert [job.name for job in painted.jobs()] == ["b.png"]
