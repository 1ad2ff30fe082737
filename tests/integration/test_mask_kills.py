"""Kills at every step on the way of masks, for each kind of drop and both kinds of masks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import BlackImage, ConfigError
from dna_pipeline.ledger import queue
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options
from tests.integration.companions import MASKED
from tests.integration.conftest import Site
from tests.integration.test_batch_faults import start_batch

pytestmark = pytest.mark.slow

MakeSite = Callable[..., Site]
KillEverywhere = Callable[..., int]

PLAIN = {"pipeline": "two_stages"}
IMAGE, BESIDE, ROUND = b"an image", b"a mask beside it", b"a round mask"
NAMED = "img2img: {mask: shapes/round.png}\n"

STEP = 2
"""Of the points before and after each step, the tests kill at every second one, since each kill
takes half a second."""

ways = pytest.mark.parametrize("way", ["beside", "named"])
kinds = pytest.mark.parametrize("kind", ["single", "table", "job file"])
originals_of_all_kinds = pytest.mark.parametrize("originals", ["archive", "keep"])


def files_of(kind: str, way: str) -> dict[str, bytes]:
    """The files of one drop, by their paths in the inbox."""
    files = {"cat.png": IMAGE}
    column = "shapes/round.png" if way == "named" else "file"
    head = NAMED if way == "named" else ""
    if way == "beside":
        files["cat.mask.png"] = BESIDE
    if kind == "table":
        files["all.csv"] = f"image,img2img.mask\ncat.png,{column}\n".encode()
    elif kind == "job file":
        files["all.yaml"] = f"images: [cat.png]\n{head}".encode()
    else:
        files["cat.png.yaml"] = f"priority: 2\n{head}".encode()
    return files


def prepared(make_site: MakeSite, root: Path, way: str, **keys: Any) -> Site:
    site = make_site(root, **{**(MASKED if way == "beside" else PLAIN), **keys})
    if way == "named":
        site.put("shapes/round.png", ROUND)
    return site


def check_masks(site: Site, way: str) -> None:
    """Each job has its mask, whole; one that is named lies where it lay."""
    for job in site.jobs():
        drop = site.drop(job)
        (mask,) = drop.companions or []
        assert mask.get("reference") == ("shapes/round.png" if way == "named" else None)
        expected = ROUND if way == "named" else BESIDE
        assert (mask["bytes"], Path(drop.claim, mask["name"]).read_bytes()) == (
            len(expected), expected,
        )  # fmt: skip
    if way == "named":
        assert (site.inbox / "shapes/round.png").read_bytes() == ROUND


@ways
@kinds
@originals_of_all_kinds
def test_a_drop(
    make_site: MakeSite, kill_everywhere: KillEverywhere, originals: str, kind: str, way: str
) -> None:
    files = files_of(kind, way)

    def prepare(root: Path) -> Site:
        site = prepared(make_site, root, way, originals=originals)
        for name, data in files.items():
            site.put(name, data)
        return site

    def check(site: Site) -> None:
        site.settle()
        assert site.job().status == "queued"
        check_masks(site, way)
        kept = set(files) if originals == "keep" else set()
        assert site.left() - {"shapes/round.png"} == kept
        assert not (site.config.data / "recovered").exists()

    assert kill_everywhere(prepare, Site.settle, check, STEP) > 10


@ways
def test_a_submission(make_site: MakeSite, kill_everywhere: KillEverywhere, way: str) -> None:
    def prepare(root: Path) -> Site:
        site = prepared(make_site, root, way)
        site.root.joinpath("cat.png").write_bytes(IMAGE)
        site.root.joinpath("cat.mask.png").write_bytes(BESIDE)
        return site

    def submit(site: Site) -> None:
        mask = "shapes/round.png" if way == "named" else "file"
        settings = document_from_options("two_stages", [f"img2img.mask={mask}"])
        submitter = Submitter(site.config, site.ledger, settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(site.inbox)
            image = site.root / "cat.png"
            submitter.submit(Submission("cat.png", image), site.prober)  # pyright: ignore

    def check(site: Site) -> None:
        assert len(site.jobs()) <= 1
        check_masks(site, way)
        assert site.root.joinpath("cat.png").read_bytes() == IMAGE
        assert site.root.joinpath("cat.mask.png").read_bytes() == BESIDE
        if not site.jobs():
            submit(site)
        assert site.job().status == "queued"
        check_masks(site, way)

    assert kill_everywhere(prepare, submit, check, STEP) > 5


@ways
@kinds
def test_a_retry(make_site: MakeSite, kill_everywhere: KillEverywhere, kind: str, way: str) -> None:
    def prepare(root: Path) -> Site:
        site = prepared(make_site, root, way)
        for name, data in files_of(kind, way).items():
            site.put(name, data)
        site.settle()
        job = site.claim_next()
        site.ledger.transact(lambda s: queue.fail(s, job.id, BlackImage().failure()))
        site.publish()
        return site

    def retry(site: Site) -> None:
        with suppress(ConfigError):  # it is queued again already
            Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore

    def check(site: Site) -> None:
        retry(site)
        assert site.job().status == "queued"
        check_masks(site, way)

    assert kill_everywhere(prepare, retry, check, STEP) > 5


def test_a_mask_comes_back_though_a_row_names_one_of_the_same_name(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    files = {
        "x.png": IMAGE, "x.mask.png": BESIDE, "shapes/x.mask.png": ROUND,
        "all.csv": b"image,img2img.mask\nx.png,file\nx.png,shapes/x.mask.png\n",
    }  # fmt: skip
    for name, data in files.items():
        site.put(name, data)
    start_batch(site, 3)
    assert BESIDE in [path.read_bytes() for path in site.claims()]
    site.restart()
    assert site.left() == set(files)
    assert (site.inbox / "x.mask.png").read_bytes() == BESIDE
