"""The real daemon with workers on two Ray nodes, and kills of all that takes part."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger.queries import Queries
from tests.conftest import SCRIPTS, load_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="Ray runs several nodes on Linux only"),
]
stand_in = load_script("stand_in")
ray_nodes = load_script("ray_nodes")
wait = ray_nodes.wait

CONFIG = """\
version: 1
runtime:
  jobs_per_worker: {at_once}
  executor: ray
  device: cpu
  threads_per_worker: 1
  ray: {{address: "{address}", workers: 2, work_dir: {work_dir}}}
pipelines:
  two:
  - stand_in: {{id: first, seconds: {seconds}}}
  - stand_in: {{id: last, seconds: {seconds}}}
inboxes: [{{path: inbox, pipeline: two, settle_seconds: 0.2, sidecar_wait_seconds: 0, name: in}}]
"""

REAL = """\
version: 1
runtime: {{device: cpu, threads_per_worker: 1, {executor}}}
models:
  sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte: {{provider: border_key}}
pipelines:
  restyle: [{{img2img: {{steps: 4, strength: 0.5, max_size: 128}}}}]
  mesh: [{{remove_background: {{model: matte}}}}, {{triposr: {{resolution: 24, turntable: true}}}}]
inboxes:
- {{path: restyle, pipeline: restyle, settle_seconds: 0.2, sidecar_wait_seconds: 0}}
- {{path: mesh, pipeline: mesh, settle_seconds: 0.2, sidecar_wait_seconds: 0}}
"""


class Yard:
    """A folder with an inbox, and a daemon that works on it."""

    def __init__(
        self,
        root: Path,
        nodes: Any,
        work_dir: str,
        jobs_per_worker: int,
        stage_s: float = 0.25,
    ) -> None:
        self.root = root
        self.inbox = root / "inbox"
        self.inbox.mkdir(parents=True)
        (root / "pipeline.yaml").write_text(
            CONFIG.format(
                address=nodes.address, work_dir=work_dir, at_once=jobs_per_worker, seconds=stage_s
            )
        )

    @contextmanager
    def daemon(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._daemon.terminate()
            assert self._daemon.wait(20) == 0

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "stand_in", "pipeline.yaml"], cwd=self.root,
                env=stand_in.environment(SCRIPTS), stderr=log,
            )  # fmt: skip

    def kill_daemon(self) -> None:
        self._daemon.kill()
        self._daemon.wait()

    def drop(self, number: int, first: int = 0) -> None:
        for each in range(first, number):
            Image.new("RGB", (40, 40), (each, 0, 0)).save(self.inbox / f"{each}.png")

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.root / "outbox/status.json").read_bytes())
        except FileNotFoundError:
            return {}

    def workers(self) -> list[dict[str, Any]]:
        return self.status().get("workers", [])

    def jobs(self) -> list[dict[str, Any]]:
        path = self.root / "data/ledger.db"
        with suppress(ConfigError), closing(Queries(path)) as queries:
            return queries.jobs(limit=1000)
        return []  # the daemon has not made it yet

    def completed(self) -> int:
        return sum(job["status"] == "completed" for job in self.jobs())

    def wait_for_completed(self, number: int, limit_s: float = 60) -> None:
        wait(lambda: self.completed() >= number, limit_s)

    def ends_of_attempts(self) -> list[dict[str, Any]]:
        """The data of all events of jobs that went back into the queue."""
        with closing(Queries(self.root / "data/ledger.db")) as queries:
            events = queries.events(None, limit=10_000)
        return [e["data"] for e in events if e["kind"] == "queued" and "ended" in e["data"]]

    def attempts(self) -> list[Path]:
        """The work folders of attempts that lie on the nodes."""
        return list((self.root / "data/attempts").glob("*/work"))

    def results(self) -> dict[str, list[bytes]]:
        """The bytes of all published pictures, by the name of their image."""
        found: dict[str, list[bytes]] = {}
        for manifest in (self.root / "outbox/in").glob("*/manifest.json"):
            content = json.loads(manifest.read_bytes())
            *_, last = content["artifacts"]
            data = (manifest.parent / last["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == last["sha256"]
            found.setdefault(content["input"]["name"], []).append(data)
        return found


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with ray_nodes.running_nodes("one", "two") as nodes:
        yield nodes


def check(yard: Yard, number: int) -> list[dict[str, Any]]:
    """Check that so many jobs have one result each; give the ends of attempts before it."""
    results = yard.results()
    assert {name: len(files) for name, files in results.items()} == {
        f"{each}.png": 1 for each in range(number)
    }
    assert all(files[0].endswith(b"\nfirst\nlast") for files in results.values())
    return yard.ends_of_attempts()


def test_the_end_of_a_worker_is_charged_to_its_job_and_the_end_of_an_actor_is_not(
    tmp_path: Path, nodes: Any
):
    # With several jobs in the worker, none would be charged.
    yard = Yard(tmp_path, nodes, "transfer", jobs_per_worker=1)
    yard.drop(20)
    with yard.daemon():
        wait(lambda: {w["node"] for w in yard.workers()} == {"one", "two"}, 60)
        yard.wait_for_completed(2)
        wait(lambda: nodes.workers("one", "stand_in"), 10)[0].kill()
        yard.wait_for_completed(5)
        wait(lambda: nodes.actors("one"), 10)[0].kill()
        yard.wait_for_completed(20)
    ends = check(yard, 20)
    assert not yard.attempts()
    assert [end["code"] for end in ends if end["code"]] == ["worker_crashed"]
    assert any("was lost" in end["ended"] for end in ends)


def test_jobs_of_a_node_that_is_gone_are_done_by_the_others(tmp_path: Path, nodes: Any):
    yard = Yard(tmp_path, nodes, "shared", jobs_per_worker=3)
    yard.drop(10)
    with yard.daemon():
        wait(lambda: {w["node"] for w in yard.workers()} == {"one", "two"}, 60)
        yard.wait_for_completed(2)
        nodes.kill("two")
        wait(lambda: {w["node"] for w in yard.workers()} == {"one", None}, 30)
        yard.wait_for_completed(10)
        nodes.start("two")
        wait(lambda: {w["node"] for w in yard.workers()} == {"one", "two"}, 30)
        yard.drop(14, first=10)
        yard.wait_for_completed(14)
    ends = check(yard, 14)
    assert not yard.attempts()
    assert any("was lost" in end["ended"] for end in ends), ends
    assert not any(end["code"] for end in ends)


def test_two_hundred_jobs_are_done_once_each_whatever_is_killed(tmp_path: Path):
    with ray_nodes.running_nodes("one", "two") as nodes:
        yard = Yard(tmp_path, nodes, "transfer", jobs_per_worker=3, stage_s=0.05)

        def worker() -> None:
            wait(lambda: nodes.workers("one", "stand_in"), 60)[0].kill()

        def actor() -> None:
            wait(lambda: nodes.actors("two"), 60)[0].kill()

        def raylet() -> None:
            nodes.kill_raylet("two")
            nodes.start("two")

        def head() -> None:
            # Ray keeps nothing of a cluster whose head is gone: all of its nodes begin anew.
            nodes.kill("one")
            nodes.kill("two")
            nodes.start("one")
            nodes.start("two")

        def daemon() -> None:
            yard.kill_daemon()
            yard.start()

        kills = [worker, actor, raylet, head, daemon, worker, daemon, raylet]
        yard.drop(200)
        with yard.daemon():
            for number, kill in enumerate(kills, start=1):
                yard.wait_for_completed(20 * number, 120)
                kill()
            yard.wait_for_completed(200, 240)
    assert len(check(yard, 200)) >= len(kills) / 2
    assert {job["status"] for job in yard.jobs()} == {"completed"}


@pytest.mark.parametrize("work_dir", ["shared", "transfer"])
def test_files_are_those_of_a_worker_on_this_machine(
    tmp_path: Path, nodes: Any, models_dir: Path, work_dir: str
):
    ray = f'executor: ray, ray: {{address: "{nodes.address}", workers: 2, work_dir: {work_dir}}}'
    there = files_made(tmp_path / "there", models_dir, ray)
    here = files_made(tmp_path / "here", models_dir, "executor: local")
    assert {name.rpartition(".")[2] for name in here} >= {"png", "glb", "mp4"}
    assert there == here


def files_made(root: Path, models: Path, executor: str) -> dict[str, str]:
    """Run a picture through both pipelines; the SHA-256 of each result's file by its path, without
    the job's id."""
    for inbox in ("restyle", "mesh"):
        (root / inbox).mkdir(parents=True)
        shutil.copy(SCRIPTS / "demo_files/rocket.png", root / inbox)
    (root / "pipeline.yaml").write_text(REAL.format(models=models, executor=executor))
    command = [sys.executable, "-m", "dna_pipeline", "run"]
    done = subprocess.run(
        command, cwd=root, env=stand_in.environment(SCRIPTS), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = {}
    for manifest in (root / "outbox").glob("*/*/manifest.json"):
        for file in json.loads(manifest.read_bytes())["artifacts"]:
            found[f"{manifest.parent.parent.name}/{file['path']}"] = file["sha256"]
    return found
