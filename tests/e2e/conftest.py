import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.ledger.queries import Queries
from tests import fork_server
from tests.commands import Done, call_apart
from tests.fork_server import ForkServer
from tests.integration.acting import install

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")

CONFIG = """\
version: 1
models:
  sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte: {{provider: border_key}}
pipelines:
  restyle: [{{img2img: {{steps: 4, max_size: 128}}}}]
  mesh: [{{remove_background: {{}}}}, {{triposr: {{resolution: 48}}}}]
  restyle_to_mesh:
    - img2img: {{steps: 4, strength: 0.3, max_size: 192}}
    - remove_background: {{}}
    - triposr: {{resolution: 48}}
  cut: [{{remove_background: {{}}}}]
inboxes:
  - {{path: inbox/restyle, pipeline: restyle, settle_seconds: 0.3, sidecar_wait_seconds: 0.6}}
  - {{path: inbox/mesh, pipeline: mesh, settle_seconds: 0.3, sidecar_wait_seconds: 0.6}}
  - {{path: inbox/kept, pipeline: restyle, originals: keep, settle_seconds: 0.3,
      sidecar_wait_seconds: 0.6, rescan_seconds: 1}}
"""


@dataclass
class Studio:
    """A folder with a pipeline.yaml, as a user has it, and the program as a user calls it.

    Attributes:
        server: forks the processes.
    """

    root: Path
    server: Callable[[], ForkServer] = fork_server.light

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    def inbox(self, name: str) -> Path:
        return self.root / "inbox" / name

    def cli(self, *arguments: str, stdin: bytes = b"") -> Done:
        return call_apart(self.root, *arguments, stdin=stdin, server=self.server)

    def facts(self, *arguments: str) -> Any:
        done = self.cli(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def jobs(self) -> list[dict[str, Any]]:
        """As `dna-pipeline jobs` lists them, without the cost of a process for each look."""
        if not (self.root / "data/ledger.db").exists():
            return []
        views = Queries(self.root / "data/ledger.db")
        try:
            return views.jobs()
        except ConfigError:
            return []  # the file is there, its tables are just being made
        finally:
            views.close()

    @contextmanager
    def watch(self) -> Iterator[fork_server.Process]:
        daemon = self.start()
        try:
            yield daemon
        finally:
            daemon.terminate()
            assert daemon.wait(60) == 0

    def start(
        self,
        module: str = "dna_pipeline",
        *arguments: str,
        env: Mapping[str, str] | None = None,
    ) -> fork_server.Process:
        """Start `dna-pipeline watch`, or another module."""
        if module == "dna_pipeline":
            arguments = ("watch",)
        return fork_server.logged(
            self.server(), self.root / "watch.log", module, *arguments, cwd=self.root, env=env
        )

    def wait(self, predicate: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := predicate():
                return value
            time.sleep(0.2)
        log = self.root / "watch.log"
        raise AssertionError(log.read_text() if log.exists() else "it never came to pass")

    def ended(self, number: int) -> list[dict[str, Any]]:
        """Waits until so many jobs have their folders."""

        def done() -> list[dict[str, Any]] | None:
            jobs = [job for job in self.jobs() if job["publish"] == "done"]
            return jobs if len(jobs) >= number else None

        return self.wait(done)

    def leftovers(self) -> list[str]:
        """Files that belong to nobody once nothing is under way."""
        places = [self.root / "inbox", self.root / "data/work", self.root / "data/claims"]
        places += [self.outbox / ".dna"]
        found = [path for place in places for path in place.rglob("*") if path.is_file()]
        return [str(path.relative_to(self.root)) for path in found]

    def error_of(self, stem: str) -> dict[str, Any]:
        (path,) = self.outbox.glob(f"*/failed/{stem}-*/error.json")
        return json.loads(path.read_bytes())


ACTING = """\
version: 1
runtime: {{max_attempts: 2}}
pipelines: {{act: [{{act: {act}}}]}}
inboxes: [{{path: inbox/act, pipeline: act, settle_seconds: 0.2, sidecar_wait_seconds: 0}}]
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A studio whose only stage does what `put_act` says; its worker loads no model."""
    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    studio = Studio(tmp_path)
    studio.inbox("act").mkdir(parents=True)
    return studio


def put_act(stage: Studio, name: str, act: str) -> None:
    """Drop a job that does this; before the daemon starts."""
    (stage.root / "pipeline.yaml").write_text(ACTING.format(act=act))
    Image.new("RGB", (64, 64), "red").save(stage.inbox("act") / f"{name}.png")


@pytest.fixture
def studio(tmp_path: Path, models_dir: Path) -> Studio:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    studio = Studio(tmp_path, fork_server.heavy)
    for name in ("restyle", "mesh", "kept"):
        studio.inbox(name).mkdir(parents=True)
    return studio


def photograph(name: str, side: int = 160) -> Image.Image:
    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    picture.thumbnail((side, side))
    return picture


def product_shot(side: int = 160) -> Image.Image:
    """A subject before a plain backdrop."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    inside = (x / 0.25) ** 2 + (y / 0.38) ** 2 < 1
    pixels = np.full((side, side, 3), 240, np.uint8)
    pixels[inside] = np.stack([200 + 50 * x, 90 + 60 * y, 60 + 0 * x], axis=-1)[inside]
    return Image.fromarray(pixels)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
