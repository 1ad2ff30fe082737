"""Jobs a second of several workers on the CPU, beside bare loops that do the same work.

The loops are as many processes as there are workers, with as many threads. Each has the model
loaded and runs the stages of one job after another, without daemon, ledger, inbox or outbox. Both
take turns, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches import options, queue_times
from benches.daemons import ROOT, started

CONFIG = """\
version: 1
paths: {{data: data, outbox: outbox}}
runtime: {{device: [{devices}], threads_per_worker: {threads}, preload: [sd15]}}
models: {{sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}}}
pipelines:
  restyle: [{{img2img: {{model: sd15, steps: {steps}, strength: 1.0, max_size: {side}}}}}]
inboxes: [{{path: inbox, pipeline: restyle, settle_seconds: 0.3, sidecar_wait_seconds: 0}}]
"""

LOOP = "import sys; sys.path.insert(0, {scripts!r}); from benches.workers import loop; loop()"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=options.at_least(1), default=2, help="(%(default)s)")
    parser.add_argument("--threads", type=options.at_least(1), default=1, help="of each worker")
    parser.add_argument("--jobs", type=options.at_least(2), default=40, help="a turn (%(default)s)")
    parser.add_argument(
        "--turns", type=options.at_least(1), default=3, help="of each (%(default)s)"
    )
    parser.add_argument("--steps", type=options.at_least(1), default=40, help="of img2img")
    parser.add_argument("--side", type=options.at_least(64), default=256, help="in pixels")
    parser.add_argument("--models", type=Path, help="folder of models; small ones are made else")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` if a job failed or the daemon did not go on."""
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as name:
        root = Path(name)
        models = (
            args.models.absolute() if args.models else queue_times.small_models(root / "models")
        )
        config = root / "pipeline.yaml"
        config.write_text(
            CONFIG.format(
                devices=", ".join(["cpu"] * args.workers), threads=args.threads, models=models,
                steps=args.steps, side=args.side,
            )
        )  # fmt: skip
        (root / "inbox").mkdir()
        with started(config):
            turns = _take_turns(root, args)
    ratios = [turn["of_bare"] for turn in turns]
    return {
        "workers": args.workers, "threads": args.threads, "load": options.load(),
        "job_s": round(statistics.median(turn["bare_s"] for turn in turns) * args.workers
                       / args.jobs, 3),
        "jobs_s": round(statistics.median(args.jobs / turn["daemon_s"] for turn in turns), 3),
        "bare_jobs_s": round(statistics.median(args.jobs / turn["bare_s"] for turn in turns), 3),
        "of_bare": round(statistics.median(ratios), 3), "turns": turns,
    }  # fmt: skip


def _take_turns(root: Path, args: argparse.Namespace) -> list[dict[str, float]]:
    queue_times.wait(lambda: len(loaded_workers(root)) == args.workers, "the models are loaded")
    daemon_s(root, args.workers, "warm", args.side)
    loops = [_Loop(root, number, args) for number in range(args.workers)]
    turns: list[dict[str, float]] = []
    try:
        _bare_s(loops, args.workers)
        for number in range(args.turns):
            bare_s = _bare_s(loops, args.jobs)
            took_s = daemon_s(root, args.jobs, f"turn{number}", args.side)
            turns.append(
                {
                    "daemon_s": round(took_s, 2),
                    "bare_s": round(bare_s, 2),
                    "of_bare": round(bare_s / took_s, 3),
                }
            )
    finally:
        for each in loops:
            each.close()
    return turns


def loaded_workers(root: Path) -> list[str]:
    """Names of the workers that have the model and wait for jobs."""
    status: dict[str, Any] = json.loads((root / "outbox" / "status.json").read_text())
    workers = status["workers"]
    return [worker["worker"] for worker in workers if worker["models"] and not worker["jobs"]]


# --- the daemon ---


def daemon_s(root: Path, jobs: int, name: str, side: int) -> float:
    """Seconds from the start of the first of so many jobs to the end of the last."""
    from PIL import Image

    def drop() -> int:
        for number in range(jobs):
            colour = (number * 7 % 256, sum(name.encode()) % 256, 90)
            Image.new("RGB", (side, side), colour).save(root / "inbox" / f"{name}-{number:03}.png")
        return jobs

    return queue_times.daemon_s(root, drop, name)


