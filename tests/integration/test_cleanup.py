"""What is removed from disk: only what is ours and done with. Every image stays somewhere."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.base.times import utcnow
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import drops, queue
from dna_pipeline.ledger.tables import Drop
from dna_pipeline.operations.daemon.cleanup import move_to_recovered
from dna_pipeline.operations.ownership import find_leftovers
from dna_pipeline.operations.repair.rebuild import rebuild
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options
from tests.integration.conftest import Site

MakeSite = Callable[..., Site]
Since = Callable[[Site], set[bytes]]
UNKNOWN = "a" * 32


def all_bytes(site: Site) -> set[bytes]:
    """The bytes of all files below the site's root, the ledger's left out."""
    roots = [site.inbox, site.outbox, site.config.claims, site.config.recovered]
    return {path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def recovered(site: Site) -> int:
    """How many recovered folders `status` tells of."""
    return find_leftovers(site.config).to_dict()["recovered"]["count"]


def submit(site: Site, data: bytes, name: str = "stdin", *settings: str) -> str:
    submitter = Submitter(site.config, site.ledger, document_from_options(None, list(settings)))
    return submitter.submit(Submission(name, io.BytesIO(data)), site.prober)


def fail(site: Site) -> None:
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, EmptyMesh("none").failure(), None))
    site.publish()


def run_all(site: Site) -> None:
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()


def foreign_files(site: Site) -> list[Path]:
    """Folders of other people among ours."""
    data, staging = site.config.data, site.outbox / ".dna" / site.ledger.id
    homes = [data / "work/my_scene", data / "claims/insurance", data / "claims" / UNKNOWN[:31]]
    homes += [
        data / "work/trash-00112233",
        data / "claims/trash-00112233",
        staging / "notes",
        site.inbox / ".dna/notes",
    ]
    homes += [site.inbox / ".dna" / site.ledger.id / "notes"]
    for home in homes:
        home.mkdir(parents=True)
        (home / "mine.txt").write_bytes(b"mine")
    return [home / "mine.txt" for home in homes]


# --- what is not ours ---


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_folders_of_others_are_left_and_told_of(make_site: MakeSite, originals: str) -> None:
    site = make_site(originals=originals)
    files = foreign_files(site)
    site.put("cat.png", b"cat")
    site.settle()
    for _ in range(2):
        site.restart()
        site.settle()
    run_all(site)
    assert [path.read_bytes() for path in files] == [b"mine"] * len(files)
    told = find_leftovers(site.config).to_dict()["foreign"]
    assert {str(site.config.work / "my_scene"), str(site.config.claims / "insurance")} <= set(told)
    assert len(site.folders()) == 1


@pytest.mark.parametrize("how", ["overwritten", "gone"])
def test_repair_leaves_them_too(site: Site, how: str) -> None:
    files = foreign_files(site)
    destroy(site, how)
    rebuild(site.config)
    site.restart()
    assert [path.read_bytes() for path in files] == [b"mine"] * len(files)


def test_folders_with_names_like_ours_that_were_there_first_are_not_ours(
    make_site: MakeSite, tmp_path: Path
) -> None:
    files = [tmp_path / "data" / name / UNKNOWN / "mine" for name in ("work", "claims")]
    files.append(tmp_path / "data/work/trash-00112233/mine")
    for path in files:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
    site = make_site()
    site.restart()
    assert [path.read_bytes() for path in files] == [b"mine"] * 3
    assert find_leftovers(site.config).to_dict()["foreign_total"] == 3


def test_a_data_folder_of_an_older_version_has_no_mark(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    job = site.job()
    (site.config.data / ".dna-owner").unlink()
    for root in (site.config.work, site.config.claims):
        (root / UNKNOWN).mkdir(parents=True)
        (root / UNKNOWN / "file").write_bytes(b"ours")
    site.restart()
    names = sorted(path.name for path in site.config.recovered.iterdir())
    assert names == [UNKNOWN, f"{UNKNOWN}-2"]
    assert [path.name for path in site.claims()] == ["cat.png"]
    site.run_next()
    assert site.ledger.transact(lambda s: queue.find_job(s, job.id)).status == "completed"
    assert site.claims() == []


def test_only_folders_of_claims_are_disposed_of(site: Site, tmp_path: Path) -> None:
    """Whatever path a row tells, which may come from a damaged ledger."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.txt").write_bytes(b"mine")
    site.put("cat.png", b"cat")
    site.settle()
    job = site.job()
    site.finish(site.claim_next())
    site.ledger.transact(lambda s: setattr(s.get(Drop, job.drop_id), "claim", str(home)))
    site.publish()
    assert (home / "mine.txt").read_bytes() == b"mine"


