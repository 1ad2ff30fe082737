"""Writers as they are: slow, stalling, preallocating, renaming, overwriting, linking, misdated."""

from __future__ import annotations

import io
import json
import mmap
import os
import random
import time
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.intake.discovery.completeness import UNREADABLE_WAIT_S, ZEROS_WAIT_S
from dna_pipeline.intake.discovery.stability import DOWNLOAD_WAIT_S
from dna_pipeline.media import images
from tests.hashes import sha256
from tests.integration.decoding import Decoder


def manifests(site) -> dict[str, dict]:
    """By the folder's name below the outbox."""
    return {
        name: json.loads((site.outbox / name / "manifest.json").read_bytes())
        for name in site.folders()
        if (site.outbox / name / "manifest.json").exists()
    }


# --- slow, stalling, preallocating ---


def test_a_slow_copy_is_one_job_of_the_whole(site) -> None:
    with site.put("cat.png", b"").open("ab", buffering=0) as writer:
        for _ in range(20):
            writer.write(b"piece ")
            site.tick(1.5)
            assert site.jobs() == []
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"piece " * 20)


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    noise = random.Random(1).randbytes(64 * 64 * 3)
    Image.frombytes("RGB", (64, 64), noise).save(file, kind)
    return file.getvalue()


KINDS = [kind for kind in ("PNG", "JPEG", "WEBP", "AVIF") if kind in images.FORMATS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_a_file_of_full_size_that_is_filled_later(
    make_site, kind: str, share: float, originals: str
) -> None:
    """Nothing shows in its size or times meanwhile; half a JPEG with zeros behind decodes."""
    site = make_site(originals=originals)
    site.gate.finder._prober = Decoder()
    data = picture(kind)
    half = int(len(data) * share)
    path = site.put(f"cat.{kind.lower()}", data[:half] + bytes(len(data) - half))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[: len(data)] = pages[: len(data)]  # all pages are written to, and so the times set
        site.tick(1)
        before = path.stat()
        site.tick(ZEROS_WAIT_S / 2)
        assert site.jobs() == []
        assert site.waiting()[path.name].endswith("it may still be written")
        assert site.gate.is_busy()
        pages[:] = data
        after = path.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        site.tick(12)
    assert (site.job().status, site.drop(site.job()).sha256) == ("queued", sha256(data))


def test_what_goes_on_ending_in_zeros_is_taken_at_last(site) -> None:
    site.put("black.bmp", b"a picture" + bytes(100))
    site.put("broken.bmp", b"broken" + bytes(100))
    site.tick(ZEROS_WAIT_S)
    assert site.jobs() == []
    site.tick(15)
    assert {job.name: job.status for job in site.jobs()} == {
        "black.bmp": "queued", "broken.bmp": "failed",
    }  # fmt: skip


# --- downloads ---


def test_an_empty_file_waits_as_long_as_one_of_zeros(site) -> None:
    site.put("cat.png", b"")
    site.tick(ZEROS_WAIT_S)
    assert site.jobs() == []
    assert site.waiting()["cat.png"].startswith("is empty; it may still be written")
    assert site.gate.is_busy()
    site.put("cat.png", b"the picture")
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"the picture")


PARTIALS = ["photo.Xa1b2.png.part", "photo.png.part", "photo.png.crdownload"]


@pytest.mark.parametrize("partial", PARTIALS)
def test_a_browser_that_takes_long(site, partial: str) -> None:
    """It makes the final name empty, writes beside it, and renames that over it at the end."""
    site.put("photo.png", b"")
    part = site.put(partial, b"the pic")
    for _ in range(20):
        site.tick(20)
        with part.open("ab") as writer:
            writer.write(b"t")
    assert site.jobs() == []
    assert "still being downloaded" in site.waiting()["photo.png"]
    assert not site.gate.is_busy(), "`run` would wait for it"
    part.rename(site.inbox / "photo.png")
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"the pic" + b"t" * 20)
    assert site.left() == set()


@pytest.mark.slow
def test_a_partial_file_that_was_left_behind_is_waited_for_an_hour(site) -> None:
    site.put("photo.png", b"")
    site.put("photo.png.part", b"the pic")
    site.tick(DOWNLOAD_WAIT_S - 10)
    assert site.jobs() == []
    site.tick(ZEROS_WAIT_S + 30)
    assert [job.name for job in site.jobs()] == ["photo.png"]
    assert site.left() == {"photo.png.part"}


