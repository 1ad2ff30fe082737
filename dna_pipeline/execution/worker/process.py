"""The child process that owns the device and the models.

It reads its settings and then orders from its standard input, and writes events to its original
standard output. It ends as soon as the pipe from its parent ends: results are written atomically,
so that this leaves no half-written file.
"""

from __future__ import annotations

import ctypes
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, Any, NoReturn

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import DeviceUnavailable, Failure
from dna_pipeline.base.garbage import collect_seldom
from dna_pipeline.base.layout import KEPT_RESULTS
from dna_pipeline.base.logs import configure_child
from dna_pipeline.base.times import format_time
from dna_pipeline.execution.protocol import (
    Event,
    JobFailed,
    LoadedModel,
    ModelsLoaded,
    Order,
    Task,
    TaskFailed,
    WorkerReady,
    event_to_message,
)
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.execution.worker import device as devices
from dna_pipeline.execution.worker import runner, tasks
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.lanes import Lane
from dna_pipeline.execution.worker.program import program_sha256
from dna_pipeline.execution.worker.recipes import ON_CPU
from dna_pipeline.execution.worker_child import THREAD_VARIABLES, WorkerSettings
from dna_pipeline.media.marks.signing import Signer
from dna_pipeline.providers.base import CachedModel, Device, ModelCache, Provider
from dna_pipeline.providers.checkpoints import Models
from dna_pipeline.stages import registry
from dna_pipeline.weights.fingerprint import Fingerprints

# A model's folder may name files on the network. No library may fetch them.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "YES",
    "TOKENIZERS_PARALLELISM": "false",
}

REST_S = 5.0
"""Time without an order after which memory that nothing uses is handed back."""

COMPILED = "compiled"
"""Folder below the data folder that keeps what torch compiled of models."""


MOST_THREADS = 64
"""More than the orders that any executor gives to one worker at once."""