# --- an older copy of the ledger put back ---


class Past:
    """A copy of the ledger as it was, to be put back."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.copy = site.root / "older.db"
        site.close()
        shutil.copy(site.config.ledger_path, self.copy)
        site._start()

    def put_back(self) -> None:
        self.site.close()
        shutil.copy(self.copy, self.site.config.ledger_path)
        self.site.restart()


def drop_two(site: Site) -> set[bytes]:
    """One runs to its end, one waits."""
    for name in ("cat", "dog"):
        site.put(f"{name}.png", name)
        site.settle()
    site.run_next()
    return {b"cat", b"dog"} if site.config.inboxes[0].originals != "delete" else {b"dog"}


def submit_two(site: Site) -> set[bytes]:
    submit(site, b"the only one")
    submit(site, b"called like a YAML", "photo.yaml", "remove_background.force=true")
    return {b"the only one", b"called like a YAML"}


def retry_one(site: Site) -> set[bytes]:
    site.put("cat.png", b"cat")
    site.settle()
    fail(site)
    Retrier(site.config, site.ledger).retry(site.jobs()[-1].id, site.prober)
    return {b"cat"}


def drop_a_table(site: Site) -> set[bytes]:
    library = site.root / "library"
    for name in "ab":
        site.put(f"{name}.png", name)
    (library / "c.png").write_bytes(b"c")
    site.put("shots.csv", f"image\na.png\nb.png\n{library}/c.png\n")
    site.settle()
    assert len(site.jobs()) >= 3
    site.run_next()
    return {b"b", b"c"}


SINCE = [drop_two, submit_two, retry_one, drop_a_table]


@pytest.mark.slow
@pytest.mark.parametrize("since", SINCE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("originals", ["archive", "keep", "delete"])
@pytest.mark.parametrize("is_empty", [True, False], ids=["from the first day", "from later"])
def test_nothing_is_lost_when_an_older_ledger_is_put_back(
    make_site: MakeSite, tmp_path: Path, originals: str, since: Since, is_empty: bool
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    site = make_site(originals=originals, source_roots=[str(library)])
    if not is_empty:
        site.put("owl.png", b"owl")
        site.settle()
        site.run_next()
    past = Past(site)
    images = since(site)
    if originals == "keep":  # the copies are all that is left
        for path in [*site.inbox.glob("*.png"), *library.iterdir()]:
            path.unlink()
    elif since is drop_a_table:
        (library / "c.png").unlink()
    images &= all_bytes(site)
    assert images
    copies = len({path.parent for path in site.config.claims.glob("*/*")})
    past.put_back()
    assert all_bytes(site) >= images
    assert recovered(site) == copies
    site.settle()
    run_all(site)
    site.restart()
    assert all_bytes(site) >= images - ({b"b", b"dog", b"cat"} if originals == "delete" else set())
    assert recovered(site) == copies


@pytest.mark.parametrize("name", ["stdin", "photo.yaml"])
def test_a_submit_that_an_older_ledger_saw_half_done(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To that ledger it looks like one that was cut off, hours ago."""
    real = drops.begin_claims

    def begin(session: Any, rows: Iterable[dict[str, Any]]) -> None:
        real(session, [row | {"created_at": utcnow() - timedelta(hours=2)} for row in rows])

    monkeypatch.setattr(drops, "begin_claims", begin)
    probe = site.prober.probe

    def meanwhile(path: Path) -> Any:
        shutil.copy(site.config.ledger_path, site.root / "older.db")
        for end in ("-wal",):
            log = site.config.ledger_path.with_name(f"ledger.db{end}")
            if log.exists():
                shutil.copy(log, site.root / f"older.db{end}")
        return probe(path)

    monkeypatch.setattr(site.prober, "probe", meanwhile)
    submit(site, b"the only one", name)
    site.close()
    for end in ("", "-wal"):
        if (site.root / f"older.db{end}").exists():
            shutil.copy(site.root / f"older.db{end}", site.config.data / f"ledger.db{end}")
    site._start()
    assert [drop.state for drop in site.rows(Drop)] == ["claiming"]
    gate = IntakeService(site.config, site.ledger, site.cleanup)
    gate.recover()
    gate.close()
    site.clean_up()
    assert (site.rows(Drop), site.claims(), recovered(site)) == ([], [], 1)
    assert b"the only one" in all_bytes(site)


