"""Figures of a queue through the daemon, beside the same jobs in a bare loop.

The models are small, so that what the daemon adds to a job is seen and not what the models take.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from dna_pipeline.execution.worker.process import load_providers
from dna_pipeline.providers.base import ModelCache
from dna_pipeline.stages import registry
from gpu_checks.jobs import PICTURE, run_order, stage_done
from gpu_checks.measuring import sampled, summary
from gpu_checks.report import Check, Failed
from gpu_checks.setting import ROOT, TINY, Setting

JOBS = {True: 3, False: 24}
LIMIT_S = 100
STAGES: dict[str, dict[str, Any]] = {
    "img2img": {"model": "sd15", "prompt": "the robot", "seed": 7, "max_size": 256},
    "triposr": {"model": "triposr", "preview": False},
}
SIZES: dict[bool, dict[str, dict[str, Any]]] = {
    True: {"img2img": {"steps": 4, "max_size": 64}, "triposr": {"resolution": 24}},
    False: {"img2img": {"steps": 20}, "triposr": {"resolution": 128}},
}


def queue(setting: Setting) -> dict[str, Any]:
    """Seconds of a job through the daemon and in the loop."""
    bare, through = _Span.of_loop(setting), _Span.of_daemon(setting, setting.folder / "studio")
    return {
        "jobs": JOBS[setting.small],
        "loop_s_per_job": round(bare.seconds_per_job, 4),
        "daemon_s_per_job": round(through.seconds_per_job, 4),
        "overhead_s_per_job": round(through.seconds_per_job - bare.seconds_per_job, 4),
    }


def idle_share(setting: Setting) -> dict[str, Any]:
    """Share of time in which the GPU idles while the daemon works a queue off."""
    with sampled(setting) as samples:
        span = _Span.of_daemon(setting, setting.folder / "sampled-studio")
    return summary(samples, span.start, span.end)


@dataclass(frozen=True)
class _Span:
    """Time in which jobs were done, without the first one, which loads the models."""

    start: datetime
    end: datetime
    jobs: int

    @property
    def seconds_per_job(self) -> float:
        return (self.end - self.start).total_seconds() / self.jobs

    @classmethod
    def of_loop(cls, setting: Setting) -> _Span:
        """Jobs done in this process, one after another."""
        jobs, folder = JOBS[setting.small], setting.folder / "loop"
        models = ModelCache(load_providers(_models(setting)), setting.in_dtype("float32"))
        params = {
            type_: registry.stage_class(type_).model_validate(values).params()
            for type_, values in _stages(setting).items()
        }
        stage_done(run_order(models, folder / "first", params))
        start = datetime.now(UTC)
        for number in range(jobs):
            stage_done(run_order(models, folder / str(number), params))
        return cls(start, datetime.now(UTC), jobs)

    @classmethod
    def of_daemon(cls, setting: Setting, studio: Path) -> _Span:
        """Jobs done by the real daemon. Raises `Failed` if one was not completed."""
        jobs, inbox = JOBS[setting.small], studio / "inbox"
        inbox.mkdir(parents=True)
        for number in range(jobs + 1):
            shutil.copyfile(PICTURE, inbox / f"{number:03}.png")
        (studio / "pipeline.yaml").write_text(yaml.safe_dump(_config(setting)))
        _run(studio)
        ends = sorted(_end(path) for path in (studio / "outbox").rglob("manifest.json"))
        if len(ends) != jobs + 1:
            log = (studio / "log").read_text()[-500:]
            raise Failed(f"{len(ends)} of {jobs + 1} jobs were completed: {log}")
        return cls(ends[0], ends[-1], jobs)


def _stages(setting: Setting) -> dict[str, dict[str, Any]]:
    return {name: values | SIZES[setting.small][name] for name, values in STAGES.items()}


def _config(setting: Setting) -> dict[str, Any]:
    return {
        "version": 1,
        "paths": {"data": "data", "outbox": "outbox"},
        "runtime": {"device": setting.in_dtype("float32").name, "dtype": "float32"},
        "models": _models(setting),
        "reuse": "off",
        "pipelines": {"both": [{type_: values} for type_, values in _stages(setting).items()]},
        "inboxes": [{"path": "inbox", "pipeline": "both", "settle_seconds": 0.5}],
    }


def _run(studio: Path) -> None:
    command = [sys.executable, "-m", "dna_pipeline", "--config", str(studio / "pipeline.yaml")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DNA_")}
    with (studio / "log").open("wb") as log:
        subprocess.run(
            [*command, "run"], cwd=ROOT, stdout=log, stderr=log, env=clean, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip


def _end(manifest: Path) -> datetime:
    return datetime.fromisoformat(json.loads(manifest.read_text())["job"]["finished_at"])


def _models(setting: Setting) -> dict[str, dict[str, Any]]:
    return {
        "sd15": {"provider": "diffusers", "path": str(setting.sd_folder)},
        "triposr": {"provider": "triposr", "path": str(TINY)},
    }


CHECKS: tuple[tuple[str, Check], ...] = (("queue", queue), ("queue-idle-share", idle_share))
