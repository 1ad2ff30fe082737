"""Time and memory of img2img with random weights in the full size of Stable Diffusion 1.5.

A job is measured whole with fewer steps than it would have, and its time is computed from them: all
steps of a job take the same time. Each round runs float32, the dtype that `auto` stands for, and
float32 again as a control, whose quotient to the first shows how far the machine's load moves
times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from psnr import psnr_db

from benches import options
from benches.daemons import ROOT
from dna_pipeline.providers.base import Device, ImageToImageRequest
from dna_pipeline.providers.stable_diffusion import tensor_file, vocabulary
from dna_pipeline.providers.stable_diffusion.folder import (
    SD15_CONFIG,
    TEXT,
    UNET,
    VAE,
    SdFolder,
    read_json,
)
from dna_pipeline.providers.stable_diffusion.provider import Diffusers, StableDiffusion

SEED = 0
STEPS_OF_A_JOB = 15
"""int(20 x 0.75), the defaults of the stage."""

Times = dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="room for 2.1 GB of files"
    )
    parser.add_argument("--path", type=Path, help="a model's folder, in place of random weights")
    parser.add_argument("--size", type=int, default=512, help="side in pixels (%(default)s)")
    parser.add_argument(
        "--steps", type=options.at_least(2), default=3, help="that run (%(default)s)"
    )
    parser.add_argument(
        "--repeat", type=options.at_least(1), default=3, help="rounds (%(default)s)"
    )
    parser.add_argument("--compile", action="store_true", help="and `auto` compiled by torch")
    options.add_device(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report: medians of seconds; `psnr_db` of the VAE in `auto` against float32, in the
    range of float32's own values; peaks of processes that load a model and run one step."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = args.path or write_model(Path(name))
        report = options.surroundings(args.device) | _compared(folder, args)
        for arm in ("float32", "auto"):
            report[arm]["peak_mib"] = _peak_mib(folder, args, arm)
        return report


def _compared(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    models = {arm: load(folder, args.device, arm) for arm in ("float32", "auto")}
    plan = ["float32", "auto", "control"]
    arms = {"float32": models["float32"], "auto": models["auto"], "control": models["float32"]}
    report: dict[str, Any] = {"auto_is": models["auto"].computes_on.dtype}
    if args.compile:
        models["compiled"] = arms["compiled"] = load(folder, args.device, "auto", compiled=True)
        plan.append("compiled")
        report["first_compiled_job_s"] = job(arms["compiled"], args)["whole"]
    for model in models.values():  # the first call of a process takes longer
        job(model, argparse.Namespace(**{**vars(args), "size": 64, "steps": 2}))
    rounds = [_round(arms, plan, args) for _ in range(args.repeat)]
    for arm in plan:
        report[arm] = {
            part: round(median(each[arm][part] for each in rounds), 3) for part in rounds[0][arm]
        }
    for key, ending in (("job", ""), ("job_cpu_s", "_cpu")):
        report[f"speedup{ending}"] = _quotient(rounds, key, "float32", "auto")
        report[f"control{ending}"] = _quotient(rounds, key, "float32", "control")
    report["psnr_db"] = round(psnr(folder, args, report["auto_is"]), 1)
    return report


def _quotient(rounds: list[dict[str, Times]], key: str, arm: str, other: str) -> float:
    """Median, over the rounds, of one arm's time divided by another's."""
    return round(median(each[arm][key] / each[other][key] for each in rounds), 2)


def _round(
    arms: dict[str, StableDiffusion], plan: list[str], args: argparse.Namespace
) -> dict[str, Times]:
    """Run each arm once; a round takes minutes, so its times go to standard error at once."""
    times = {arm: job(arms[arm], args) for arm in plan}
    print(times, file=sys.stderr, flush=True)
    return times


def load(folder: Path, device: str, arm: str, *, compiled: bool = False) -> StableDiffusion:
    """Load the model in float32, or in the dtype that the program chooses by itself."""
    kind = torch.device(device).type
    usual = "float16" if kind == "cuda" else "float32"
    name = "cuda:0" if device == "cuda" else device
    chosen = Device(name, usual, dtype_is_free=True) if arm == "auto" else Device(name, "float32")
    return Diffusers.model_validate({"path": folder, "compile": compiled}).load(chosen)


def job(model: StableDiffusion, args: argparse.Namespace) -> Times:
    """Redraw once: seconds before the first step, of a step, behind the last one, of the whole; and
    of a job with all steps, as these times make it.

    `job_cpu_s` are the same job's CPU seconds, which tell the work also on a machine that others
    use meanwhile.
    """
    marks: list[float] = []
    cpu: list[float] = []

    def mark(*_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        cpu.append(time.process_time())

    mark()
    model.redraw(picture(args.size), request(args.steps), mark)
    mark()
    step, cpu_of_step = (
        median(after - before for before, after in pairwise(each[1:-1])) for each in (marks, cpu)
    )
    more_steps = STEPS_OF_A_JOB - args.steps
    whole = marks[-1] - marks[0]
    return {
        "encode": marks[1] - marks[0] - step,
        "step": step,
        "decode": marks[-1] - marks[-2],
        "whole": whole,
        "job": whole + more_steps * step,
        "job_cpu_s": cpu[-1] - cpu[0] + more_steps * cpu_of_step,
    }


def request(steps: int) -> ImageToImageRequest:
    """Make the request whose `steps` all run."""
    return ImageToImageRequest(
        prompt="a clay figurine, studio light",
        negative_prompt="blurry",
        seed=SEED,
        steps=steps,
        guidance_scale=7.5,
        strength=1.0,
        sampler="euler",
        schedule="normal",
    )


def picture(size: int) -> Image.Image:
    """Make a picture with smooth parts and fine ones."""
    smooth = Image.radial_gradient("L").resize((size, size))
    rng = np.random.default_rng(SEED)
    fine = Image.fromarray(rng.integers(0, 256, (size, size), np.uint8))
    return Image.merge("RGB", (smooth, fine, smooth.transpose(Image.Transpose.TRANSPOSE)))


@torch.no_grad()
def psnr(folder: Path, args: argparse.Namespace, dtype: str) -> float:
    """Peak signal-to-noise ratio in dB of the VAE's picture in a dtype, against that in float32."""
    diffusers: Any = import_module("diffusers")
    decoded: list[torch.Tensor] = []
    for chosen in (torch.float32, getattr(torch, dtype)):
        vae = SdFolder(folder).model(VAE, diffusers.AutoencoderKL, chosen).to(args.device)
        if chosen.itemsize == 2:
            vae.to(memory_format=torch.channels_last)
        values = torch.tensor(np.asarray(picture(args.size), np.float32) / 127.5 - 1)
        pixels = values.permute(2, 0, 1)[None].to(args.device, chosen)  # (1, 3, size, size)
        latents = vae.encode(pixels).latent_dist.mode()
        decoded.append(vae.decode(latents).sample.float().cpu())
    exact, ours = (values.numpy() for values in decoded)
    return psnr_db(ours, exact, float(np.ptp(exact)))


