"""Facts about a machine and about what pipeline.yaml names on it; the input of all checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.operations.torch_build import TorchBuild

TYPICAL_PX = 1024
"""Side of the picture for which the disk that a job needs is estimated."""


@dataclass(frozen=True, slots=True)
class RayDemand:
    """The workers that are to run on a Ray cluster.

    Attributes:
        takes_cards: each takes a graphics card; else `worker_takes` cores.
    """

    address: str
    workers: int
    takes_cards: bool
    worker_takes: int

    @classmethod
    def of(cls, config: Config) -> RayDemand | None:
        """The workers of a configuration; None if they run on this machine."""
        runtime = config.runtime
        if runtime.executor == "local":
            return None
        takes_cards = runtime.device == "cuda"
        takes = 1 if takes_cards else runtime.threads_per_worker or 1
        return cls(runtime.ray.address, runtime.ray.workers, takes_cards, takes)


@dataclass(frozen=True, slots=True)
class Demand:
    """The needs of the configured pipelines; without a configuration, those of all stages.

    Attributes:
        device, dtype: as in `runtime:`; of several devices, the first one.
        other_devices: the devices of further workers.
        needs_device: a model computes with torch.
        stages: types of all stages.
        disk_bytes: space for one job with a picture of `TYPICAL_PX`.
        ray: the workers on a Ray cluster; None if they run on this machine, which then has to have
            their devices.
    """

    device: str = "auto"
    dtype: str = "auto"
    needs_device: bool = True
    stages: frozenset[str] = frozenset({"img2img", "remove_background", "triposr"})
    providers: frozenset[str] = frozenset({"rembg"})
    disk_bytes: int = 64 << 20
    other_devices: tuple[str, ...] = ()
    ray: RayDemand | None = None

    @property
    def workers_on_cpu(self) -> int:
        """Number of workers that share the main memory for their models; at least 1."""
        return max([self.device, *self.other_devices].count("cpu"), 1)

    @classmethod
    def of(cls, config: Config | None) -> Demand:
        """The needs of a configuration."""
        if config is None:
            return cls()
        # Imported here, since the children that import this module must start quickly.
        from dna_pipeline.execution.disk_space import FLOOR_BYTES, required_bytes

        pipelines: list[list[dict[str, Any]]] = [
            [{"type": stage.type, "params": stage.params} for stage in pipeline.stages]
            for pipeline in config.pipelines.values()
        ]
        side = TYPICAL_PX
        ray = RayDemand.of(config)
        devices = config.runtime.devices if ray is None else ("cpu",)
        return cls(
            device=devices[0],
            other_devices=devices[1:],
            ray=ray,
            dtype=config.runtime.dtype,
            needs_device=ray is None
            and any(model.needs_device for model in config.models.values()),
            stages=frozenset(stage["type"] for stages in pipelines for stage in stages),
            providers=frozenset(model.name_in_config for model in config.models.values()),
            disk_bytes=max(
                (required_bytes(side * side, side, side, stages) for stages in pipelines),
                default=FLOOR_BYTES,
            ),
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of something that was tried in a child process.

    Attributes:
        problem: the reason why it failed; "" if it went well.
        facts: what it found out.
    """

    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class NvidiaDriver:
    """NVIDIA's driver.

    Attributes:
        version: of the driver; "" if it does not say.
        cuda: the newest CUDA that it knows, as (major, minor); None if it does not say.
        problem: the driver's own complaint; "" if there is none.
    """

    version: str = ""
    cuda: tuple[int, int] | None = None
    problem: str = ""


