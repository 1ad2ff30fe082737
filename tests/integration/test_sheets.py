"""Contact sheets of batches: made when nothing waits for the device, and never in the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.base.errors import DeviceUnavailable, StageFailed
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import Order, Task, TaskDone, TaskFailed
from dna_pipeline.ledger import batches, queue
from dna_pipeline.ledger.tables import Batch, Job
from dna_pipeline.operations.daemon import sheets
from dna_pipeline.operations.daemon.sheets import SheetMaker
from dna_pipeline.operations.serving.addresses import announced
from tests.commands import call, facts
from tests.integration.conftest import Site
from tests.integration.test_dispatch import PlayedExecutor

MATRIX = "matrix: {remove_background.force: [true, false]}\n"


class Works:
    """A site with a batch that has ended, and the daemon's parts that make its sheet."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.executor = PlayedExecutor()
        self.now = 0.0
        self._start()

    def _start(self) -> None:
        self.dispatcher = Dispatcher(self.site.config, self.site.ledger, self.executor)
        self.sheets = SheetMaker(self.site.config, self.site.ledger, self.dispatcher)

    def restart(self) -> None:
        self.site.restart()
        self.executor.orders.clear()
        self._start()

    def step(self) -> None:
        """Let the daemon go round until it waits for the worker or has nothing to do."""
        for _ in range(50):
            self.now += 5
            self.dispatcher.listen()
            if self.sheets.step(self.now):
                self.dispatcher.dispatch()
            if (making := self.sheets._making) is not None and making.background is not None:
                while not making.background.has_ended():
                    time.sleep(0.001)

    @property
    def tasks(self) -> list[Task]:
        return [order for order in self.executor.orders if isinstance(order, Task)]

    def do_all(self) -> None:
        """Be the worker until there is nothing to do."""
        self.step()
        done = 0
        while done < len(self.tasks):
            for task in self.tasks[done:]:
                do(task)
                self.executor.reports.put(TaskDone(task.id, 0.1))
                done += 1
            self.step()

    def batch(self) -> Batch:
        (batch,) = self.site.rows(Batch)
        return batch

    @property
    def folder(self) -> Path:
        return self.site.outbox / "in" / f"cat-{self.batch().id[:8]}"


def do(task: Task) -> None:
    """What the worker's process does for a task."""
    from dna_pipeline.execution.worker import tasks

    tasks._do(task, None)  # type: ignore[arg-type]


def picture(colour: str) -> bytes:
    import io

    data = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(data, "PNG")
    return data.getvalue()


def finish(site: Site, job: Job, colour: str) -> None:
    site.finish(job, picture(colour))
    site.publish()


@pytest.fixture
def works(site: Site) -> Works:
    """Of the two jobs of a matrix one has succeeded and one has failed."""
    site.put("cat.png", picture("white"))
    site.put("cat.yaml", MATRIX)
    site.settle()
    finish(site, site.claim_next(), "red")
    failed = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, failed.id, StageFailed("<b>").failure()))
    site.publish()
    return Works(site)


def end(works: Works) -> None:
    works.site.accounts().write()
    works.sheets.ledger_changed()


def test_a_batch_that_has_ended_gets_a_sheet(works: Works) -> None:
    works.step()
    assert works.tasks == []
    end(works)
    assert works.batch().sheet == batches.SHEET_DUE
    works.do_all()
    assert [task.kind for task in works.tasks] == ["make_thumbnails", "draw_sheet"]
    assert works.batch().sheet == batches.SHEET_MADE
    assert (works.folder / "index.html").is_file()
    with Image.open(works.folder / "sheet.png") as sheet:
        assert (255, 0, 0) in {c for _, c in sheet.convert("RGB").getcolors(1 << 20) or []}
    head = (works.folder / "sheet/head.js").read_text()
    assert '"counts":{"completed":1,"failed":1}' in head
    assert '"axes":[{"name":"remove_background.force","values":[true,false]}]' in head
    assert '"detail":"<b>"' in (works.folder / "sheet/page-1.js").read_text()
    assert not works.sheets.has_work()


def test_jobs_come_first(works: Works) -> None:
    end(works)
    works.site.put("dog.png")
    works.site.settle()
    works.dispatcher.dispatch()
    works.step()
    (job,) = works.executor.orders
    assert isinstance(job, Order)
    (running,) = works.site.rows(Job, Job.id == job.job)
    finish(works.site, running, "blue")
    works.dispatcher.running.clear()
    works.dispatcher.dispatch()
    assert [task.kind for task in works.tasks] == ["make_thumbnails"]


