"""Results that a later job takes, through the worker's runner."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from dna_pipeline.base.files import Artifact, write_bytes
from dna_pipeline.execution import result_store
from dna_pipeline.execution.protocol import JobDone, JobFailed, StageDone, StageOrder
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.execution.worker import program
from dna_pipeline.media.marks.signing import Signer
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Authorship, Stage, StageContext
from dna_pipeline.weights.fingerprint import Fingerprints
from tests import workers

RUNS: list[str] = []
"""The seeds of all runs of the stage below."""


class Draws(Stage):
    """Writes its seed behind the input."""

    type: ClassVar[str] = "draws"
    needs_model: ClassVar[bool] = False
    authorship: ClassVar[Authorship] = "reworks"
    seed: int = 1
    lacks_memory: bool = False
    is_degraded: bool = False
    on: str = ""
    lora: str = ""

    def extra_files(self, data: Path) -> dict[str, Path]:
        return {"lora:one": data / self.lora} if self.lora else {}

    def run(self, ctx: StageContext) -> list[Artifact]:
        if self.lacks_memory and ctx.low_memory_level == 0:
            raise MemoryError("no more")
        RUNS.append(f"{ctx.stage_id}{self.seed}")
        ctx.warnings.append(f"drawn with {self.seed}")
        ctx.is_degraded = self.is_degraded
        if self.on:
            ctx.computed_on = Device(self.on, "uint8")
        path = ctx.path(".txt")
        write_bytes(path, ctx.source.read_bytes() + f"{self.seed}".encode())
        return [Artifact(path, "image", "text/plain", {"seed": self.seed})]


class Model(Provider):
    """A model that computes nothing, in one number type."""

    name_in_config: ClassVar[str] = "model"
    stages: ClassVar[frozenset[str]] = frozenset({"draws"})
    look: str = "plain"
    file: Path | None = None

    def missing(self) -> str | None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return Path("/m"), []

    def load(self, device: Device) -> Any:
        return object()


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "kept", free_bytes=0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cat.txt"
    path.write_bytes(b"cat")
    return path


Job = Callable[..., list[StageDone]]


@pytest.fixture
def job(tmp_path: Path, image: Path, store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Runs a job of one stage per set of parameters, and gives the ends of its stages."""
    RUNS.clear()
    monkeypatch.setitem(registry.STAGES, "draws", f"{__name__}:Draws")
    registry._import_strings.cache_clear()
    monkeypatch.setattr(registry, "stage_class", lambda _: Draws)
    number = iter(range(100))

    def job(*params: dict[str, Any], **changes: Any) -> list[StageDone]:
        job.name = f"j{next(number)}"  # type: ignore[attr-defined]
        stages = tuple(
            StageOrder(changes.pop("id", f"s{n}"), "draws", Draws(**one).params(), "cat")
            for n, one in enumerate(params)
        )
        models = changes.pop("models", {"m": Model()})
        tags = changes.pop("tags", ())
        work = tmp_path / job.name  # type: ignore[attr-defined]
        order = workers.order(image, work, *stages, job=job.name, tags=tags)  # type: ignore[attr-defined]
        events = workers.run(order, models, **{"store": store} | changes)
        job.last = events[-1]  # type: ignore[attr-defined]
        done = workers.done(events)
        job.files = [(work / one.stage / one.artifacts[0].path).read_bytes() for one in done]  # type: ignore[attr-defined]
        return done

    return job


def test_an_equal_job_takes_all_files(job: Job) -> None:
    first = job({"seed": 1}, {"seed": 2})
    files = job.files  # type: ignore[attr-defined]
    second = job({"seed": 1}, {"seed": 2})
    assert RUNS == ["s01", "s12"]
    assert job.files == files == [b"cat1", b"cat12"]  # type: ignore[attr-defined]
    assert isinstance(job.last, JobDone)  # type: ignore[attr-defined]
    for one, two in zip(first, second, strict=True):
        assert one.reused_from is None
        assert two.reused_from == {
            "job": "j0", "stage": one.stage, "part": "all", "seconds": one.seconds,
        }  # fmt: skip
        assert (two.artifacts, two.warnings, two.stage_key) == (
            one.artifacts, one.warnings, one.stage_key,
        )  # fmt: skip
    third = job({"seed": 1}, {"seed": 2})
    assert [one.reused_from and one.reused_from["job"] for one in third] == ["j0", "j0"]