Vendor = Literal["nvidia", "amd"]
Use = Literal["write", "move", "read"]
"""Kind of access that the program needs to a folder."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that the program uses, as it lies on its disk.

    Attributes:
        role: `data`, `outbox`, `inbox NAME` or `temporary`.
        use: `write`; `move`: files are taken out of it; `read`: it is never changed.
        state, why: as in `base/reachability.py: Reach`.
        kind: type of the file system; "" if the system does not say.
        free_bytes, free_files: room on its disk; None if unknown.
        refusal: the system's reason why the program may not use it as it has to; "" if it may.
        problem: a sentence about a link whose target is gone, or that of
            `operations/obstacles.py: of_inbox`; "" if there is none.
        watch: `auto`, `native` or `poll`, for inboxes.
        subfolders: number of folders in a recursive inbox; None if they were not counted.
    """

    role: str
    path: str
    use: Use
    state: Literal["there", "missing", "silent"] = "there"
    why: str = ""
    kind: str = "ext4"
    is_network: bool = False
    free_bytes: int | None = None
    free_files: int | None = None
    refusal: str = ""
    problem: str = ""
    watch: str = ""
    subfolders: int | None = None


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A configured model and its files.

    Attributes:
        missing: the sentence that says what is missing; "" if nothing is.
        mismatch: the sentence about a file that is another than is needed, and what to do; "" if
            there is none.
        elements: number of the weights' values; None if it is unknown.
        file_bytes: size of its files.
        dtype: the model's own number type; `auto` if it has none.
        needs_device: it computes on the device, and not on the CPU in any case.
        shares_memory: only one of all such models is in memory at a time.
        can_be_pulled: a command may fetch what is missing.
    """

    name: str
    path: str
    provider: str
    missing: str = ""
    mismatch: str = ""
    file_bytes: int = 0
    elements: int | None = None
    dtype: str = "auto"
    needs_device: bool = True
    shares_memory: bool = False
    can_be_pulled: bool = True


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """The ledger's file.

    Attributes:
        path: of the ledger.
        problem: the reason why it cannot be used; "" if it can, or if there is none yet.
        size_bytes: None if there is no ledger yet.
        last_event: time of the newest event.
        unwritable: names of the program's files in the data folder that it may not change.
        owner: name of the user that owns the ledger, if that is not this one.
    """

    path: str
    problem: str = ""
    size_bytes: int | None = None
    last_event: datetime | None = None
    unwritable: tuple[str, ...] = ()
    owner: str = ""


@dataclass(frozen=True, slots=True)
class KeptFacts:
    """Results that are kept for later jobs.

    Attributes:
        path: of their folder.
        results, size_bytes: their number, parts of stages included, and the size of all.
        limit_bytes: most that they may take; 0: none is kept.
    """

    path: str
    results: int
    size_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Clock:
    """The machine's clock.

    Attributes:
        now: its time, aware.
        zone: name of the local zone.
        tz: value of $TZ; "" if it is not set.
        is_tz_valid: $TZ is not set, or names a zone.
        has_zones: the zones of `hours:` can be looked up.
    """

    now: datetime
    zone: str = "UTC"
    tz: str = ""
    is_tz_valid: bool = True
    has_zones: bool = True


@dataclass(frozen=True, slots=True)
class Machine:
    """All facts that the checks use.

    Attributes:
        python: version of Python, as numbers.
        bits: of a pointer.
        platform: such as `Linux x86_64`; `system` is its first word, as `sys.platform` writes it.
        cards: vendors of the graphics cards that the system lists.
        kfd: state of AMD's device for computation, /dev/kfd.
        self_test: facts as in `execution/worker/device.py: facts`.
        other_self_tests: those of further devices that are listed, by their names.
        onnxruntime: facts `version` and `provider`.
        ray: fact `nodes`, each with `name`, `cpus` and `gpus`.
        opengl, ffmpeg, sqlite, watch: facts with `text`; `sqlite` also has `is_wal_safe`.
        free_ram_bytes, ram_bytes: memory that may still be used, and all of it.
        open_files: limit of open files; None if there is none.
        max_user_watches, max_user_instances: inotify's limits; None where there is no inotify.
        user: name of the user.
        is_utf8: the locale can write every file name.
        encoding: of standard output.
        file: path of pipeline.yaml; "" if there is none.
        file_problem: the reason why it cannot be used.
        daemons: sentences about other daemons on these folders.
        receivers: receivers of notifications by name, each with its problem, or "".
        kept: results that are kept for later jobs; None without a pipeline.yaml, or if the data
            folder does not answer.
        metrics_problem: why the file of `metrics:` cannot be written; "" if it can or is not asked
            for.
    """

    clock: Clock
    demand: Demand = field(default_factory=Demand)
    python: tuple[int, int, int] = (3, 11, 0)
    bits: int = 64
    platform: str = "Linux x86_64"
    system: str = "linux"
    torch: TorchBuild | None = None
    nvidia: NvidiaDriver | None = None
    cards: frozenset[Vendor] = frozenset()
    kfd: Literal["none", "closed", "open"] = "none"
    self_test: Trial = field(default_factory=Trial)
    other_self_tests: Mapping[str, Trial] = field(default_factory=dict[str, Trial])
    onnxruntime: Trial = field(default_factory=Trial)
    ray: Trial = field(default_factory=Trial)
    opengl: Trial = field(default_factory=Trial)
    ffmpeg: Trial = field(default_factory=Trial)
    sqlite: Trial = field(default_factory=Trial)
    watch: Trial = field(default_factory=Trial)
    free_ram_bytes: int | None = None
    ram_bytes: int | None = None
    open_files: int | None = None
    max_user_watches: int | None = None
    max_user_instances: int | None = None
    user: str = ""
    is_utf8: bool = True
    encoding: str = "utf-8"
    file: str = ""
    file_problem: str = ""
    folders: tuple[Folder, ...] = ()
    models: tuple[ModelFiles, ...] = ()
    ledger: LedgerFacts | None = None
    daemons: tuple[str, ...] = ()
    receivers: tuple[tuple[str, str], ...] = ()
    kept: KeptFacts | None = None
    metrics_problem: str = ""
