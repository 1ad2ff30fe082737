"""The time left of a mixed queue that `status` estimates, compared with the true time."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from benches import options

ROOT = Path(__file__).parents[2]
CONFIG = """\
version: 1
paths: {data: data, outbox: outbox}
runtime: {device: %s}
models:
  sd15: {provider: diffusers, path: %s/sd-v1-5-local}
  triposr: {provider: triposr, path: %s/triposr-base}
  key: {provider: border_key}
reuse: off
pipelines:
  restyle: [{img2img: {model: sd15}}]
  mesh: [{remove_background: {model: key}}, {triposr: {model: triposr}}]
inboxes: [{path: inbox, pipeline: restyle, settle_seconds: 0.5}]
"""
MIXES: tuple[tuple[int, dict[str, Any]], ...] = (
    (256, {"img2img": {"steps": 8, "max_size": 128}}),
    (512, {"img2img": {"steps": 12, "max_size": 192}}),
    (384, {"img2img": {"steps": 24, "strength": 0.5, "max_size": 256}}),
    (256, {"pipeline": "mesh", "triposr": {"resolution": 32}}),
    (512, {"pipeline": "mesh", "triposr": {"resolution": 64}}),
    (384, {"pipeline": "mesh", "triposr": {"resolution": 96}}),
)
"""Kinds of jobs: side of the picture in pixels, and its sidecar."""

MARKS = {"a third": 1 / 3, "half": 1 / 2, "two thirds": 2 / 3}
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """Content of the status file at one time; times in seconds."""

    at: float
    ended: int
    eta_s: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=50, help="how many (%(default)s)")
    parser.add_argument("--models", type=Path, help="folder of models; small ones are made else")
    parser.add_argument("--device", default="auto", help="as in pipeline.yaml (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of jobs (%(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` if the daemon did not complete all jobs."""
    if args.jobs < 2 * len(MIXES):
        raise ValueError(f"--jobs: at least {2 * len(MIXES)}")
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as name:
        studio = Path(name)
        models = args.models.absolute() if args.models else _small_models(studio / "models")
        (studio / "pipeline.yaml").write_text(CONFIG % (args.device, models, models))
        _drop(studio / "inbox", args.jobs, random.Random(args.seed))
        samples = _watch(studio, args.jobs)
    errors = [(sample, _error(sample, samples[-1].at)) for sample in samples[:-1]]
    return {
        "jobs": args.jobs,
        "seconds": round(samples[-1].at, 1),
        "load": options.load(),
        "error_percent": {name: _at(errors, part * args.jobs) for name, part in MARKS.items()},
        "worst_percent": _worst(errors, args.jobs),
    }


def _small_models(folder: Path) -> Path:
    # In a process of its own, since torch's memory would stay in this one and the daemon lack it.
    script = ROOT / "scripts" / "make_tiny_models.py"
    subprocess.run(
        [sys.executable, str(script), "--out", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    return folder


def _drop(inbox: Path, jobs: int, dice: random.Random) -> None:
    inbox.mkdir()
    order = [MIXES[number % len(MIXES)] for number in range(jobs)]
    dice.shuffle(order)
    for number, (side, sidecar) in enumerate(order):
        image = Image.new("RGB", (side, side), "white")
        corner = dice.uniform(0.1, 0.3) * side
        box = (corner, corner, side - corner, side - corner)
        ImageDraw.Draw(image).ellipse(box, fill=(200, dice.randrange(120), 30))
        (inbox / f"{number:03}.yaml").write_text(yaml.safe_dump(sidecar))
        image.save(inbox / f"{number:03}.png")


def _watch(studio: Path, jobs: int) -> list[Sample]:
    """Sample the status file until the last job has ended."""
    command = [sys.executable, "-m", "dna_pipeline", "run"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DNA_")}
    with (studio / "log").open("wb") as log:
        daemon = subprocess.Popen(
            command, cwd=studio, stdout=log, stderr=log, env=environment | {"PYTHONPATH": path}
        )
        try:
            samples = _listen(studio / "outbox" / "status.json", jobs, daemon)
        finally:
            daemon.terminate()
            daemon.wait()
    if not samples or samples[-1].ended < jobs:
        raise ValueError("the daemon ended early: " + (studio / "log").read_text()[-2000:])
    return samples


def _listen(status: Path, jobs: int, daemon: subprocess.Popen[bytes]) -> list[Sample]:
    samples: list[Sample] = []
    started = time.monotonic()
    while not samples or samples[-1].ended < jobs:
        has_exited = daemon.poll() is not None
        time.sleep(POLL_S)
        report = json.loads(status.read_text()) if status.exists() else None
        if report is not None:
            failed = sum(report["queue"].get("failed", {}).values())
            if failed:
                raise ValueError(f"{failed} jobs failed: {report['recent']}")
            ended = sum(report["queue"].get("completed", {}).values())
            samples.append(Sample(time.monotonic() - started, ended, report["queue_eta_s"]))
        if has_exited:
            break
    return samples


def _error(sample: Sample, end: float) -> float | None:
    """Error in per cent of the true time left; above 0 if the estimate was too long."""
    if sample.eta_s is None:
        return None
    return 100 * (sample.eta_s / (end - sample.at) - 1)


def _at(errors: list[tuple[Sample, float | None]], ended: float) -> float | None:
    """Give the error at the time when `ended` jobs had ended."""
    error = next((error for sample, error in errors if sample.ended >= ended), None)
    return None if error is None else round(error, 1)


def _worst(errors: list[tuple[Sample, float | None]], jobs: int) -> float | None:
    """Give the largest error between a third and nine tenths of the jobs. Later ones are left out,
    since a small time left makes errors in per cent large."""
    relevant = [e for s, e in errors if e is not None and jobs / 3 <= s.ended <= 0.9 * jobs]
    return round(max(relevant, key=abs), 1) if relevant else None
