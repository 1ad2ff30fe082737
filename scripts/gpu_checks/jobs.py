"""Jobs that a worker's runner carries out in this process, with the models of a check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile
from typing import Any

from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import Event, JobDone, Order, OrderInput, StageDone, StageOrder
from dna_pipeline.execution.worker import runner
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.process import release_memory
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.triposr.stage import TripoSR
from gpu_checks.report import Failed
from gpu_checks.setting import TINY, Setting

PICTURE = TINY / "input.png"
RESOLUTION = 48


def triposr_events(
    models: ModelCache, folder: Path, resolution: int = RESOLUTION, **more: Any
) -> list[Event]:
    """All events of a job of one stage, `triposr`, on the golden picture.

    Args:
        models: has the stage's model, by the name `triposr`.
        folder: to work in; made.
        more: parameters of the stage.
    """
    params = {"preview": False, **more, "model": "triposr", "resolution": resolution}
    stage = TripoSR.model_validate(params)
    return run_order(models, folder, {"triposr": stage.params()})


def run_order(
    models: ModelCache,
    folder: Path,
    stages: Mapping[str, dict[str, Any]],
    picture: Path = PICTURE,
) -> list[Event]:
    """All events of a job of stages by their types, with their parameters."""
    inbox, work = folder / "inbox", folder / "work"
    inbox.mkdir(parents=True)
    source = Path(copyfile(picture, inbox / "picture.png"))
    events: list[Event] = []
    context = WorkerContext(
        models=models,
        emit=events.append,
        is_cancelled=frozenset[str]().__contains__,
        must_yield=frozenset[str]().__contains__,
        stage_timeout_s=600.0,
        release_memory=release_memory,
        fingerprint=lambda provider: (str(provider.weights()[0]), None),
        environment={},
    )
    orders = tuple(StageOrder(type_, type_, params, "picture") for type_, params in stages.items())
    image = OrderInput("image", str(source), sha256_file(source))
    runner.run(Order("check", 1, orders, (image,), str(work)), context)
    return events


def triposr_models(provider: Provider, device: Device) -> ModelCache:
    """A cache of that one model, by the name `triposr`."""
    return ModelCache({"triposr": provider}, device)


def run_triposr(setting: Setting, folder: Path) -> StageDone:
    """The end of the stage with the small golden model, in float32. Raises `Failed`."""
    models = triposr_models(TripoSRModel(path=TINY), setting.in_dtype("float32"))
    return stage_done(triposr_events(models, folder))


def stage_done(events: list[Event]) -> StageDone:
    """The end of the only stage. Raises `Failed` if the job was not completed."""
    last = events[-1]
    if not isinstance(last, JobDone):
        raise Failed(f"the job was not completed: {last}")
    return next(event for event in events if isinstance(event, StageDone))
