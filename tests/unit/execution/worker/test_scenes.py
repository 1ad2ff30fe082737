"""Scenes of TripoSR that jobs with other parameters go on from, through the worker's runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dna_pipeline.execution.protocol import JobDone, JobFailed, StageDone, StageOrder
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.triposr.network import TSR
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.triposr.stage import TripoSR
from tests import workers
from tests.triposr_stage import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

Job = Callable[..., StageDone | None]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each pass of the network."""
    passes: list[int] = []
    forward = TSR.forward

    def count(self: TSR, image: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        return forward(self, image)

    monkeypatch.setattr(TSR, "forward", count)
    return passes


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Runs a job of the one stage; its end, and `job.files` by name."""
    store = ResultStore(tmp_path / "kept", free_bytes=0)
    models = ModelCache({"triposr": TripoSRModel(path=TINY)}, Device("cpu", "float32"))
    number = iter(range(100))

    def job(
        image: Path = TINY / "input.png",
        *,
        store: ResultStore | None = store,
        facts: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> StageDone | None:
        defaults = {"model": "triposr", "resolution": 16, "preview": False, "metadata": "marks"}
        stage = TripoSR.model_validate(defaults | params)
        name = f"j{next(number)}"
        order = StageOrder("mesh", "triposr", stage.params(), "robot")
        events = workers.run(
            workers.order(image, tmp_path / name, order, job=name),
            models, store=store, **facts or {},
        )  # fmt: skip
        job.last = events[-1]  # type: ignore[attr-defined]
        (tmp_path / name / "mesh").mkdir(exist_ok=True)
        job.files = {  # type: ignore[attr-defined]
            path.name: path.read_bytes() for path in (tmp_path / name / "mesh").iterdir()
        }
        return next(iter(workers.done(events)), None)

    return job


@pytest.mark.parametrize(
    "params",
    [
        {"resolution": 24},
        {"threshold": 20.0},
        {"bake_texture": True, "texture_resolution": 64},
        {"turntable": "nerf", "turntable_views": 2, "turntable_size": 16},
        {"formats": ["obj", "ply"], "target_faces": 100, "level_set": "logit"},
    ],
    ids=lambda params: next(iter(params)),
)
def test_other_parameters_go_on_from_the_scene(
    job: Job, passes: list[int], params: dict[str, Any]
) -> None:
    job()
    done = job(**params)
    assert isinstance(job.last, JobDone)  # type: ignore[attr-defined]
    assert len(passes) == 1
    assert done is not None
    assert done.reused_from is not None
    seconds = done.reused_from.pop("seconds")
    assert done.reused_from == {"job": "j0", "stage": "mesh", "part": "scene"}
    assert seconds >= 0
    files = job.files  # type: ignore[attr-defined]
    job(store=None, **params)
    assert len(passes) == 2
    assert job.files == files  # type: ignore[attr-defined]


def test_a_mesh_that_failed_leaves_its_scene(job: Job, passes: list[int]) -> None:
    job(threshold=1e6)
    assert isinstance(job.last, JobFailed)  # type: ignore[attr-defined]
    assert job.last.failure["code"] == "empty_mesh"  # type: ignore[attr-defined]
    done = job()
    assert done is not None
    assert done.reused_from is not None
    assert len(passes) == 1


@pytest.mark.parametrize("change", ["ratio", "pixels", "off", "kept off"])
def test_another_scene_is_computed(
    job: Job, passes: list[int], tmp_path: Path, change: str
) -> None:
    image = TINY / "input.png"
    job(reuse="off" if change == "kept off" else "on")
    params: dict[str, Any] = {"resolution": 24}
    if change == "ratio":
        params["foreground_ratio"] = 0.7
    elif change == "pixels":
        image = tmp_path / "other.png"
        with Image.open(TINY / "input.png") as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(image)
    elif change == "off":
        params["reuse"] = "off"
    done = job(image, **params)
    assert done is not None
    assert done.reused_from is None
    assert len(passes) == 2


def test_another_file_of_the_same_pixels_has_the_same_scene(
    job: Job, passes: list[int], tmp_path: Path
) -> None:
    job()
    image = tmp_path / "copy.png"
    with Image.open(TINY / "input.png") as picture:
        picture.save(image, compress_level=0)
    assert job(image) is not None
    assert len(passes) == 1


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"scene"])
def test_a_scene_that_cannot_be_read_is_computed(
    job: Job, passes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    """One that was kept in another form, whose hash is right."""
    monkeypatch.setattr(
        "dna_pipeline.providers.triposr.scenes._to_bytes", lambda _: damage, raising=True
    )
    job()
    done = job(resolution=24)
    assert done is not None
    assert done.reused_from is None
    assert len(passes) == 2


def test_a_scene_that_is_not_finite_is_not_kept(
    job: Job, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TSR.forward
    monkeypatch.setattr(TSR, "forward", lambda self, image: forward(self, image) * float("nan"))
    for _ in range(2):
        job()
        assert job.last.failure["code"] == "non_finite_output"  # type: ignore[attr-defined]
    assert len(passes) == 2


def test_a_network_that_is_replaced_while_the_job_waits(job: Job, passes: list[int]) -> None:
    """Its scene is not kept as that of the first one, nor that of the first one taken for it."""
    hashes = ["1" * 64]
    facts = {"fingerprint": lambda _: ("/m", hashes[0])}
    replaced = facts | {"device": workers.Meanwhile(lambda: hashes.insert(0, "2" * 64))}
    job(facts=replaced)
    hashes[:] = ["1" * 64]
    done = job(resolution=24, facts=facts)
    assert done is not None
    assert done.reused_from is None
    assert len(passes) == 2
    done = job(resolution=32, facts=replaced)
    assert done is not None
    assert done.reused_from is None
    assert len(passes) == 3