def test_what_differs_is_computed_and_the_stages_before_are_taken(job: Job) -> None:
    job({"seed": 1}, {"seed": 2})
    done = job({"seed": 1}, {"seed": 3})
    assert RUNS == ["s01", "s12", "s13"]
    assert [one.reused_from is None for one in done] == [False, True]


def test_another_image_is_computed(job: Job, image: Path) -> None:
    job({})
    image.write_bytes(b"dog")
    job({})
    assert job.files == [b"dog1"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("params", "changes"),
    [
        ({"metadata": "none"}, {}),
        ({}, {"id": "other"}),
        ({}, {"tags": ("hero",)}),
        ({}, {"environment": {"torch": "2"}}),
        ({}, {"code": "another"}),
        ({}, {"threads": {"OMP_NUM_THREADS": "2"}}),
        ({"model": "m"}, {"fingerprint": lambda _: ("/m", "6" * 64)}),
        ({"model": "m"}, {"models": {"m": Model(look="fancy")}}),
        ({"model": "m"}, {"models": ModelCache({"m": Model()}, Device("cpu", "bfloat16"))}),
        ({"model": "m"}, {"models": ModelCache({"m": Model()}, Device("mps", "float32"))}),
    ],
)
def test_all_that_decides_bytes_is_in_the_key(
    job: Job, params: dict[str, Any], changes: dict[str, Any]
) -> None:
    job({name: value for name, value in params.items() if name == "model"})
    job(params, **changes)
    assert len(RUNS) == 2
    job(params, **changes)
    assert len(RUNS) == 2


def test_threads_of_the_cpu_decide_nothing_on_a_gpu(job: Job) -> None:
    models = ModelCache({"m": Model()}, Device("cuda:0", "float16"))
    job({"model": "m"}, models=models)
    job({"model": "m"}, models=models, threads={"OMP_NUM_THREADS": "2"})
    assert len(RUNS) == 1


@pytest.mark.parametrize("params", [{}, {"metadata": "marks"}])
def test_marks_that_tell_of_the_stages_before_are_in_the_key(
    job: Job, params: dict[str, Any]
) -> None:
    """Two first stages with equal bytes whose seeds the marks of the second one tell."""
    job({"seed": 1, "metadata": "none"}, params)
    job({"seed": 1, "metadata": "marks"}, params)
    assert RUNS == ["s01", "s11", "s01", "s11"]