def test_it_is_made_after_a_restart(works: Works) -> None:
    end(works)
    works.step()
    assert works.tasks
    works.sheets.close()
    works.dispatcher.drain()
    assert works.batch().sheet == batches.SHEET_DUE
    works.restart()
    works.do_all()
    assert works.batch().sheet == batches.SHEET_MADE
    assert (works.folder / "index.html").is_file()


def test_a_thumbnail_that_was_made_is_kept(works: Works) -> None:
    end(works)
    works.do_all()
    batch_id = works.batch().id
    works.site.ledger.transact(lambda s: setattr(s.get_one(Batch, batch_id), "sheet", "due"))
    (works.folder / "index.html").unlink()
    works.executor.orders.clear()
    works.sheets.ledger_changed()
    works.do_all()
    assert [task.kind for task in works.tasks] == ["draw_sheet"]
    assert (works.folder / "index.html").is_file()


def test_a_worker_that_dies_of_it_dies_twice_at_most(works: Works) -> None:
    end(works)
    works.step()
    for _ in range(6):
        if works.tasks:
            task = works.tasks[-1]
            works.executor.orders.clear()
            works.executor.reports.put(
                TaskFailed(task.id, StageFailed("it died").failure().to_dict())
            )
        works.step()
    assert works.batch().sheet == batches.SHEET_MADE
    assert (works.folder / "index.html").is_file()
    assert not (works.folder / "sheet.png").exists()


def test_without_a_device_it_waits(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "RETRY_S", 1e6)
    end(works)
    works.step()
    failure = {"code": DeviceUnavailable.code, "message": "", "detail": "no device"}
    works.executor.reports.put(TaskFailed(works.tasks[0].id, failure))
    works.step()
    assert works.batch().sheet == batches.SHEET_DUE
    assert not works.sheets.has_work()
    assert not works.sheets.is_at_work


