"""The real daemon with a cheap worker: a real process, the real runner, but no torch.

python -m stand_in CONFIG               watch, until SIGTERM
python -m stand_in CONFIG --until-idle  run all waiting jobs, then end
python -m stand_in do COMMAND...        a command of dna-pipeline that knows the stage `stand_in`
python -m stand_in                      the worker, as the daemon starts it

Its one stage, `stand_in`, appends its id to the image, so that a result shows if each stage ran
exactly once, on whole files. With `fails: true` the stage ends in `empty_foreground` instead.
With `mask: file` it takes the mask beside an image, if there is one; a path names one that has to
be there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from dna_pipeline.base.errors import EmptyForeground
from dna_pipeline.base.files import Artifact, write_bytes
from dna_pipeline.base.garbage import collect_seldom
from dna_pipeline.base.logs import configure
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_executor import Executor
from dna_pipeline.operations.daemon.executors import make_executor
from dna_pipeline.operations.daemon.loop import Daemon
from dna_pipeline.providers.base import Device
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Stage, StageContext

STEPS = 4


class StandIn(Stage):
    """Waits for `seconds`, in steps, then copies the image and appends its id."""

    type: ClassVar[str] = "stand_in"
    needs_model: ClassVar[bool] = False
    companion_roles: ClassVar[frozenset[str]] = frozenset({"mask"})
    seconds: float = 0.0
    fails: bool = False
    mask: str = "none"

    def companions(self) -> dict[str, str]:
        return {} if self.mask in ("none", "file") else {"mask": self.mask}

    def run(self, ctx: StageContext) -> list[Artifact]:
        for step in range(STEPS):
            time.sleep(self.seconds / STEPS)
            ctx.on_step(step + 1, STEPS)
        if self.fails:
            raise EmptyForeground("its YAML says `fails: true`")
        assert ctx.companions.keys() == self.companions().keys()
        assert all(path.stat().st_size for path in ctx.companions.values())
        path = ctx.path(".png")
        write_bytes(path, ctx.source.read_bytes() + trace(ctx.stage_id))
        return [Artifact(path, "image", "image/png")]


def trace(stage_id: str) -> bytes:
    """Give the bytes that the stage with that id appends to its file."""
    return f"\n{stage_id}".encode()


def _executor(config: Config, wake: Callable[[], None]) -> Executor:
    return make_executor(config, wake, module="stand_in")


def daemon(config_file: Path, *, until_idle: bool) -> None:
    """Run the daemon with that configuration."""
    config = load_config(config_file, {})
    configure(config.logs)
    here = Daemon(config, _executor)

    def stop(_number: int, _frame: Any) -> None:
        here.stop()

    signal.signal(signal.SIGTERM, stop)
    here.run(until_idle=until_idle)


def environment(scripts: Path) -> dict[str, str]:
    """Build an environment in which this module and the package can be run with `-m`."""
    paths = [str(scripts), str(scripts.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _device(device: str, dtype: str) -> Device:  # noqa: ARG001
    return Device("cpu", "float32")


def _environment(device: Device) -> dict[str, Any]:
    return {"stand_in": True, "device": device.name, "gpu": None}


def worker() -> None:
    """Run the worker, with a device that needs no torch."""
    from dna_pipeline.execution.worker import process  # the daemon has no need of it

    process.choose_device = _device
    process.environment = _environment
    process.main()


def main() -> None:
    collect_seldom()  # as `dna_pipeline/__main__.py` does
    registry.STAGES["stand_in"] = "stand_in:StandIn"
    if sys.argv[1:2] == ["do"]:
        from dna_pipeline.interfaces.cli.main import main as command

        del sys.argv[1]
        command()
        return
    if len(sys.argv) > 1:
        daemon(Path(sys.argv[1]), until_idle="--until-idle" in sys.argv)
        return
    worker()


if __name__ == "__main__":
    main()
