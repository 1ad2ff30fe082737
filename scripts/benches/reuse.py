"""Worker time of a job whose results are kept, beside that of computing them.

A picture is cut out and made a mesh, by TripoSR's network in full size with random weights. Its
answer is replaced by the scene of a file, since random weights have no surface.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benches import forward, options
from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import Event, JobDone, Order, OrderInput, StageDone, StageOrder
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.execution.worker import runner
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.triposr import conditioning
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.network import TSR
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages import registry

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_scene(parser)
    options.add_device(parser)
    parser.add_argument("--resolution", type=int, default=256, help="of the mesh (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="the best counts (%(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report: seconds of one job each, and the size of what is kept."""
    device = Device(args.device, "float32")
    providers: dict[str, Provider] = {
        "key": BorderKey.model_validate({}), "triposr": _FullSize(path=args.scene.absolute())
    }  # fmt: skip
    models = ModelCache(providers, device)
    report = options.surroundings(args.device)
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as name:
        folder = Path(name)
        store = ResultStore(folder / "kept")
        job = _Jobs(folder, models, store).seconds
        job(args.resolution, reuse="off")  # loads the model, and warms up
        usual = partial(_best, args.repeat)
        report["off_s"] = usual(lambda: job(args.resolution, reuse="off"))
        report["first_s"] = job(args.resolution)
        report["nothing_differs_s"] = usual(lambda: job(args.resolution))
        others = iter(range(args.resolution - args.repeat, args.resolution))
        report["other_resolution_s"] = usual(lambda: job(next(others)))
        report["kept_mib"] = round(sum(entry.bytes for entry in store.entries()) / MIB, 1)
    return report


def _best(repeat: int, seconds: Any) -> float:
    return min(seconds() for _ in range(repeat))


class _Jobs:
    """Jobs with one picture, each in a work folder of its own."""

    def __init__(self, folder: Path, models: ModelCache, store: ResultStore) -> None:
        self._folder = folder
        self._number = 0
        self._events: list[Event] = []
        source = folder / "thing.png"
        _picture().save(source)
        self._image = OrderInput("image", str(source), sha256_file(source))
        self._context = WorkerContext(
            models=models,
            emit=self._events.append,
            is_cancelled=frozenset[str]().__contains__,
            must_yield=frozenset[str]().__contains__,
            stage_timeout_s=3600.0,
            release_memory=lambda: None,
            fingerprint=lambda provider: (str(provider.weights()[0]), None),
            environment={},
            store=store,
        )

    def seconds(self, resolution: int, reuse: str = "on") -> float:
        """Seconds of a job in the worker. Raises `ValueError` if it was not completed."""
        self._number += 1
        params = {
            "remove_background": {"model": "key"},
            "triposr": {"model": "triposr", "resolution": resolution},
        }
        stages = tuple(
            StageOrder(kind, kind, _all_params(kind, values | {"reuse": reuse}), "thing")
            for kind, values in params.items()
        )
        name = f"{self._number:032x}"
        order = Order(name, 1, stages, (self._image,), str(self._folder / "work" / name))
        self._events.clear()
        with redirect_stdout(sys.stderr):  # the log of the worker
            _, seconds, _ = options.timed(lambda: runner.run(order, self._context))
        if not isinstance(self._events[-1], JobDone):
            raise ValueError(f"the job failed: {self._events[-1]}")
        assert sum(isinstance(event, StageDone) for event in self._events) == len(stages)
        return seconds


def _all_params(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return registry.stage_class(kind).model_validate(values).params()


def _picture() -> Image.Image:
    picture = Image.new("RGB", (768, 768), "white")
    picture.paste("red", (160, 120, 600, 650))
    return picture


class _FullSize(TripoSRModel):
    """The network in full size; `path` is the file of the scene that it answers."""

    def missing(self) -> str | None:
        return None

    def mismatch(self) -> str | None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return self.path, [self.path]

    def dtype_on(self, device: Device) -> str:
        return device.dtype

    def load(self, device: Device) -> Any:
        network = forward.random_network().to(device.name).eval()
        return _Answering(network, Field.from_npz(self.path, device.name))


class _Answering:
    """Runs the network, and answers with a scene. Raises as `TripoSRNetwork`."""

    def __init__(self, network: TSR, scene: Field) -> None:
        self._network = network
        self._scene = scene

    def field(self, image: Image.Image, *, foreground_ratio: float) -> Field:
        return self.field_of_picture(self.picture(image, foreground_ratio=foreground_ratio))

    def picture(self, image: Image.Image, *, foreground_ratio: float) -> NDArray[np.uint8]:
        return np.array(conditioning.condition(image, foreground_ratio))

    def field_of_picture(self, picture: NDArray[np.uint8]) -> Field:
        with torch.inference_mode():
            self._network(torch.as_tensor(picture)[None])
        return self._field_of(self._scene.scene_code)

    def field_of_scene(self, scene_code: NDArray[np.float32]) -> Field:
        return self._field_of(torch.as_tensor(scene_code).to(self._scene.device))

    def _field_of(self, scene_code: torch.Tensor) -> Field:
        return Field(scene_code, self._scene.decoder, self._scene.renderer)
