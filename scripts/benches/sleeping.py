"""The real daemon and its real worker with a model that sleeps, for `bench.py overlap`.

python -m benches.sleeping CONFIG    the daemon, until SIGTERM
python -m benches.sleeping           its worker

The model gives the picture back as it is, and writes the times at which it began and ended into a
file, so that the share of the time in which the device was busy is known.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from dna_pipeline.base.garbage import collect_seldom
from dna_pipeline.base.logs import configure
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_executor import Executor
from dna_pipeline.operations.daemon.executors import make_executor
from dna_pipeline.operations.daemon.loop import Daemon
from dna_pipeline.providers.base import (
    Device,
    ImageToImage,
    ImageToImageRequest,
    Provider,
    StepCallback,
)
from dna_pipeline.stages import registry

TIMES = "BENCH_SLEEPING_TIMES"
"""Variable of the environment with the path of the file for the times."""


class Sleeping(Provider):
    """An img2img whose work on the device is a sleep."""

    name_in_config: ClassVar[str] = "sleeping"
    stages: ClassVar[frozenset[str]] = frozenset({"img2img"})
    needs_device: ClassVar[bool] = True

    seconds: float = 0.25

    def missing(self) -> str | None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return Path(), []

    def load(self, device: Device) -> ImageToImage:
        return Sleeper(self.seconds)


class Sleeper(ImageToImage):
    """Sleeps in steps, as a sampler waits for its device."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def redraw(
        self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
    ) -> Image.Image:
        begun = time.monotonic()
        for step in range(1, request.steps + 1):
            time.sleep(max(begun + self._seconds * step / request.steps - time.monotonic(), 0))
            on_step(step, request.steps)
        with Path(os.environ[TIMES]).open("a") as file:
            file.write(f"{begun} {time.monotonic()}\n")
        return image

    def remarks(self, request: ImageToImageRequest) -> list[str]:
        return []


def busy_share(times: Path) -> float:
    """The share of the time, from its first picture to its last, in which the model had work."""
    intervals = [tuple(map(float, line.split())) for line in times.read_text().splitlines()]
    whole = max(end for _, end in intervals) - min(begin for begin, _ in intervals)
    return sum(end - begin for begin, end in intervals) / whole


def _executor(config: Config, wake: Callable[[], None]) -> Executor:
    return make_executor(config, wake, module="benches.sleeping")


def _device(device: str, dtype: str) -> Device:  # noqa: ARG001
    return Device("cpu", "float32")


def _daemon(config_file: Path) -> None:
    config = load_config(config_file, {})
    configure(config.logs)
    here = Daemon(config, _executor)

    def stop(_number: int, _frame: Any) -> None:
        here.stop()

    signal.signal(signal.SIGTERM, stop)
    here.run()


def main() -> None:
    collect_seldom()
    registry.PROVIDERS["sleeping"] = "benches.sleeping:Sleeping"
    if len(sys.argv) > 1:
        _daemon(Path(sys.argv[1]))
        return
    from dna_pipeline.execution.worker import process

    process.choose_device = _device
    process.main()


if __name__ == "__main__":
    main()
