"""Stages of another package that do whatever a test wants done, and a worker to run them."""

import hashlib
import queue
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Order,
    OrderInput,
    StageOrder,
    TaskDone,
    TaskFailed,
    WorkerEnded,
)
from dna_pipeline.execution.worker_child import WorkerSettings

STAGES = """
import errno, os, signal, time
from typing import ClassVar
from pydantic import Field
from dna_pipeline.base.files import Artifact, write_bytes
from dna_pipeline.stages.base import Stage

class Act(Stage):
    type: ClassVar[str] = "act"
    needs_model: ClassVar[bool] = False
    deed: str = "copy"
    steps: int = 3
    seconds: float = 0.0
    room: int = 1
    error: str = "RuntimeError"
    text: str = "CUDA error: an illegal memory access was encountered"

    def run(self, ctx):
        if self.deed in ("squeeze", "starve", "flood"):
            if files := getattr(self, self.deed)(ctx):
                return files
        else:
            getattr(self, self.deed)()
        for step in range(self.steps):
            time.sleep(self.seconds)
            ctx.on_step(step + 1, self.steps)
        path = ctx.path(".png")
        write_bytes(path, ctx.source.read_bytes() + self.deed.encode())
        return [Artifact(path, "image", "image/png")]

    def copy(self): pass
    def chatter(self):
        print("to the wrong pipe")
        os.write(1, b"{\\"event\\": \\"job_done\\", \\"job\\": \\"j\\"}\\n")
        assert os.read(0, 1) == b""
    def segfault(self): os.kill(os.getpid(), signal.SIGSEGV)
    def hog(self):
        import ctypes
        ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
    def leave(self): os._exit(7)
    def freeze(self): time.sleep(3600)
    def grab(self): raise MemoryError("no more")
    def reserve(self):
        import torch
        torch.empty(1 << 60)
    def squeeze(self, ctx):
        if ctx.low_memory_level < self.room:
            raise MemoryError(f"too much at thrift {ctx.low_memory_level}")
        ctx.warnings.append(f"thrift {ctx.low_memory_level}")
    def starve(self, ctx):
        if ctx.low_memory_level < self.room:
            self.burn()
    def flood(self, ctx):
        path = ctx.path(".big")
        write_bytes(path, bytes(100 << 20))
        return [Artifact(path, "image", "image/png")]
    def fill(self): raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")
    def burn(self):
        import torch
        raise getattr(torch, self.error, RuntimeError)(self.text)
    def err(self): raise ValueError("what nobody foresaw")
    def name_cache(self): raise ValueError(os.environ["TORCHINDUCTOR_CACHE_DIR"])
"""


PROVIDER = """
from pathlib import Path
from typing import ClassVar
from dna_pipeline.providers.base import Provider

class Toy(Provider):
    name_in_config: ClassVar[str] = "toy"
    stages: ClassVar[frozenset[str]] = frozenset({"act"})
    log: str
    def missing(self): return None
    def weights(self): return Path(self.log), []
    def load(self, device):
        with open(self.log, "a") as file:
            file.write("loaded\\n")
        return self
"""

SLOW = "import time\ntime.sleep(3600)\n"


def install(site: Path) -> None:
    """Put the package there, to be found through its entry point."""
    (site / "acting-1.0.dist-info").mkdir(parents=True)
    (site / "acting-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: acting\n")
    entry = "[dna_pipeline.stages]\nact = acting:Act\nslow = slow_to_import:Act\n"
    entry += "[dna_pipeline.providers]\ntoy = toys:Toy\n"
    (site / "acting-1.0.dist-info/entry_points.txt").write_text(entry)
    (site / "acting.py").write_text(STAGES)
    (site / "toys.py").write_text(PROVIDER)
    (site / "slow_to_import.py").write_text(SLOW)


def ends_order(event: Event, name: str) -> bool:
    """True for the one event that ends a job or a task."""
    match event:
        case JobDone() | JobFailed():
            return event.job == name
        case TaskDone() | TaskFailed():
            return event.task == name
        case WorkerEnded():
            return name in event.jobs
        case _:
            return False


class Bench:
    """An executor with a real worker, and orders for it.

    Args:
        executor: one that is shared with other benches; else one is made, with these settings.
    """

    def __init__(self, folder: Path, executor: LocalExecutor | None = None, **changes: Any) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        self.source = folder / "source.png"
        self.source.write_bytes(b"pixels")
        settings = WorkerSettings("cpu", "auto", str(folder / "data"), {}, 60, 0)
        self.executor = executor or LocalExecutor(replace(settings, **changes))

    def order(self, *stages: StageOrder, job: str = "j") -> Order:
        sha256 = hashlib.sha256(self.source.read_bytes()).hexdigest()
        work = str(self.folder / "work" / job)
        return Order(job, 1, stages, (OrderInput("image", str(self.source), sha256),), work)

    def run(self, deed: str, job: str = "j", **params: Any) -> list[Event]:
        self.executor.submit(self.order(stage(deed, **params), job=job))
        return self.until_end(job)

    def until_end(self, job: str) -> list[Event]:
        """Events up to the one that ends the job; limits are enforced meanwhile."""
        seen: list[Event] = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.executor.enforce_timeouts()
            try:
                event = self.executor.events().get(timeout=0.2)
            except queue.Empty:
                continue
            seen.append(event)
            if ends_order(event, job):
                return seen
        raise AssertionError(f"no end in {seen}")


def stage(deed: str, stage_id: str = "act", **params: Any) -> StageOrder:
    return StageOrder(stage_id, "act", {"deed": deed, **params}, f"pic.{stage_id}")


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if event.kind != "beat"]