def test_a_fault_of_it_is_a_warning(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no sheet today")

    monkeypatch.setattr(sheets, "sheet_of_batch", fail)
    end(works)
    works.step()
    assert works.batch().sheet == f"{batches.SHEET_FAILED}no sheet today"
    assert [job.status for job in works.site.jobs()] == ["completed", "failed"]
    status = facts(works.site.root, "status")
    (entry,) = status["sheets"]
    assert (entry["why"], entry["batch"]) == ("no sheet today", works.batch().id)
    said = call(works.site.root, "status").stdout
    assert f"`dna-pipeline sheet --batch {works.batch().id[:8]}` makes it" in " ".join(said.split())
    monkeypatch.undo()
    call(works.site.root, "sheet", "--batch", works.batch().id)
    assert works.batch().sheet == batches.SHEET_MADE


def test_a_disk_that_fails_is_tried_again(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = sheets.sheet_of_batch, [0]

    def fail_once(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise OSError(5, "Input/output error")
        return real(*args)

    monkeypatch.setattr(sheets, "sheet_of_batch", fail_once)
    end(works)
    works.do_all()
    assert works.batch().sheet == batches.SHEET_MADE


def test_a_folder_that_was_removed_stays_removed(works: Works) -> None:
    import shutil

    end(works)
    shutil.rmtree(works.folder)
    works.do_all()
    assert works.batch().sheet == batches.SHEET_MADE
    assert not works.folder.exists()


def test_a_batch_that_goes_on_gets_a_new_sheet(works: Works) -> None:
    from dna_pipeline.operations.retry import Retrier

    end(works)
    works.do_all()
    failed = next(job for job in works.site.jobs() if job.status == "failed")
    Retrier(works.site.config, works.site.ledger).retry(failed.id, works.site.prober)
    assert works.batch().sheet is None
    finish(works.site, works.site.claim_next(), "blue")
    end(works)
    works.sheets.ledger_changed()
    works.do_all()
    head = (works.folder / "sheet/head.js").read_text()
    assert '"counts":{"completed":2}' in head


# --- the command ---


def test_the_newest_batch(works: Works) -> None:
    end(works)
    done = call(works.site.root, "sheet")
    assert (done.returncode, done.stdout) == (0, f"{works.folder / 'index.html'}\n")
    assert done.stderr == "2 results, 1 of them failed or wrong\n"
    assert (works.folder / "sheet.png").is_file()


def test_an_inbox_and_jobs_elsewhere(works: Works) -> None:
    site = works.site
    made = facts(site.root, "sheet", "--inbox", "in", "-o", "mine")
    assert made["results"] == 2
    page = Path(made["page"])
    assert page == site.root / "mine/index.html" or page == Path("mine/index.html")
    text = (site.root / "mine/sheet/page-1.js").read_text()
    assert f'"../outbox/in/cat-{works.batch().id[:8]}/cat-true-' in text
    job = site.jobs()[0].id[:8]
    assert facts(site.root, "sheet", job, "-o", "mine")["results"] == 1
    assert facts(site.root, "sheet", "--since", "2020-01-01", "-o", "mine")["results"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch", "x"], "no batch's id begins with 'x'"),
        (["--inbox", "out"], "no inbox is called 'out'"),
        (["--since", "noon"], "--since 'noon': should be a date and time"),
        (["--since", "2999-01-01"], "there is no result to show"),
        (["--batch", "a", "--inbox", "in"], "--batch chooses all that is shown"),
        (["abc", "--inbox", "in"], "name jobs, or choose them"),
        (["--inbox", "in", "-o", "in"], "holds other files; give an empty or a new folder"),
        (["--inbox", "in", "-o", "pipeline.yaml"], "is a file; give a folder"),
    ],
)
def test_wrong_calls(works: Works, arguments: list[str], said: str) -> None:
    works.site.put("mine.txt")
    done = call(works.site.root, "sheet", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_results_that_were_moved_or_removed(works: Works) -> None:
    import shutil

    end(works)
    call(works.site.root, "sheet")
    (result,) = works.folder.glob("cat-true-*")
    shutil.rmtree(result)
    assert call(works.site.root, "sheet").returncode == 0
    text = (works.folder / "sheet/page-1.js").read_text()
    assert '"gone":true' in text
    assert '"thumbnail"' in text
    shutil.rmtree(works.folder)
    done = call(works.site.root, "sheet")
    assert done.returncode == 2
    assert "the batch's folder is not there any more" in done.stderr


# --- open ---


def test_open_without_a_display(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    end(works)
    site, job = works.site, works.site.jobs()[0]
    assert (
        call(site.root, "open", job.id[:8]).stdout == f"{site.outbox / (job.publish_name or '')}\n"
    )
    failed = works.site.jobs()[1]
    assert call(site.root, "open").stdout == f"{site.outbox / (failed.publish_name or '')}\n"
    assert call(site.root, "open", works.folder.name).stdout == f"{works.folder}\n"
    call(site.root, "sheet")
    assert call(site.root, "open", works.folder.name).stdout == f"{works.folder / 'index.html'}\n"
    assert "no job or batch has an id" in call(site.root, "open", "xyz").stderr


def test_the_sheet_names_a_server_that_runs(works: Works) -> None:
    end(works)
    head = works.folder / "sheet/head.js"
    with announced(works.site.config.data, "http://127.0.0.1:8000", has_token=False):
        works.do_all()
        assert '"server":"http://127.0.0.1:8000"' in head.read_text()
        head.unlink()
        call(works.site.root, "sheet")
        assert '"server":"http://127.0.0.1:8000"' in head.read_text()
    call(works.site.root, "sheet")
    assert '"server":""' in head.read_text()


def test_open_where_a_server_runs(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    end(works)
    site, (first, last) = works.site, works.site.jobs()[:2]
    with announced(site.config.data, "http://127.0.0.1:8000", has_token=False):
        pages = "http://127.0.0.1:8000/results"
        assert call(site.root, "open", first.id[:8]).stdout == f"{pages}/{first.id}\n"
        assert call(site.root, "open").stdout == f"{pages}/{last.id}\n"
        folder = call(site.root, "open", "--folder", first.id[:8]).stdout
        assert folder == f"{site.outbox / (first.publish_name or '')}\n"
        assert call(site.root, "open", works.folder.name).stdout == f"{works.folder}\n"
        assert "no job or batch has an id" in call(site.root, "open", "xyz").stderr
    assert call(site.root, "open").stdout == f"{site.outbox / (last.publish_name or '')}\n"


# --- kills ---


@pytest.mark.slow
def test_a_kill_at_any_point_leaves_a_sheet_in_the_end(
    make_site: Callable[..., Site], kill_everywhere: Callable[..., int]
) -> None:
    def prepare(root: Path) -> Site:
        site = make_site(root)
        site.put("cat.png", picture("white"))
        site.put("cat.yaml", MATRIX)
        site.settle()
        for colour in ("red", "blue"):
            finish(site, site.claim_next(), colour)
        return site

    def make(site: Site) -> None:
        works = Works(site)
        end(works)
        works.do_all()

    def check(site: Site) -> None:
        make(site)
        works = Works(site)
        assert works.batch().sheet == batches.SHEET_MADE
        assert (works.folder / "index.html").is_file()
        assert len([*works.folder.glob("sheet/thumbnails/*.webp")]) == 2
        places = (site.outbox, site.config.thumbnails)
        assert [path for place in places for path in place.rglob("*.tmp")] == []

    assert kill_everywhere(prepare, make, check, every=3) > 10