# --- copies that were cut off ---


def cut_off(site: Site, name: str = "cat.png") -> Path:
    """The first copy of a kept file's bytes, its drop still claiming."""
    site.put(name, b"cat")
    site.settle()
    job = site.job()
    site.ledger.transact(lambda s: s.delete(s.get(type(job), job.seq)))
    site.ledger.transact(lambda s: setattr(s.get(Drop, job.drop_id), "state", "claiming"))
    (path,) = site.claims()
    return path


def test_a_copy_that_was_cut_off_goes_if_its_original_is_there(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    path = cut_off(site)
    path.write_bytes(b"ca")
    site.restart()
    assert (site.claims(), recovered(site)) == ([], 0)


def test_one_whose_original_has_grown_since_goes(make_site: MakeSite) -> None:
    """A daemon killed while it copies, and a program that still writes the image."""
    site = make_site(originals="keep")
    cut_off(site)
    site.put("cat.png", b"cats")
    site.restart()
    assert (site.claims(), recovered(site)) == ([], 0)


@pytest.mark.parametrize("how", ["removed", "overwritten", "a folder"])
def test_one_whose_original_is_gone_is_laid_aside(make_site: MakeSite, how: str) -> None:
    site = make_site(originals="keep")
    path = cut_off(site)
    (site.inbox / "cat.png").unlink()
    if how == "overwritten":
        site.put("cat.png", b"another cat")
    elif how == "a folder":
        (site.inbox / "cat.png").mkdir()
    site.restart()
    assert (site.claims(), recovered(site)) == ([], 1)
    assert (site.config.recovered / path.parent.name / "cat.png").read_bytes() == b"cat"


def test_originals_that_were_moved_stay_if_the_inbox_keeps_its_files_now(
    make_site: MakeSite,
) -> None:
    site = make_site()
    cut_off(site)
    site.close()
    site = make_site(originals="keep")
    site.restart()
    site.settle()
    run_all(site)
    assert b"cat" in all_bytes(site)
    assert [job.name for job in site.jobs()] == ["cat.png"]


@pytest.mark.slow
def test_images_from_source_roots_that_a_batch_was_copying(
    make_site: MakeSite, kill_everywhere: Callable[..., int]
) -> None:
    def prepare(root: Path) -> Site:
        (root / "library").mkdir(parents=True)
        site = make_site(root, source_roots=[str(root / "library")])
        (root / "library/c.png").write_bytes(b"c")
        site.put("shots.csv", f"image\n{root}/library/c.png\n")
        return site

    def check(site: Site) -> None:
        site.settle()
        assert [job.name for job in site.jobs()] == ["c.png"]
        assert recovered(site) == 0

    assert kill_everywhere(prepare, lambda site: site.settle(), check, every=7) > 3


@pytest.mark.slow
def test_a_kept_file_that_was_only_touched_leaves_no_copy(
    make_site: MakeSite, kill_everywhere: Callable[..., int]
) -> None:
    def prepare(root: Path) -> Site:
        site = make_site(root, originals="keep")
        site.put("cat.png", b"cat")
        site.settle()
        os.utime(site.inbox / "cat.png", (1, 1))
        return site

    def check(site: Site) -> None:
        assert (len(site.claims()), recovered(site)) == (1, 0)

    assert kill_everywhere(prepare, lambda site: site.settle(), check, every=2) > 3


# --- laying aside ---


def folder_at(home: Path, data: bytes = b"bytes") -> Path:
    folder = home / UNKNOWN
    os.makedirs(folder / "sub")  # noqa: PTH103 - no step at which a campaign ends the process
    (folder / "sub/a.png").write_bytes(data)
    (folder / "link").symlink_to("/etc")
    return folder


def test_names_that_collide_get_a_number(site: Site, elsewhere: Path) -> None:
    for home, data in ((site.config.work, b"1"), (site.config.claims, b"2"), (elsewhere, b"3")):
        move_to_recovered(site.config, folder_at(home, data))
    move_to_recovered(site.config, folder_at(elsewhere, b"3"))
    names = [UNKNOWN, f"{UNKNOWN}-2", f"{UNKNOWN}-3"]
    found = {name: (site.config.recovered / name / "sub/a.png").read_bytes() for name in names}
    assert list(found.values()) == [b"1", b"2", b"3"]
    assert sorted(path.name for path in site.config.recovered.iterdir()) == names
    assert all((site.config.recovered / name / "link").is_symlink() for name in names)
    assert not any(map(os.path.lexists, (elsewhere / UNKNOWN, site.config.work / UNKNOWN)))


def test_an_empty_folder_is_not_worth_it(site: Site) -> None:
    folder = site.config.claims / UNKNOWN
    folder.mkdir(parents=True)
    site.restart()
    assert not folder.exists()
    assert not site.config.recovered.exists()


def test_what_lies_in_the_way_of_the_recovered_is_not_touched(site: Site) -> None:
    site.config.recovered.write_bytes(b"a file of mine")
    folder = folder_at(site.config.claims)
    site.restart()
    assert (folder / "sub/a.png").read_bytes() == b"bytes"
    assert site.config.recovered.read_bytes() == b"a file of mine"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["near", "far"])