class Worker:
    """Runs orders from one pipe, each on a thread of its own, as many at once as it is given; they
    take turns with the device. Another thread receives the messages."""

    def __init__(self, settings: WorkerSettings, out: ipc.LineWriter) -> None:
        self.settings = settings
        self.out = out
        self.orders: queue.SimpleQueue[Order | Task] = queue.SimpleQueue()
        self.under_way = 0
        """Number of orders that have begun and not ended."""
        self._lock = threading.Lock()
        self.cancelled: set[str] = set()
        self.yield_requests: set[str] = set()

    def emit(self, event: Event) -> None:
        try:
            self.out.send(event_to_message(event))
        except (OSError, ValueError):
            os._exit(0)  # the parent has ended, so nobody needs the results

    def listen(self, inbound: IO[bytes]) -> None:
        for message in ipc.messages(inbound):
            if "order" in message:
                order = Order.from_message(message["order"])
                # A request that is still remembered was meant for an earlier attempt at the job.
                self.cancelled.discard(order.job)
                self.yield_requests.discard(order.job)
                self.orders.put(order)
            elif "task" in message:
                self.orders.put(Task.from_message(message["task"]))
            elif "cancel" in message:
                self.cancelled.add(message["cancel"])
            elif "rest" in message:
                self.yield_requests.add(message["rest"])
        os._exit(0)

    def work(self) -> None:
        folder = self.settings.checkpoints
        models = Models(
            load_providers(self.settings.models), None if folder is None else Path(folder)
        )
        try:
            device = self._checked_device(models)
        except DeviceUnavailable as error:
            self._refuse_all(error)
            return
        versions = environment(device)
        fingerprints = Fingerprints(Path(self.settings.data))
        context = WorkerContext(
            models=ModelCache(
                models,
                device,
                models.is_in_folder,
                lambda cached: self.emit(_models_loaded(cached)),
                lambda: devices.allocated_bytes(device),
            ),
            emit=self.emit,
            is_cancelled=self.cancelled.__contains__,
            must_yield=self.yield_requests.__contains__,
            stage_timeout_s=self.settings.stage_timeout_s,
            release_memory=release_memory,
            fingerprint=fingerprints.of,
            environment=versions,
            threads=cpu_threads(),
            licence=fingerprints.licence,
            data=Path(self.settings.data),
            hash_file=fingerprints.sha256,
            signer=_signer(self.settings.signing),
            store=self._store(),
            code=program_sha256(),
            device=Lane(
                "device",
                lambda: devices.make_current(device),
                self.settings.most_together(device.name),
                _end_of_several,
            ),
            processor=Lane("processor"),
        )
        # No job is charged for a worker that dies before this event.
        self.emit(WorkerReady(device.name, device.dtype, versions))
        threads = ThreadPoolExecutor(
            MOST_THREADS, "order", initializer=devices.make_current, initargs=(device,)
        )
        for number in count():
            order = self._next_order(context)
            with self._lock:
                self.under_way += 1
            threads.submit(self._run, order, context, number)

    def _run(self, order: Order | Task, context: WorkerContext, number: int) -> None:
        """Do an order, on a thread of its own."""
        try:
            if isinstance(order, Task):
                tasks.run(order, context)
            else:
                runner.run(order, context, number)
        except BaseException:
            # Nobody would hear of it, and the daemon would wait for the order's end for ever.
            traceback.print_exc()
            os._exit(1)
        with self._lock:
            self.under_way -= 1

    def _store(self) -> ResultStore | None:
        if not self.settings.keeps_results:
            return None
        return ResultStore(Path(self.settings.data, KEPT_RESULTS))

    def _checked_device(self, models: Models) -> Device:
        """The device for the models. Raises `DeviceUnavailable`.

        torch takes seconds to import, so it is not asked where no model needs a device.
        """
        settings = self.settings
        is_needed = (
            settings.seeks_device
            or models.folder is not None
            or any(provider.needs_device for provider in models.values())
        )
        if settings.device in ("auto", "cpu") and not is_needed:
            return ON_CPU
        device = choose_device(settings.device, settings.dtype)
        devices.refuse_worse(device, settings.last_device, settings.last_gpu)
        devices.make_current(device)
        if settings.self_test:
            devices.self_test(device)
        return device

    def _next_order(self, context: WorkerContext) -> Order | Task:
        """Wait for an order. After a moment without one, give memory back that nothing uses; after
        `idle_unload_s`, unload the models too, and give the device's memory back."""
        unload_s = self.settings.idle_unload_s
        rest_s = min(REST_S, unload_s or REST_S)
        releases: list[tuple[float, Callable[[], None]]] = [(rest_s, trim_heap)]
        if unload_s:
            releases.append((unload_s - rest_s, partial(self._unload, context)))
        for wait_s, release in releases:
            with suppress(queue.Empty):
                return self._order_within(wait_s)
            release()
        return self.orders.get()

    def _order_within(self, wait_s: float) -> Order | Task:
        """Wait for an order. Raises `queue.Empty` after that time in which no job ran."""
        while True:
            try:
                return self.orders.get(timeout=wait_s)
            except queue.Empty:
                if self.under_way == 0:
                    raise

    def _unload(self, context: WorkerContext) -> None:
        if context.models.evict():
            release_memory()

    def _refuse_all(self, error: DeviceUnavailable) -> None:
        failure = Failure(error.code, "", str(error)).to_dict()
        # Poisoned: a process that found no device never finds one, but a new process may.
        while True:
            order = self.orders.get()
            if isinstance(order, Task):
                self.emit(TaskFailed(order.id, failure, poisoned=True))
                continue
            self.emit(JobFailed(order.job, failure, hold=True, poisoned=True))


def _end_of_several(error: BaseException) -> NoReturn:
    """End the process: any of the jobs in the turn may be the cause, so the daemon lets each run
    alone."""
    traceback.print_exception(error)
    os._exit(1)


