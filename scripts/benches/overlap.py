"""How busy the device is while jobs wait, and how jobs that overlap compare with others.

`sleep`: the model sleeps 250 ms a picture, all else is real: pictures with an alpha are dropped,
decoded, encoded, hashed and published. The share of the time in which the model had work.

`restyle`: a queue of img2img jobs with a small model, beside a plain loop of Diffusers that decodes
each picture, redraws it and saves it as PNG at the same level. Both take turns.

`mesh`: jobs from a picture to a mesh with small models, by a daemon whose worker has one job at
once, beside one whose worker has as many as by default, and one of another version of the program.
They take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benches import options, queue_times, sleeping
from benches.daemons import ROOT, started

PARTS = ("sleep", "restyle", "mesh")

HEAD = """\
version: 1
paths: {{data: data, outbox: outbox}}
runtime: {{device: cpu{runtime}}}
inboxes: [{{path: inbox, pipeline: p, settle_seconds: 0.3, sidecar_wait_seconds: 0}}]
models:
"""
SLEEP = """\
  m: {{provider: sleeping, seconds: {seconds}}}
pipelines:
  p: [{{img2img: {{model: m, steps: 10, strength: 1.0}}}}]
"""
RESTYLE = """\
  m: {{provider: diffusers, path: {models}/sd-v1-5-local}}
pipelines:
  p: [{{img2img: {{model: m, prompt: clay, steps: {steps}, strength: 1.0, max_size: {side}}}}}]
"""
MESH = """\
  m: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  matte: {{provider: border_key}}
  t: {{provider: triposr, path: {models}/triposr-base}}
pipelines:
  p:
    - img2img: {{model: m, prompt: clay, steps: {steps}, strength: 0.3, max_size: {side}}}
    - remove_background: {{model: matte}}
    - triposr: {{model: t}}
"""

SPIN = "GOMP_SPINCOUNT"
"""Variable that says how long OpenMP's threads spin. The plain loop gets the worker's value: by
default its threads take the cores from all other programs, the daemon's among them."""