def test_killed_at_any_step_a_folder_is_whole_somewhere(
    make_site: MakeSite, kill_everywhere: Callable[..., int], elsewhere: Path, place: str
) -> None:
    """Far: on another file system, as half-made results in the outbox may be."""

    def folder_of(site: Site) -> Path:
        return (site.config.claims if place == "near" else elsewhere) / UNKNOWN

    def act(site: Site) -> None:
        move_to_recovered(site.config, folder_of(site))

    def begin(site: Site) -> None:
        if place == "far" and not folder_of(site).exists():
            folder_at(elsewhere)  # the campaign makes only what is near anew
        act(site)

    def prepare(root: Path) -> Site:
        site = make_site(root)
        if place == "near":
            (folder_at(site.config.claims) / "link").unlink()
        return site

    def check(site: Site) -> None:
        if folder_of(site).exists():
            act(site)
        assert recovered(site) == 1
        assert (site.config.recovered / UNKNOWN / "sub/a.png").read_bytes() == b"bytes"
        assert not folder_of(site).exists()

    assert kill_everywhere(prepare, begin, check) > 3


# --- claims that come back ---


@pytest.mark.parametrize("is_archived", [True, False])
def test_a_claim_that_comes_back_goes_only_if_its_bytes_are_archived(
    site: Site, is_archived: bool
) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    drop = site.drop(site.job())
    site.run_next()
    back = claims.make_claim_dir(site.inbox, site.ledger.id, drop.id)
    (back / "cat.png").write_bytes(b"cat" if is_archived else b"owl")
    site.restart()
    assert not back.exists()
    assert recovered(site) == (0 if is_archived else 1)
    assert (b"owl" in all_bytes(site)) == (not is_archived)