def test_a_sidecar_that_is_still_downloaded_keeps_its_image_waiting(site) -> None:
    site.put("cat.png")
    site.put("cat.png.yaml", "")
    part = site.put("cat.png.Xa1b2.yaml.part", "priority: 3\n")
    site.tick(60)
    assert site.jobs() == []
    assert "waits for cat.png.yaml" in site.waiting()["cat.png"]
    part.rename(site.inbox / "cat.png.yaml")
    site.settle()
    assert site.job().priority == 3


ROWS = b"image\na.png\n"
SIDECAR = b"priority: 3\nimage: a.png\n"


@pytest.mark.parametrize(
    ("teller", "first", "data"),
    [
        ("shots.csv", b"", ROWS),
        ("shots.csv", bytes(len(ROWS)), ROWS),
        ("shots.csv", b"ima" + bytes(30), ROWS + b"none.png\n" * 3),
        ("shots.jsonl", b"", b'{"image": "a.png"}\n'),
        ("a.png.yaml", bytes(len(SIDECAR)), SIDECAR),
        ("job.yaml", b"priority: 3\n" + bytes(20), SIDECAR),
    ],
)
def test_what_tells_is_there_before_its_bytes(site, teller: str, first: bytes, data: bytes) -> None:
    site.put("a.png")
    site.put(teller, first)
    site.tick(40)
    assert site.jobs() == []
    assert "may yet be written" in site.waiting()[teller]
    assert site.gate.is_busy()
    site.put(teller, data)
    site.settle()
    assert [(job.name, job.status) for job in site.jobs()] == [("a.png", "queued")]


@pytest.mark.slow
@pytest.mark.parametrize("teller", ["shots.csv", "a.png.yaml"])
def test_what_tells_nothing_but_zeros_fails_after_a_minute(site, teller: str) -> None:
    site.put("a.png")
    site.put(teller, bytes(100))
    site.tick(ZEROS_WAIT_S + 20)
    errors = [job.error["code"] for job in site.jobs() if job.error]
    assert errors == ["sidecar_invalid"]


def test_an_empty_sidecar_says_nothing_and_is_one(site) -> None:
    site.put("cat.png")
    site.put("cat.png.yaml", "")
    site.settle()
    assert (site.job().status, site.left()) == ("queued", set())


def test_a_file_that_aria2_fills_waits_for_its_end(site) -> None:
    site.put("cat.png", b"the first half")
    control = site.put("cat.png.aria2", b"state")
    site.tick(120)
    assert site.jobs() == []
    site.put("cat.png", b"the first half, and the second")
    control.unlink()
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"the first half, and the second")


def test_a_claim_that_ends_in_zeros_settles_longer(site, monkeypatch) -> None:
    path = site.put("cat.png", b"half")
    writer = path.open("r+b", buffering=0)
    real = Path.rename

    def rename(self, target):
        result = real(self, target)
        if self == path:
            writer.truncate(100)
        return result

    monkeypatch.setattr(Path, "rename", rename)
    site.tick(ZEROS_WAIT_S / 2)
    assert site.left() == set()
    assert site.jobs() == []
    writer.write(b"x" * 100)
    writer.close()
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"x" * 100)


def test_a_stall_longer_than_the_settle_time(site) -> None:
    path = site.put("cat.png", b"broken")
    for _ in range(4):
        site.tick(UNREADABLE_WAIT_S)
        with path.open("ab") as writer:
            writer.write(b" off")
    path.write_bytes(b"whole")
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"whole")


# --- renaming and overwriting ---


def test_a_part_is_no_file_until_it_is_renamed(site) -> None:
    part = site.put("cat.png.part", b"cat")
    site.settle()
    assert (site.jobs(), site.waiting(), site.gate.finder.ignored) == ([], {}, {})
    part.rename(site.inbox / "cat.png")
    site.settle()
    assert site.job().name == "cat.png"


def replace_unseen(path: Path, data: bytes) -> None:
    """Rename another file of the same size and time over it."""
    before = path.stat()
    new = path.with_name("new.part")
    new.write_bytes(data)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_file_renamed_over_one_of_equal_size_and_time_is_another(make_site) -> None:
    site = make_site(originals="keep", settle_seconds=4, sidecar_wait_seconds=0)
    path = site.put("cat.png", b"one")
    site.tick(3)
    replace_unseen(path, b"two")
    site.tick(3)
    assert site.jobs() == [], "it settles from then on"
    site.settle()
    site.run_next()
    replace_unseen(path, b"six")
    site.settle()
    assert [site.drop(job).sha256 for job in site.jobs()] == [sha256(b"two"), sha256(b"six")]