def test_the_code_of_another_package_counts(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job({})
    monkeypatch.setattr("dna_pipeline.execution.worker.reuse.plugin_sha256", lambda _: "edited")
    job({})
    assert len(RUNS) == 2


def test_hashes_of_code() -> None:
    assert len(program.program_sha256()) == len(program.plugin_sha256(Draws)) == 64
    assert program.plugin_sha256(Signer) == ""
    with pytest.raises(OSError, match="no file"):
        program.plugin_sha256(int)


def test_off_neither_takes_nor_keeps(job: Job) -> None:
    job({"reuse": "off"})
    job({})
    done = job({"reuse": "off"})
    assert len(RUNS) == 3
    assert done[0].params["reuse"] == "off"
    assert done[0].reused_from is None
    assert job({})[0].stage_key == done[0].stage_key
    assert len(RUNS) == 3


def test_a_result_with_less_memory_is_not_kept(job: Job) -> None:
    job({"lacks_memory": True})
    job({"lacks_memory": True})
    assert len(RUNS) == 2


def test_a_result_that_a_stage_calls_degraded_is_not_kept(job: Job) -> None:
    job({"is_degraded": True})
    job({"is_degraded": True})
    assert len(RUNS) == 2


class FellBack(Model):
    """A model that computes elsewhere than it was asked to."""

    def load(self, device: Device) -> Any:
        return SimpleNamespace(computes_on=Device("cpu", "float32"))


@pytest.mark.parametrize("place", [Device("cuda:0", "float32"), Device("cpu", "bfloat16")])
def test_a_result_of_a_model_that_fell_back_is_not_kept(job: Job, place: Device) -> None:
    for _ in range(2):
        (done,) = job({"model": "m"}, models=ModelCache({"m": FellBack()}, place))
        assert (done.device, done.dtype) == ("cpu", "float32")
    assert len(RUNS) == 2


def test_a_result_that_needs_no_model_is_kept_beside_any(job: Job) -> None:
    for _ in range(2):
        models = ModelCache({"m": FellBack()}, Device("cuda:0", "float16"))
        (done,) = job({"model": "m", "on": "cpu"}, models=models)
        assert (done.device, done.dtype) == ("cpu", "uint8")
    assert len(RUNS) == 1


class OnFile(Model):
    """A model that is read from a file."""

    def weights(self) -> tuple[Path, list[Path]]:
        assert self.file is not None
        return self.file, [self.file]


@pytest.mark.parametrize("name", ["model", "lora"])
def test_a_file_that_is_replaced_while_the_job_waits(job: Job, tmp_path: Path, name: str) -> None:
    """What is drawn with it then must not be taken for what the first one draws."""
    for each in ("model", "lora"):
        (tmp_path / each).write_bytes(b"epoch 1")
    file, prints = tmp_path / name, Fingerprints(tmp_path)
    facts: dict[str, Any] = {
        "models": {"m": OnFile(file=tmp_path / "model")}, "data": tmp_path,
        "fingerprint": prints.of, "hash_file": prints.sha256,
    }  # fmt: skip
    params = {"model": "m", "lora": "lora"}
    job(params, device=workers.Meanwhile(lambda: file.write_bytes(b"epoch 2, longer")), **facts)
    assert isinstance(job.last, JobDone)  # type: ignore[attr-defined]
    file.write_bytes(b"epoch 1")
    first = job(params, **facts)
    assert len(RUNS) == 2
    assert job(params, **facts)[0].reused_from is not None

    @contextmanager
    def alone(*_: object) -> Generator[None]:
        file.write_bytes(b"epoch 2, longer")
        yield

    taken = job(params, same_work=SimpleNamespace(alone=alone), **facts)
    assert taken[0].reused_from is not None
    assert taken[0].stage_key == first[0].stage_key, "so that the job draws anew if it goes on"


def test_a_file_that_is_removed_while_the_job_waits(job: Job, tmp_path: Path) -> None:
    file, prints = tmp_path / "lora", Fingerprints(tmp_path)
    file.write_bytes(b"epoch 1")
    facts: dict[str, Any] = {"data": tmp_path, "hash_file": prints.sha256}
    job({"lora": "lora"}, device=workers.Meanwhile(file.unlink), **facts)
    assert isinstance(job.last, JobDone)  # type: ignore[attr-defined]
    file.write_bytes(b"epoch 1")
    job({"lora": "lora"}, **facts)
    assert len(RUNS) == 2


def test_a_damaged_entry_is_computed_again(job: Job, tmp_path: Path) -> None:
    job({})
    (kept,) = (tmp_path / "kept").rglob("0")
    kept.write_bytes(b"dog")
    assert job({})[0].reused_from is None
    assert job.files == [b"cat1"]  # type: ignore[attr-defined]
    assert job({})[0].reused_from is not None


def test_facts_that_are_no_result_are_computed_again(job: Job, tmp_path: Path) -> None:
    job({})
    (record,) = (tmp_path / "kept").rglob("entry.json")
    record.write_text(record.read_text().replace('"stage_done"', '"job_done"'))
    assert job({})[0].reused_from is None
    assert job.files == [b"cat1"]  # type: ignore[attr-defined]


def test_a_full_disk_costs_the_store_and_not_the_job(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def fail(*_: Any, **__: Any) -> None:
        tries.append("copy")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(result_store, "link_or_copy", fail)
    job({"seed": 1}, {"seed": 2})
    assert isinstance(job.last, JobDone)  # type: ignore[attr-defined]
    assert tries == ["copy"], "given up for the job after the first stage"


def test_missing_weights_are_reported_by_the_stage(job: Job) -> None:
    def fingerprint(_: Provider) -> tuple[str, str | None]:
        raise FileNotFoundError("moved away")

    job({"model": "m"}, fingerprint=fingerprint)
    assert isinstance(job.last, JobFailed)  # type: ignore[attr-defined]
    assert "moved away" in job.last.failure["detail"]  # type: ignore[attr-defined]


def test_the_model_s_place_and_licence_are_those_of_now(job: Job) -> None:
    job({"model": "m", "metadata": "none"})
    facts = {"fingerprint": lambda _: ("/moved", "5" * 64), "licence": lambda _: "MIT"}
    (done,) = job({"model": "m", "metadata": "none"}, **facts)
    assert done.reused_from is not None
    assert done.model == {"name": "m", "path": "/moved", "sha256": "5" * 64, "license": "MIT"}


def test_a_cancelled_job_takes_nothing(job: Job) -> None:
    job({})
    assert job({}, is_cancelled=lambda _: True) == []
    assert job.last.failure["code"] == "cancelled"  # type: ignore[attr-defined]
