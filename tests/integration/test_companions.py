"""Files that belong to an image, such as a mask: claimed, archived and kept with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import BlackImage, ConfigError
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.intake.claiming import claims
from dna_pipeline.ledger import queue, requests
from dna_pipeline.ledger.tables import Drop
from dna_pipeline.operations.retry import Retrier
from tests.hashes import sha256
from tests.integration.companions import make_masked, weights
from tests.integration.conftest import Site
from tests.integration.test_dispatch import PlayedExecutor

__all__ = ["make_masked", "weights"]

pytestmark = pytest.mark.usefixtures("weights")

MakeSite = Callable[..., Site]

FILES = {"cat.png": b"cat", "cat.png.yaml": b"priority: 2\n", "cat.mask.png": b"mask"}


@pytest.fixture
def site(make_masked: MakeSite) -> Site:
    return make_masked()


def put_all(site: Site) -> None:
    for name, data in FILES.items():
        site.put(name, data)


def test_the_image_comes_last(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed: list[str] = []
    real = claims.claim_file

    def claim_file(source: Path, *rest):
        claimed.append(source.name)
        return real(source, *rest)

    monkeypatch.setattr(claims, "claim_file", claim_file)
    put_all(site)
    site.settle()
    assert claimed == ["cat.png.yaml", "cat.mask.png", "cat.png"]
    assert [path.read_bytes() for path in site.claims()] == [b"mask", b"cat", b"priority: 2\n"]
    assert site.left() == set()


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_a_manifest_lists_all_files_that_came_together(
    make_masked: MakeSite, originals: str
) -> None:
    site = make_masked(originals=originals)
    put_all(site)
    site.settle()
    site.run_next()
    (folder,) = [site.outbox / name for name in site.folders()]
    files = json.loads((folder / "manifest.json").read_bytes())["input"]["files"]
    assert {file["role"]: (file["name"], file["sha256"], file["bytes"]) for file in files} == {
        "image": ("cat.png", sha256(b"cat"), 3),
        "sidecar": ("cat.png.yaml", sha256(b"priority: 2\n"), 12),
        "mask": ("cat.mask.png", sha256(b"mask"), 4),
    }
    archived = {path.name: path.read_bytes() for path in (folder / "source").glob("*")}
    assert archived == (FILES if originals == "archive" else {})
    assert site.left() == (set(FILES) if originals == "keep" else set())
    assert site.claims() == []


def test_if_one_cannot_be_claimed_none_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = claims.claim_file

    def claim_file(source: Path, *rest):
        if source.name == "cat.mask.png":
            raise claims.Busy(f"{source}: in use")
        return real(source, *rest)

    monkeypatch.setattr(claims, "claim_file", claim_file)
    put_all(site)
    site.settle()
    assert (site.jobs(), site.claims(), site.left()) == ([], [], set(FILES))
    assert site.rows(Drop) == []
    monkeypatch.undo()


def test_one_that_is_written_to_again_keeps_all_waiting(site: Site) -> None:
    site.put("cat.png")
    site.put("cat.mask.png", b"broken")
    site.tick(8)
    assert (site.jobs(), site.claims()) == ([], [])
    site.put("cat.mask.png", b"mask")
    site.settle()
    assert site.drop(site.job()).companions == [
        {"role": "mask", "name": "cat.mask.png", "sha256": sha256(b"mask"), "bytes": 4}
    ]


def test_a_kept_companion_that_changed_makes_a_new_job(make_masked: MakeSite) -> None:
    site = make_masked(originals="keep", on_change="all")
    put_all(site)
    site.settle()
    os.utime(site.inbox / "cat.mask.png", (1, 1))
    site.settle()
    assert len(site.jobs()) == 1
    site.put("cat.mask.png", b"another mask")
    site.settle()
    sizes = [(site.drop(job).companions or [])[0]["bytes"] for job in site.jobs()]
    assert sizes == [4, 12]


def fail(site: Site) -> Path:
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, BlackImage().failure()))
    site.publish()
    (folder,) = site.outbox.glob(f"in/failed/*-{job.id[:8]}")
    return folder


def test_a_retry_takes_the_companions_too(site: Site) -> None:
    put_all(site)
    site.settle()
    folder = fail(site)
    (folder / "source/cat.mask.png").write_bytes(b"mended")
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    (mask,) = site.drop(site.job()).companions or []
    assert mask == {
        "role": "mask", "name": "cat.mask.png", "sha256": sha256(b"mended"), "bytes": 6,
    }  # fmt: skip
    assert b"mended" in [path.read_bytes() for path in site.claims()]
    fail(site)
    assert (folder / "source/cat.mask.png").read_bytes() == b"mended"


def test_a_retry_without_a_companion_is_refused(site: Site) -> None:
    put_all(site)
    site.settle()
    (fail(site) / "source/cat.mask.png").unlink()
    with pytest.raises(ConfigError, match=r"cat\.mask\.png is not there any more"):
        Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    assert site.claims() == []


def test_a_cancelled_row_keeps_its_companions(site: Site) -> None:
    put_all(site)
    site.put("cat.png.yaml", b"matrix: {remove_background.force: [true, false]}\n")
    site.settle()
    cancelled, other = site.jobs()
    site.ledger.transact(lambda s: requests.request_cancel(s, cancelled.id))
    site.run_next()
    site.publish()
    assert site.claims() == []
    (folder,) = site.outbox.glob(f"in/*/cancelled/*-{cancelled.id[:8]}")
    sources = {path.name: path.read_bytes() for path in (folder / "source").glob("*")}
    assert (sources["cat.png"], sources["cat.mask.png"]) == (b"cat", b"mask")
    Retrier(site.config, site.ledger).retry(cancelled.id, site.prober)  # pyright: ignore
    assert sorted(path.read_bytes() for path in site.claims())[0] == b"cat"
    assert b"mask" in [path.read_bytes() for path in site.claims()]
    site.run_next()
    assert {job.status for job in site.jobs()} == {"completed"}
    assert other.id != cancelled.id


def test_an_order_has_all_inputs(site: Site) -> None:
    put_all(site)
    site.settle()
    folder = Path(site.drop(site.job()).claim)
    executor = PlayedExecutor()
    Dispatcher(site.config, site.ledger, executor).dispatch()
    (order,) = executor.orders
    assert [(file.role, file.path, file.sha256) for file in order.inputs] == [
        ("image", str(folder / "cat.png"), sha256(b"cat")),
        ("mask", str(folder / "cat.mask.png"), sha256(b"mask")),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_killed_anywhere_the_files_stay_together(
    make_masked: MakeSite, kill_everywhere: Callable[..., int], originals: str
) -> None:
    def prepare(root: Path) -> Site:
        site = make_masked(root, originals=originals)
        put_all(site)
        return site

    def check(site: Site) -> None:
        site.settle()
        (companion,) = site.drop(site.job()).companions or []
        assert (companion["role"], companion["sha256"]) == ("mask", sha256(b"mask"))
        assert {path.read_bytes() for path in site.claims()} == set(FILES.values())
        assert site.left() == (set(FILES) if originals == "keep" else set())

    assert kill_everywhere(prepare, Site.settle, check) > 20
