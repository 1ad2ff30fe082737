"""A server in this process, on a port of its own, and a daemon that computes nothing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import uvicorn

from dna_pipeline.base.errors import Failure
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.ledger import model_loads, pauses, queue, requests
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.publish.publisher import Publisher


@contextmanager
def served(config: Config) -> Iterator[str]:
    """Serve while the block runs; gives the address."""
    settings = uvicorn.Config(
        make_app(Site(config)), port=0, log_config=None, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        (socket,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


FILES: dict[str, list[tuple[str, str, str]]] = {
    "img2img": [(".png", "image", "image/png")],
    "remove_background": [(".matte.png", "matte", "image/png")],
    "triposr": [
        (".glb", "mesh", "model/gltf-binary"), (".preview.png", "preview", "image/png"),
    ],
}  # fmt: skip
FACTS: dict[str, dict[str, Any]] = {
    "image": {"width": 64, "height": 48}, "mesh": {"vertices": 8, "faces": 12},
}  # fmt: skip


class StandIn:
    """A daemon that claims the jobs in their order, and publishes what each stage might make.

    Attributes:
        steps: number of events of progress of each job.
        fails: gives the failure of a job, or None; called with its row.
        gate: jobs wait until it is set.
        ran: ids of the jobs that ran, in order.
        data_of: gives the bytes of a file; called with its job and its role.
        facts: what the stages tell of their files, by role.
        warnings: those of each stage.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = threading.Event()
        self.steps = 2
        self.fails: Callable[[Job], Failure | None] = lambda _: None
        self.gate = threading.Event()
        self.gate.set()
        self.ran: list[str] = []
        self.data_of: Callable[[Job, str], bytes] = lambda job, role: f"{role} of {job.id}".encode()
        self.load_failure: Failure | None = None
        self.facts: dict[str, dict[str, Any]] = FACTS
        self.warnings = ["as it came"]

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        self._stop.clear()
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(ready,), name="daemon")
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _run(self, ready: threading.Event) -> None:
        with hold_lock(self._config.data), closing(Ledger(self._config.ledger_path)) as ledger:
            ledger.transact(model_loads.recover)
            ledger.transact(queue.recover)
            publisher = Publisher(self._config, ledger)
            ready.set()
            while not self._stop.wait(0.02):
                self._load_models(ledger)
                if self.gate.is_set() and not ledger.transact(lambda s: pauses.of_job(s, "", None)):
                    self._step(ledger)
                for job in ledger.transact(queue.to_publish):
                    publisher.publish(job)

    def _load_models(self, ledger: Ledger) -> None:
        for number, _ in ledger.transact(model_loads.take):
            if (failure := self.load_failure) is None:
                ledger.transact(partial(model_loads.finish, number=number, device="cpu", seconds=1))
            else:
                ledger.transact(partial(model_loads.fail, number=number, failure=failure))

    def _step(self, ledger: Ledger) -> None:
        job = ledger.transact(queue.claim_next)
        if job is None:
            return
        self.ran.append(job.id)
        for step in range(self.steps):
            if self._stop.is_set() or job.id in ledger.transact(requests.cancel_requests):
                ledger.transact(lambda s: queue.requeue(s, job.id, "cancelled"))
                return
            data = {"stage": job.stages[0]["id"], "step": step + 1, "steps": self.steps,
                    "fraction": (step + 1) / self.steps}  # fmt: skip
            ledger.transact(lambda s, data=data: queue.add_progress(s, job.id, data))
            time.sleep(0.25)
        if (failure := self.fails(job)) is not None:
            ledger.transact(lambda s: queue.fail(s, job.id, failure))
            return
        for stage in job.stages:
            self._finish_stage(ledger, job, stage)
        ledger.transact(lambda s: queue.finish_computing(s, job.id))

    def _finish_stage(self, ledger: Ledger, job: Job, stage: dict[str, Any]) -> None:
        folder = self._config.work / job.id / stage["id"]
        folder.mkdir(parents=True, exist_ok=True)
        kinds = list(FILES[stage["type"]])
        if stage["params"].get("turntable"):
            kinds.append((".turntable.mp4", "turntable", "video/mp4"))
        files: list[dict[str, Any]] = []
        for suffix, role, media_type in kinds:
            data = self.data_of(job, role)
            (folder / f"{job.stem}{suffix}").write_bytes(data)
            files.append({
                "path": f"{job.stem}{suffix}", "role": role, "media_type": media_type,
                "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
                "facts": self.facts.get(role, {}),
            })  # fmt: skip
        run = {
            "stage_id": stage["id"], "type": stage["type"], "provider": "x", "model": None,
            "params": stage["params"], "device": "cpu", "dtype": "float32", "batch_size": 1,
            "attempt": job.attempt, "seconds": 0.5, "warnings": self.warnings,
            "environment": {"python": "3"},
        }  # fmt: skip
        ledger.transact(lambda s: queue.finish_stage(s, job.id, run, files))
