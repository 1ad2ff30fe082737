"""A real ledger, real folders, and a clock that is turned by hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from dna_pipeline.base.errors import ImageTooSmall, ImageUnreadable, JobError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Question
from dna_pipeline.intake.inbox_intake import InboxIntake
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Event, Job, StageRun
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.operations.repair.overtaken import OvertakenJobs
from dna_pipeline.publish.batch_report import BatchReports
from dna_pipeline.publish.publisher import Publisher
from tests.conftest import load_script
from tests.integration.acting import Bench, install
from tests.ledgers import lay_out

DIED = 9


class StubProber:
    """Answers by what the file begins with, at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, paths: Iterable[Path]) -> list[Question]:
        return [Question(path) for path in paths]

    def answer(self, question: Question) -> Probed | JobError:
        return self.probe(question.path)

    def probe(self, path: Path) -> Probed | JobError:
        self.asked.append(path.name)
        data = path.read_bytes()
        if data.startswith(b"broken"):
            return ImageUnreadable("breaks off")
        if data.startswith(b"small"):
            return ImageTooSmall("8 x 8 px")
        if data.startswith(b"locked"):
            return NotReadable("cannot be read: Permission denied")
        return Probed(64, 48)

    def close(self) -> None:
        pass


class Site:
    """One inbox called `in`, its outbox and ledger. `restart` is a new process on the same disk."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root = root
        self.config = config
        self.inbox = config.inboxes[0].path
        self.outbox = config.outbox
        self.now = 1000.0
        self._start()

    def _start(self) -> None:
        self.ledger = Ledger(self.config.ledger_path)
        self.prober = StubProber()
        self.cleanup = Cleanup(self.config, self.ledger)
        inbox = self.config.inboxes[0]
        self.gate = InboxIntake(self.config, inbox, self.ledger, self.prober, self.cleanup)
        self.publisher = Publisher(self.config, self.ledger)

    def close(self) -> None:
        self.ledger.close()

    def restart(self) -> None:
        """As after a kill: everything in memory is gone."""
        self.close()
        self._start()
        self.gate.recovery.run(self.now)
        OvertakenJobs(self.config, self.ledger).settle()
        self.ledger.transact(queue.recover)
        self.clean_up()

    def clean_up(self) -> None:
        """As a daemon does at its start."""
        self.cleanup.at_start()
        self.publisher.recover()

    # --- the inbox ---

    def put(self, name: str, data: bytes | str = b"an image") -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def tick(self, seconds: float = 0) -> None:
        """Let time pass and look: each second at first, later every ten."""
        began = self.now
        until = began + seconds
        while True:
            self.gate.finder.request_scan(self.now)
            while self.gate.step(self.now):
                pass
            if self.now >= until:
                return
            self.now = min(self.now + min(max(1, (self.now - began) / 4), 10), until)

    def settle(self) -> None:
        """Long enough for anything but a missing image."""
        self.tick(25)

    def left(self) -> set[str]:
        """What lies in the inbox, our own folder not counted."""
        files = [path.relative_to(self.inbox) for path in self.inbox.rglob("*") if path.is_file()]
        return {path.as_posix() for path in files if path.parts[0] != ".dna"}

    def claims(self) -> list[Path]:
        """All files in claims, those of copies too."""
        roots = [self.inbox / ".dna", self.config.data / "claims"]
        return sorted(path for root in roots for path in root.rglob("*") if path.is_file())

    def waiting(self) -> dict[str, str]:
        return {entry.path: entry.reason for entry in self.gate.finder.waiting}

    # --- the ledger ---

    def rows(self, table: Any, *where: Any) -> list[Any]:
        from sqlalchemy import select

        return self.ledger.transact(lambda s: list(s.scalars(select(table).where(*where))))

    def jobs(self) -> list[Job]:
        return sorted(self.rows(Job), key=lambda job: job.seq)

    def job(self) -> Job:
        (job,) = self.jobs()
        return job

    def drop(self, job: Job) -> Drop:
        return self.ledger.transact(lambda s: s.get_one(Drop, job.drop_id))

    def kinds(self, job_id: str) -> list[str]:
        return [event.kind for event in self.rows(Event, Event.job_id == job_id)]

    def claim_next(self) -> Job:
        job = self.ledger.transact(queue.claim_next)
        assert job is not None
        return job

    # --- work and results ---

    def finish(
        self, job: Job, data: bytes = b"a mesh", roles: dict[str, str] | None = None
    ) -> None:
        """What a worker would do for the job: one stage with one file, or with these by role."""
        folder = self.config.work / job.id / "remove_background"
        folder.mkdir(parents=True, exist_ok=True)
        roles = roles or {f"{job.stem}.matte.png": "matte"}
        for name in roles:
            (folder / name).write_bytes(data)
        run = {
            "stage_id": "remove_background", "type": "remove_background", "provider": "border_key",
            "model": None, "params": {"force": False}, "device": "cpu", "dtype": "float32",
            "batch_size": 1, "attempt": job.attempt, "seconds": 0.5, "warnings": [],
            "environment": {"python": "3"},
        }  # fmt: skip
        files = [
            {
                "path": name, "role": role, "media_type": "image/png", "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(), "facts": {"width": 64, "height": 48},
            }
            for name, role in roles.items()
        ]  # fmt: skip

        def commit(session: Any) -> None:
            queue.finish_stage(session, job.id, run, files)
            queue.finish_computing(session, job.id)

        self.ledger.transact(commit)

    def run_next(self, data: bytes = b"a mesh") -> Job:
        """Claim, compute and publish the next job."""
        job = self.claim_next()
        self.finish(job, data)
        self.publish()
        return job

    def publish(self) -> None:
        for _ in range(10):
            jobs = self.ledger.transact(queue.to_publish)
            if not jobs:
                return
            for job in jobs:
                self.publisher.publish(job)
                self.cleanup.dispose_unneeded(job.drop_id)
        raise AssertionError("publishing comes to no end")

    def accounts(self) -> BatchReports:
        """The writer of each batch.csv."""
        return BatchReports(self.ledger, self.publisher, self.cleanup.dispose_unneeded)

    def folders(self) -> list[str]:
        """The published folders, by their accounts."""
        accounts = [
            path
            for name in ("manifest.json", "error.json")
            for path in self.outbox.rglob(name)
            if ".dna" not in path.parts
        ]
        return sorted(path.parent.relative_to(self.outbox).as_posix() for path in accounts)

    def stages_of(self, job_id: str) -> list[StageRun]:
        return self.rows(StageRun, StageRun.job_id == job_id)


@pytest.fixture
def studio(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with the `CONFIG` of the test's module as its pipeline.yaml, and the inbox `cut`."""
    (tmp_path / "pipeline.yaml").write_text(request.module.CONFIG)
    (tmp_path / "inbox/cut").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def quiet() -> Iterator[None]:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], None]
) -> Iterator[Any]:
    chromium = load_script("chromium")
    program = chromium.find_chromium()
    if program is None:
        lacking("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with chromium.Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """The browser, which must have nothing to complain about in the end."""
    browser.complaints.clear()
    browser.show_as(1280, 900)
    yield browser
    assert browser.complaints == []


@pytest.fixture
def make_site(tmp_path: Path, quiet: None) -> Iterator[Callable[..., Site]]:
    """Makes the site of an inbox with the given keys; `root` for a further one."""
    made: list[Site] = []

    def make(root: Path = tmp_path, **keys: Any) -> Site:
        root.mkdir(exist_ok=True)
        inbox = {"path": "in", "pipeline": "cut", **keys}
        text = {
            "version": 1,
            "models": {
                "key": {"provider": "border_key"},
                "sd": {"provider": "diffusers", "path": "sd"},
            },
            "pipelines": {
                "cut": [{"remove_background": {"model": "key"}}],
                "other": [{"remove_background": {"model": "key", "force": True}}],
                "paint": [{"img2img": {"prompt": "{folder}/{name} in {inbox}, {seed}"}}],
                "two_stages": [
                    {"img2img": {"model": "sd"}},
                    {"remove_background": {"model": "key"}},
                ],
            },
            "inboxes": [inbox],
        }
        (root / "pipeline.yaml").write_text(yaml.safe_dump(text))
        config = load_config(root / "pipeline.yaml", {})
        for folder in (config.inboxes[0].path, config.outbox, config.data):
            folder.mkdir(parents=True, exist_ok=True)
        if not config.ledger_path.exists():
            lay_out(config.ledger_path)
        made.append(Site(root, config))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


STEPS: list[tuple[Any, str]] = [
    (Path, "rename"),
    (Path, "replace"),
    (Path, "mkdir"),
    (Path, "unlink"),
    (os, "link"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (Ledger, "transact"),
]
"""What changes the disk. A process is killed before and after each call of these."""


def _die_at(number: int) -> None:
    """End this process, without any cleaning up, when so many points were passed."""
    passed = [0]

    def point() -> None:
        passed[0] += 1
        if passed[0] == number:
            os._exit(DIED)

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            point()
            result = real(*args, **kwargs)
            point()
            return result

        return step

    for owner, name in STEPS:
        setattr(owner, name, wrap(getattr(owner, name)))


def _in_child(action: Callable[[], None]) -> int:
    """Exit status of a forked child that runs it."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def kill_everywhere(tmp_path: Path) -> Callable[..., int]:
    """Runs `action(prepare(root))` in children, each killed one point later than the last.

    After each, and a restart, `check(site)` looks at what is left; gives how many were killed.
    """

    def campaign(
        prepare: Callable[[Path], Site],
        action: Callable[[Site], None],
        check: Callable[[Site], None],
        every: int = 1,
    ) -> int:
        site = prepare(tmp_path / "site")
        site.close()  # the child opens the ledger itself: SQLite does not survive a fork
        shutil.copytree(site.root, tmp_path / "fresh")
        began = site.now

        def act(number: int) -> None:
            site._start()
            _die_at(number)
            action(site)

        for number in range(1, 2000, every):
            status = _in_child(lambda number=number: act(number))
            assert status in (0, DIED), f"the child failed at point {number}"
            site.restart()
            check(site)
            if status == 0:
                return number // every
            site.close()
            shutil.rmtree(site.root)
            shutil.copytree(tmp_path / "fresh", site.root)
            site.now = began
        raise AssertionError("the action comes to no end")

    return campaign


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of `acting.py`, in reach of the processes that a test starts."""
    site = tmp_path / "site"
    install(site)
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return site


@pytest.fixture(scope="session")
def shared_executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    executor = Bench(tmp_path_factory.mktemp("shared")).executor
    yield executor
    executor.close(5)


@pytest.fixture
def shared_bench(tmp_path: Path, plugin: Path, shared_executor: LocalExecutor) -> Bench:
    """A bench for what works with any worker: that of the tests before, if it lives still.

    To start one takes two seconds, most of them to import torch.
    """
    return Bench(tmp_path, shared_executor)


@pytest.fixture
def bench(tmp_path: Path, plugin: Path) -> Iterator[Bench]:
    """A bench with a worker of its own, which the first order starts."""
    bench = Bench(tmp_path)
    yield bench
    bench.executor.close(5)


@pytest.fixture
def bench_of(tmp_path: Path, plugin: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a bench whose worker has further settings."""
    benches: list[Bench] = []

    def make(**settings: Any) -> Bench:
        benches.append(Bench(tmp_path, **settings))
        return benches[-1]

    yield make
    for bench in benches:
        bench.executor.close(5)