@pytest.mark.slow
def test_ten_overwrites_while_the_job_runs(make_site) -> None:
    """Each manifest tells the hash of the bytes that were worked on; the newest runs next."""
    site = make_site(originals="keep")
    path = site.put("cat.png", b"version 0")
    site.settle()
    for number in range(1, 11):
        if number == 4:
            first = site.claim_next()
        with path.open("r+b") as file:
            file.write(f"version {number}".encode())
        site.settle()
        if number == 7:
            site.finish(first)
            site.publish()
    second = site.claim_next()
    source = Path(site.drop(second).claim, "cat.png").read_bytes()
    site.finish(second)
    site.publish()
    told = [manifest["input"]["sha256"] for manifest in manifests(site).values()]
    assert sorted(told) == sorted([sha256(b"version 3"), sha256(b"version 10")])
    assert source == path.read_bytes() == b"version 10"
    assert {job.status for job in site.jobs()} == {"completed"}


@pytest.mark.slow
def test_ten_overwrites_of_a_name_whose_file_was_taken(site) -> None:
    for number in range(10):
        site.put("cat.png", f"version {number}")
        site.settle()
        if number == 0:
            first = site.claim_next()
    site.finish(first)
    site.publish()
    for _ in range(9):
        site.run_next()
    for name, manifest in manifests(site).items():
        archived = (site.outbox / name / "source/cat.png").read_bytes()
        assert sha256(archived) == manifest["input"]["sha256"]
    assert len(manifests(site)) == 10


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_the_other_name_of_a_file_stays_as_it_is(make_site, originals: str) -> None:
    site = make_site(originals=originals)
    album = site.root / "album.png"
    album.write_bytes(b"the album's")
    album.chmod(0o640)
    before = album.stat()
    os.link(album, site.inbox / "cat.png")
    os.link(album, site.inbox / "again.png")
    site.settle()
    for _ in range(2):
        site.run_next()
    after = album.stat()
    assert album.read_bytes() == b"the album's"
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert site.left() == ({"cat.png", "again.png"} if originals == "keep" else set())
    assert all(path.stat().st_ino != after.st_ino for path in site.outbox.rglob("*.png"))
    assert len(site.folders()) == 2


def test_a_link_swapped_in_before_the_copy_is_refused(make_site, monkeypatch) -> None:
    from dna_pipeline.intake.claiming import claims

    site = make_site(originals="keep")
    secret = site.root / "secret.png"
    secret.write_bytes(b"secret")
    path = site.put("cat.png")
    real = claims.snapshot

    def snapshot(source: Path, target: Path, **options: bool):
        source.unlink()
        source.symlink_to(secret)
        return real(source, target, **options)

    monkeypatch.setattr(claims, "snapshot", snapshot)
    site.settle()
    assert site.jobs() == []
    assert site.claims() == []
    assert path.is_symlink()
    assert secret.read_bytes() == b"secret"


# --- names ---


@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_names_of_two_unicode_forms_are_two_files(make_site, lacking, originals: str) -> None:
    site = make_site(originals=originals)
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for number, name in enumerate(names):
        site.put(name, f"image {number}")
        site.put(f"{name}.yaml", f"priority: {number}")
    if len(site.left()) < 4:
        lacking("this file system takes both for one name")
    site.settle()
    assert {job.name: job.priority for job in site.jobs()} == {names[0]: 0, names[1]: 1}
    for _ in names:
        site.run_next()
    told = {m["input"]["name"]: m["input"]["sha256"] for m in manifests(site).values()}
    assert told == {names[0]: sha256(b"image 0"), names[1]: sha256(b"image 1")}
    assert len(site.folders()) == 2


# --- clocks ---


@pytest.mark.parametrize("day", [-1, 1, 3650])
def test_times_that_lie_in_the_past_or_the_future_settle(site, day: int) -> None:
    path = site.put("cat.png")
    at = time.time() + day * 86400
    os.utime(path, (at, at))
    site.tick(1)
    assert site.jobs() == []
    site.tick(9)
    assert site.job().status == "queued"


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_clock_that_jumps_neither_hastens_nor_stops_taking_in(
    make_site, monkeypatch, jump_s: float
) -> None:
    from dna_pipeline.intake.service import IntakeService

    site = make_site(settle_seconds=1, sidecar_wait_seconds=0)
    gate = IntakeService(site.config, site.ledger, site.cleanup)
    gate.inboxes[0].finder._prober = site.prober
    site.put("cat.png")
    gate.step()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    gate.step()
    assert site.jobs() == []
    end = time.monotonic() + 20
    while not site.jobs() and time.monotonic() < end:
        time.sleep(min(0.1, gate.seconds_to_next()))
        gate.step()
    assert site.job().status == "queued"
    gate.close()