def _peak_mib(folder: Path, args: argparse.Namespace, arm: str) -> int:
    """Peak memory of a process that loads a model and runs one step, in MiB."""
    command = [sys.executable, "-m", "benches.img2img", str(folder), args.device, arm]
    paths = [ROOT, ROOT / "scripts", os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    output = subprocess.check_output(
        [*command, str(args.size)], env=environment, stderr=subprocess.DEVNULL
    )
    return int(output)


def _child(folder: str, device: str, arm: str, size: str) -> None:
    load(Path(folder), device, arm).redraw(picture(int(size)), request(1), _ignore)
    is_gpu = torch.cuda.is_available()
    print(torch.cuda.max_memory_allocated() >> 20 if is_gpu else options.peak_mib())


@torch.no_grad()
def write_model(folder: Path) -> Path:
    """Write random weights of full size in float16, as a Diffusers folder, and return its path."""
    target = folder / "sd"
    for path in SD15_CONFIG.rglob("*.json"):
        copy = target / path.relative_to(SD15_CONFIG)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    vocabulary.write(target / "tokenizer")
    torch.default_generator.manual_seed(SEED)
    diffusers: Any = import_module("diffusers")
    transformers: Any = import_module("transformers")
    text = transformers.CLIPTextConfig(**read_json(SD15_CONFIG / TEXT.name / "config.json"))
    makers = {
        UNET: lambda: _of_config(diffusers.UNet2DConditionModel, UNET.name),
        VAE: lambda: _of_config(diffusers.AutoencoderKL, VAE.name),
        TEXT: lambda: transformers.CLIPTextModel(text),
    }
    for part, make in makers.items():
        tensors = make().half().state_dict()
        tensor_file.write(target / part.name / f"{part.weights}.safetensors", tensors)
    return target


def _of_config(cls: Any, name: str) -> Any:
    return cls.from_config(read_json(SD15_CONFIG / name / "config.json"))


def _ignore(_step: int, _steps: int) -> None:
    pass


if __name__ == "__main__":
    _child(*sys.argv[1:])