# --- bare loops ---


class _Loop:
    """A process that runs jobs one after another; it tells how long so many took."""

    def __init__(self, root: Path, number: int, args: argparse.Namespace) -> None:
        from dna_pipeline.execution.worker_child import THREAD_VARIABLES, WORKER_ENV

        threads = dict.fromkeys(THREAD_VARIABLES, str(args.threads))
        command = [sys.executable, "-c", LOOP.format(scripts=str(ROOT / "scripts"))]
        self._process = subprocess.Popen(
            [*command, str(root), str(number), str(args.side)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | WORKER_ENV | threads,
        )  # fmt: skip

    def begin(self, jobs: int) -> None:
        assert self._process.stdin is not None
        print(jobs, file=self._process.stdin, flush=True)

    def seconds(self) -> float:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise ValueError("a bare loop ended early")
        return float(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _bare_s(loops: Sequence[_Loop], jobs: int) -> float:
    """Seconds that the loops take for so many jobs together, all of them at the same time."""
    for number, each in enumerate(loops):
        each.begin(len(range(number, jobs, len(loops))))
    return max(each.seconds() for each in loops)


class BareJobs:
    """Runs jobs one after another in this process, with the model loaded, and nothing beside them.

    Args:
        root: the folder of the bench, with its pipeline.yaml.
        number: of the loop, for its own files.
        side: of the image, in pixels.
    """

    def __init__(self, root: Path, number: str, side: int) -> None:
        from PIL import Image

        from dna_pipeline.base.files import sha256_file
        from dna_pipeline.config.loader import load_config
        from dna_pipeline.execution.protocol import JobFailed, OrderInput
        from dna_pipeline.execution.worker import process, runner
        from dna_pipeline.providers.base import ModelCache
        from dna_pipeline.weights.fingerprint import Fingerprints

        config = load_config(root / "pipeline.yaml", {})
        device = process.choose_device("cpu", "auto")
        fingerprints = Fingerprints(config.data)
        self._problems: list[JobFailed] = []

        def note(event: object) -> None:
            if isinstance(event, JobFailed):
                self._problems.append(event)

        self._context = runner.WorkerContext(
            models=ModelCache(config.models, device), emit=note, is_cancelled=lambda _: False,
            must_yield=lambda _: False, stage_timeout_s=queue_times.LIMIT_S,
            release_memory=lambda: None,
            fingerprint=fingerprints.of, environment=process.environment(device), data=config.data,
            licence=fingerprints.licence, hash_file=fingerprints.sha256,
        )  # fmt: skip
        self._folder = root / f"bare-{number}"
        self._folder.mkdir()
        image = self._folder / "image.png"
        Image.new("RGB", (side, side), (90, 120, 30)).save(image)
        self._source = OrderInput("image", str(image), sha256_file(image))
        (self._spec,) = config.pipelines["restyle"].stages
        self._done = 0

    def run(self, jobs: int) -> float:
        """Run so many jobs; give their seconds. Raises `ValueError` if one fails."""
        from dna_pipeline.execution.protocol import Order, StageOrder
        from dna_pipeline.execution.worker import runner

        begun, spec = time.perf_counter(), self._spec
        for _ in range(jobs):
            self._done += 1
            stage = StageOrder(spec.id, spec.type, spec.params | {"seed": self._done}, "image")
            work = str(self._folder / str(self._done))
            order = Order(f"job-{self._done}", 1, (stage,), (self._source,), work)
            runner.run(order, self._context)
        if self._problems:
            raise ValueError(f"a job failed: {self._problems[0].failure}")
        return time.perf_counter() - begun


def loop() -> None:
    """Entry point of a bare loop: reads numbers of jobs, runs them, writes their seconds."""
    out = sys.stdout
    sys.stdout = sys.stderr
    jobs = BareJobs(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    for line in sys.stdin:
        print(jobs.run(int(line)), file=out, flush=True)