LOOP = "import sys; sys.path.insert(0, {scripts!r}); from benches.overlap import loop; loop()"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=PARTS, action="append", help="only these; again for more")
    parser.add_argument("--jobs", type=options.at_least(2), default=60, help="of `sleep`")
    parser.add_argument("--seconds", type=float, default=0.25, help="that a picture sleeps")
    parser.add_argument(
        "--turns", type=options.at_least(1), default=3, help="of each (%(default)s)"
    )
    parser.add_argument("--models", type=Path, help="folder of models; small ones are made else")
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", action="append", default=[],
        help="a checkout of another version, whose daemon takes its turns of `mesh` too; again "
        "for more",
    )  # fmt: skip


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` if a job failed or the daemon did not go on."""
    parts = args.part or PARTS
    report: dict[str, Any] = {"load": options.load()}
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as name:
        root = Path(name)
        if "sleep" in parts:
            report["sleep"] = _sleep(root / "sleep", args)
        if parts != ["sleep"]:
            own = args.models
            models = own.absolute() if own else queue_times.small_models(root / "models")
            if "restyle" in parts:
                report["restyle"] = _restyle(root / "restyle", models, args.turns)
            if "mesh" in parts:
                report["mesh"] = _mesh(root / "mesh", models, args)
    return report


class Site:
    """Folders of a daemon, and pictures to drop there.

    Args:
        picture: makes a picture from its name; no two names have the same.
        checkout: folder of the daemon's program.
    """

    def __init__(
        self,
        root: Path,
        config: str,
        picture: Callable[[str], Image.Image],
        checkout: Path = ROOT,
    ) -> None:
        self.root = root
        self.checkout = checkout
        self._picture = picture
        (root / "inbox").mkdir(parents=True)
        self.config = root / "pipeline.yaml"
        self.config.write_text(config)

    def seconds(self, name: str, jobs: int) -> float:
        """Seconds that the daemon takes for so many new pictures."""

        def drop() -> int:
            for number in range(jobs):
                picture = self._picture(f"{name}{number}")
                picture.save(self.root / "inbox" / f"{name}-{number:03}.png")
            return jobs

        return queue_times.daemon_s(self.root, drop, name, self.checkout)


def photograph(seed: str, side: int, kind: str = "whole") -> Image.Image:
    """A photograph of that side with a few pixels that no other seed gives.

    Args:
        kind: `whole`; `faded`, with an alpha that grows from top to bottom; `object`, the
            demo's drawn rocket before a plain background.
    """
    if kind == "object":
        picture = Image.open(ROOT / "scripts" / "demo_files" / "rocket.png").convert("RGB")
    else:
        data: Any = import_module("skimage.data")
        picture = Image.fromarray(data.astronaut())
    picture = picture.resize((side, side))
    # Not at the edge, which `border_key` takes for the background.
    random = np.random.default_rng(list(seed.encode()))
    noise = random.integers(0, 256, (2, side // 4, 3), np.uint8)
    picture.paste(Image.fromarray(noise), (3 * side // 8, side // 2))
    if kind == "faded":
        rows = np.linspace(0, 255, side).astype(np.uint8)[:, None].repeat(side, axis=1)
        picture.putalpha(Image.fromarray(rows))
    return picture


# --- sleep ---


def _sleep(root: Path, args: argparse.Namespace) -> dict[str, Any]:
    shares: dict[int, list[float]] = {3: [], 1: []}
    for at_once in list(shares) * args.turns:
        folder = root / f"{at_once}-{len(shares[at_once])}"
        config = HEAD.format(runtime=_at_once(at_once)) + SLEEP.format(seconds=args.seconds)
        site = Site(folder, config, partial(photograph, side=768, kind="faded"))
        times = folder / "times.txt"
        with _sleeping_daemon(site.config, times):
            site.seconds("picture", args.jobs)
        shares[at_once].append(sleeping.busy_share(times))
    return {
        "jobs": args.jobs, "busy": round(statistics.median(shares[3]), 4),
        "busy_one_at_once": round(statistics.median(shares[1]), 4),
        "all": [round(share, 4) for share in shares[3]],
    }  # fmt: skip


@contextmanager
def _sleeping_daemon(config: Path, times: Path) -> Generator[None]:
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    added = {"PYTHONPATH": paths, sleeping.TIMES: str(times)}
    with started(config, module="benches.sleeping", env=os.environ | added):
        yield


# --- restyle ---

RESTYLE_JOBS = 12
RESTYLE_STEPS = 10
RESTYLE_SIDE = 512


def _restyle(root: Path, models: Path, turns: int) -> dict[str, Any]:
    config = HEAD.format(runtime=_at_once(3)) + RESTYLE.format(
        models=models, steps=RESTYLE_STEPS, side=RESTYLE_SIDE
    )
    site = Site(root, config, partial(photograph, side=RESTYLE_SIDE))
    rows: list[tuple[float, float]] = []
    with started(site.config), _plain_loop(root, models) as plain_s:
        site.seconds("warm", 2)
        plain_s(2)
        for turn in range(turns):
            plain = plain_s(RESTYLE_JOBS)
            rows.append((plain, site.seconds(f"turn{turn}", RESTYLE_JOBS)))
    return {
        "job_s": round(statistics.median(ours for _, ours in rows) / RESTYLE_JOBS, 3),
        "plain_job_s": round(statistics.median(plain for plain, _ in rows) / RESTYLE_JOBS, 3),
        "of_plain": round(statistics.median(plain / ours for plain, ours in rows), 3),
        "all": [round(plain / ours, 3) for plain, ours in rows],
    }


@contextmanager
def _plain_loop(root: Path, models: Path) -> Generator[Callable[[int], float]]:
    """A function that gives the seconds in which a plain loop of Diffusers does so many jobs."""
    from dna_pipeline.execution.worker_child import WORKER_ENV

    folder = root / "plain"
    folder.mkdir()
    for number in range(RESTYLE_JOBS):
        photograph(f"plain{number}", RESTYLE_SIDE).save(folder / f"{number}.png")
    command = [sys.executable, "-c", LOOP.format(scripts=str(ROOT / "scripts"))]
    process = subprocess.Popen(
        [*command, str(folder), str(models / "sd-v1-5-local")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {SPIN: WORKER_ENV[SPIN]},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    sent, answers = process.stdin, process.stdout

    def seconds(jobs: int) -> float:
        print(jobs, file=sent, flush=True)
        if not (line := answers.readline()):
            raise ValueError("the plain loop ended early")
        return float(line)

    try:
        yield seconds
    finally:
        sent.close()
        process.wait()


def loop() -> None:
    """Entry point of the plain loop: reads numbers of jobs, does them, writes their seconds."""
    import torch

    from dna_pipeline.media.images import PNG_OPTIONS

    folder, out = Path(sys.argv[1]), sys.stdout
    sys.stdout = sys.stderr
    diffusers: Any = import_module("diffusers")
    pipeline = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(
        sys.argv[2], safety_checker=None, local_files_only=True
    )
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        for number in range(int(line)):
            with Image.open(folder / f"{number}.png") as file:
                picture = file.convert("RGB")
            result = pipeline(
                "clay", image=picture, strength=1.0, num_inference_steps=RESTYLE_STEPS,
                guidance_scale=7.5, generator=torch.Generator().manual_seed(number),
            ).images[0]  # fmt: skip
            result.save(folder / f"{number}.out.png", **PNG_OPTIONS)
        print(time.perf_counter() - begun, file=out, flush=True)


# --- mesh ---

MESH_JOBS = 20


def _mesh(root: Path, models: Path, args: argparse.Namespace) -> dict[str, Any]:
    others = [(f"other {number}", folder.absolute()) for number, folder in enumerate(args.beside)]
    sites = {"overlapping": _mesh_site(root / "overlapping", models, _at_once(3))}
    sites["one_at_once"] = _mesh_site(root / "one_at_once", models, _at_once(1))
    for name, checkout in others:
        sites[name] = _mesh_site(root / name, models, "", checkout)
    rows: list[dict[str, float]] = []
    with ExitStack() as daemons:
        for site in sites.values():
            daemons.enter_context(started(site.config, checkout=site.checkout))
        for site in sites.values():
            site.seconds("warm", 2)
        for turn in range(args.turns):
            rows.append(
                {key: site.seconds(f"turn{turn}", MESH_JOBS) for key, site in sites.items()}
            )
    report: dict[str, Any] = {"jobs_an_hour": _rate(row["overlapping"] for row in rows)}
    for key in list(sites)[1:]:
        ratios = [row[key] / row["overlapping"] for row in rows]
        report[key] = {
            "jobs_an_hour": _rate(row[key] for row in rows),
            "ratio": round(statistics.median(ratios), 3),
            "all": [round(ratio, 3) for ratio in ratios],
        }
        if key in dict(others):
            report[key]["folder"] = str(dict(others)[key])
    return report


def _mesh_site(root: Path, models: Path, runtime: str, checkout: Path = ROOT) -> Site:
    config = HEAD.format(runtime=runtime)
    config += MESH.format(models=models, steps=RESTYLE_STEPS, side=RESTYLE_SIDE)
    return Site(root, config, partial(photograph, side=RESTYLE_SIDE, kind="object"), checkout)


def _at_once(jobs: int) -> str:
    return f", jobs_per_worker: {jobs}"


def _rate(seconds: Iterable[float]) -> int:
    return round(MESH_JOBS * 3600 / statistics.median(seconds))
