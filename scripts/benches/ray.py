"""Jobs a second of workers on several Ray nodes, beside bare loops on the same nodes.

All nodes are on this machine, each with one core and one worker of one thread. The loops are bare
actors of Ray, one on each node: each has the model loaded and runs the stages of one job after
another, without daemon, ledger, inbox or outbox. Both take turns, so that whatever else the machine
does meets both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ray_nodes import RayNodes, running_nodes

from benches import options, queue_times, workers
from benches.daemons import started

CONFIG = """\
version: 1
paths: {{data: data, outbox: outbox}}
runtime:
  executor: ray
  device: cpu
  threads_per_worker: 1
  preload: [sd15]
  ray: {{address: "{address}", workers: {nodes}, work_dir: {work_dir}}}
models: {{sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}}}
pipelines:
  restyle: [{{img2img: {{model: sd15, steps: {steps}, strength: 1.0, max_size: {side}}}}}]
inboxes: [{{path: inbox, pipeline: restyle, settle_seconds: 0.3, sidecar_wait_seconds: 0}}]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=options.at_least(1), default=2, help="(%(default)s)")
    parser.add_argument("--work-dir", choices=["shared", "transfer"], default="shared")
    parser.add_argument("--jobs", type=options.at_least(2), default=40, help="a turn (%(default)s)")
    parser.add_argument(
        "--turns", type=options.at_least(1), default=3, help="of each (%(default)s)"
    )
    parser.add_argument("--steps", type=options.at_least(1), default=40, help="of img2img")
    parser.add_argument("--side", type=options.at_least(64), default=256, help="in pixels")
    parser.add_argument("--models", type=Path, help="folder of models; small ones are made else")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` if a job failed or the daemon did not go on."""
    names = [f"node{number}" for number in range(args.nodes)]
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as name, running_nodes(*names) as nodes:
        root = Path(name)
        models = (
            args.models.absolute() if args.models else queue_times.small_models(root / "models")
        )
        config = root / "pipeline.yaml"
        config.write_text(
            CONFIG.format(
                address=nodes.address, nodes=args.nodes, work_dir=args.work_dir, models=models,
                steps=args.steps, side=args.side,
            )
        )  # fmt: skip
        (root / "inbox").mkdir()
        with started(config), _bare_actors(nodes, root, args) as loops:
            turns = _take_turns(root, loops, args)
    return {
        "nodes": args.nodes, "work_dir": args.work_dir, "load": options.load(),
        "job_s": round(statistics.median(turn["bare_s"] for turn in turns) * args.nodes
                       / args.jobs, 3),
        "jobs_s": round(statistics.median(args.jobs / turn["daemon_s"] for turn in turns), 3),
        "bare_jobs_s": round(statistics.median(args.jobs / turn["bare_s"] for turn in turns), 3),
        "of_bare": round(statistics.median(turn["of_bare"] for turn in turns), 3),
        "turns": turns,
    }  # fmt: skip


def _take_turns(root: Path, loops: _Loops, args: argparse.Namespace) -> list[dict[str, float]]:
    queue_times.wait(
        lambda: len(workers.loaded_workers(root)) == args.nodes, "the models are loaded"
    )
    workers.daemon_s(root, args.nodes, "warm", args.side)
    loops.seconds(args.nodes)
    turns: list[dict[str, float]] = []
    for number in range(args.turns):
        bare_s = loops.seconds(args.jobs)
        took_s = workers.daemon_s(root, args.jobs, f"turn{number}", args.side)
        turns.append(
            {
                "daemon_s": round(took_s, 2),
                "bare_s": round(bare_s, 2),
                "of_bare": round(bare_s / took_s, 3),
            }
        )
    return turns


class _Loops:
    """Bare actors, one on each node. The types of Ray are incomplete, so it is loaded untyped."""

    def __init__(self, ray: Any, root: Path, args: argparse.Namespace) -> None:
        from dna_pipeline.execution.worker_child import THREAD_VARIABLES, WORKER_ENV

        self._ray = ray
        variables = WORKER_ENV | dict.fromkeys(THREAD_VARIABLES, "1")
        affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        kind = ray.remote(workers.BareJobs)
        self._actors = [
            kind.options(
                num_cpus=0, scheduling_strategy=affinity(node["NodeID"], soft=False),
                runtime_env={"env_vars": variables},
            ).remote(root, str(number), args.side)
            for number, node in enumerate(ray.nodes())
        ]  # fmt: skip

    def seconds(self, jobs: int) -> float:
        """Seconds that the actors take for so many jobs together, all of them at the same time."""
        shares = [
            len(range(number, jobs, len(self._actors))) for number in range(len(self._actors))
        ]
        calls = [actor.run.remote(share) for actor, share in zip(self._actors, shares, strict=True)]
        return max(self._ray.get(calls))


@contextmanager
def _bare_actors(nodes: RayNodes, root: Path, args: argparse.Namespace) -> Generator[_Loops]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray: Any = import_module("ray")
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield _Loops(ray, root, args)
    finally:
        ray.shutdown()