# --- a damaged ledger ---


def destroy(site: Site, how: str) -> None:
    site.close()
    path = site.config.ledger_path
    if how == "overwritten":
        path.write_bytes(b"not a database" * 1000)
    elif how == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-4096:] = b"\xa5" * 4096
        path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["overwritten", "gone", "one page"])
@pytest.mark.parametrize("name", ["stdin", "photo.yaml", "archive.tar", "cat.png"])
@pytest.mark.parametrize("settings", [(), ("remove_background.force=true",)])
def test_repair_finds_a_submitted_image_whatever_its_name(
    site: Site, how: str, name: str, settings: tuple[str, ...]
) -> None:
    submit(site, b"the only one", name, *settings)
    destroy(site, how)
    report = rebuild(site.config)
    assert (report.requeued, len(report.recovered)) == ((1, 0) if how == "one page" else (0, 1))
    site.restart()
    assert recovered(site) == len(report.recovered)
    assert b"the only one" in all_bytes(site)
    if report.requeued:
        assert site.job().stages[0]["params"]["force"] is bool(settings)
        site.run_next()
        (folder,) = site.folders()
        assert (site.outbox / folder / "source" / name).read_bytes() == b"the only one"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stdin", "photo.yaml"])
def test_a_failure_of_such_an_image_is_known_and_retried(site: Site, name: str) -> None:
    submit(site, b"the only one", name, "remove_background.force=true")
    fail(site)
    destroy(site, "overwritten")
    rebuild(site.config)
    site.restart()
    job = site.job()
    drop = site.drop(job)
    assert (drop.image, drop.sidecar) == (name, f"{name}.yaml" if name != "stdin" else "stdin.yaml")
    Retrier(site.config, site.ledger).retry(job.id, site.prober)
    site.run_next()
    (folder,) = site.folders()
    assert (site.outbox / folder / "source" / name).read_bytes() == b"the only one"


@pytest.mark.slow
def test_a_submitted_image_that_a_kept_one_equals_is_still_done(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    submit(site, b"cat", "cat.png")
    destroy(site, "one page")
    assert rebuild(site.config).requeued == 1


@pytest.mark.slow
@pytest.mark.parametrize("since", SINCE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("originals", ["archive", "keep", "delete"])
@pytest.mark.parametrize("how", ["overwritten", "one page"])
def test_nothing_is_lost_in_a_repair(
    make_site: MakeSite, tmp_path: Path, originals: str, since: Since, how: str
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    site = make_site(originals=originals, source_roots=[str(library)])
    images = since(site)
    if originals == "keep":
        for path in [*site.inbox.glob("*.png"), *library.iterdir()]:
            path.unlink()
    elif since is drop_a_table:
        (library / "c.png").unlink()
    images &= all_bytes(site)
    assert images
    destroy(site, how)
    report = rebuild(site.config)
    assert all_bytes(site) >= images
    site.restart()
    assert all_bytes(site) >= images
    assert recovered(site) == len(report.recovered)
    site.settle()
    run_all(site)
    site.restart()
    if originals == "archive":  # what others want removed at the end has been, by now
        assert all_bytes(site) >= images
    assert all(Path(folder).is_dir() for folder in report.recovered)


@pytest.mark.slow
def test_a_path_in_a_damaged_ledger_is_not_believed(make_site: MakeSite, tmp_path: Path) -> None:
    """The folder that a drop of a batch tells of is not its claim."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.png").write_bytes(b"a")
    site = make_site(originals="keep")
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image\na.png\nb.png\n")
    site.settle()

    def lie(session: Any) -> None:
        for drop in session.query(Drop):
            drop.claim = str(home)

    site.ledger.transact(lie)
    destroy(site, "one page")
    rebuild(site.config)
    site.restart()
    assert str(home) not in {drop.claim for drop in site.rows(Drop)}
    run_all(site)
    site.settle()
    run_all(site)
    assert (home / "a.png").read_bytes() == b"a"