def _models_loaded(cached: Sequence[CachedModel]) -> ModelsLoaded:
    return ModelsLoaded(
        tuple(
            LoadedModel(
                name=model.name,
                state="loading" if model.is_loading else "loaded",
                device=model.device,
                since=format_time(model.since),
                bytes=model.bytes,
            )
            for model in cached
        )
    )


def _signer(settings: dict[str, str | None] | None) -> Signer | None:
    if settings is None:
        return None
    certificate, key = (Path(settings[name] or "") for name in ("certificate", "key"))
    return Signer(certificate, key, settings["algorithm"] or "", settings["timestamp_url"])


def load_providers(entries: dict[str, dict[str, Any]]) -> dict[str, Provider]:
    """Provider entries from their plain values, as `WorkerSettings.models` carries them."""
    providers: dict[str, Provider] = {}
    for name, entry in entries.items():
        fields = {key: value for key, value in entry.items() if key != "provider"}
        providers[name] = registry.provider_class(entry["provider"]).model_validate(fields)
    return providers


def choose_device(requested: str, dtype: str) -> Device:
    """The device and number type to use. Raises `DeviceUnavailable`.

    Args:
        requested: `auto`, or a device as torch names it.
        dtype: `auto`, or a number type as torch names it.
    """
    import torch

    name = requested
    if requested == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if name == "cuda":
        name = "cuda:0"
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"{name} was asked for, but torch sees no such device")
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("mps was asked for, but torch sees no such device")
    if dtype != "auto":
        return Device(name, dtype)
    return Device(name, "float16" if name.startswith("cuda") else "float32", dtype_is_free=True)


def environment(device: Device) -> dict[str, Any]:
    """Versions that results depend on, for the manifest."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    packages = ("torch", "diffusers", "transformers", "accelerate", "numpy", "pillow",
                "scikit-image", "trimesh", "fast-simplification", "xatlas", "moderngl", "rembg",
                "onnxruntime", "onnxruntime-gpu", "pymatting", "scipy", "numba")  # fmt: skip
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    versions["gpu"] = _gpu(device.name)
    return versions


def cpu_threads() -> dict[str, str]:
    """Limits of the threads with which the libraries compute on the CPU, and round sums: the
    variables that set them, and the cores as far as OpenMP may use them."""
    limits = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limit = limits.get("OMP_NUM_THREADS", "")
    return limits | {"cores": str(min(cores, int(limit)) if limit.isdecimal() else cores)}


def _gpu(name: str) -> str | None:
    """Name of the hardware of a device, if CUDA drives it."""
    if not name.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(name)


def release_memory() -> None:
    """Hand memory back to the system that nothing uses: the device's, and this process's own."""
    import gc

    gc.collect()
    trim_heap()
    if "torch" not in sys.modules:
        return
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def trim_heap() -> None:
    """Hand memory back that the C library keeps for the next job (`WORKER_ENV`); glibc alone keeps
    it."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def lock_name(number: int) -> str:
    """Name of the lock of the worker with that number, in the data folder."""
    return "worker.lock" if number == 1 else f"worker.lock.{number}"


def main() -> None:
    """Entry point of the child process."""
    from filelock import FileLock

    collect_seldom()
    inbound, out = ipc.claim_stdio()
    os.environ.update(OFFLINE)
    configure_child()
    settings = WorkerSettings(**next(ipc.messages(inbound)))
    # torch reads it when it first compiles a model, and writes there what it compiled.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(settings.data, COMPILED)))
    worker = Worker(settings, out)
    threading.Thread(target=worker.listen, args=(inbound,), name="orders", daemon=True).start()
    # A worker outlives a killed daemon by a moment. Two workers on one device are worse than a
    # wait, so wait until the other one has ended.
    with FileLock(Path(settings.data, lock_name(settings.number))):
        worker.work()


if __name__ == "__main__":
    main()
