"""Time and memory of img2img with random weights in the full size of Stable Diffusion 1.5.

A job is measured whole with fewer steps than it would have, and its time is computed from them: all
steps of a job take the same time. Each round runs float32, the dtype that `auto` stands for, and
float32 again as a control, whose quotient to the first shows how far the machine's load moves
times.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from benches import options
from dna_pipeline.providers.base import Device, ImageToImageRequest
from dna_pipeline.providers.stable_diffusion import tensor_file, vocabulary
from dna_pipeline.providers.stable_diffusion.folder import SD15_CONFIG, TEXT, UNET, VAE, read_json
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
        report = options.surroundings(args.device)
        # First, so that the children have the memory and the CPUs for themselves.
        peaks = {arm: _peak_mib(folder, args, arm) for arm in ("float32", "auto")}
        report |= _compared(folder, args)
        for arm, peak in peaks.items():
            report[arm]["peak_mib"] = peak
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
    rounds = [{arm: job(arms[arm], args) for arm in plan} for _ in range(args.repeat)]
    for arm in plan:
        report[arm] = {
            part: round(median(each[arm][part] for each in rounds), 3) for part in rounds[0][arm]
        }
    whole = [{arm: each[arm]["job"] for arm in plan} for each in rounds]
    report["speedup"] = round(median(each["float32"] / each["auto"] for each in whole), 2)
    report["control_ratio"] = round(median(each["control"] / each["float32"] for each in whole), 2)
    report["psnr_db"] = round(psnr(models["float32"], models["auto"], args.size), 1)
    return report


def load(folder: Path, device: str, arm: str, *, compiled: bool = False) -> StableDiffusion:
    """Load the model in float32, or in the dtype that the program chooses by itself."""
    kind = torch.device(device).type
    usual = "float16" if kind == "cuda" else "float32"
    name = "cuda:0" if device == "cuda" else device
    chosen = Device(name, usual, dtype_is_free=True) if arm == "auto" else Device(name, "float32")
    return Diffusers(path=folder, compile=compiled).load(chosen)


def job(model: StableDiffusion, args: argparse.Namespace) -> Times:
    """Redraw once: seconds before the first step, of a step, behind the last one, of the whole; and
    of a job with all steps, as these times make it."""
    marks: list[float] = []

    def mark(*_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    mark()
    model.redraw(picture(args.size), request(args.steps), mark)
    mark()
    steps = [after - before for before, after in zip(marks[1:-2], marks[2:-1], strict=True)]
    step = median(steps)
    whole = marks[-1] - marks[0]
    return {
        "encode": marks[1] - marks[0] - step,
        "step": step,
        "decode": marks[-1] - marks[-2],
        "whole": whole,
        "job": whole + (STEPS_OF_A_JOB - args.steps) * step,
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
    fine = Image.effect_noise((size, size), 40)
    return Image.merge("RGB", (smooth, fine, smooth.transpose(Image.Transpose.TRANSPOSE)))


@torch.no_grad()
def psnr(exact: StableDiffusion, short: StableDiffusion, size: int) -> float:
    """Peak signal-to-noise ratio in dB of one VAE's picture against that of another."""
    decoded: list[torch.Tensor] = []
    for model in (exact, short):
        pipeline = model._pipeline
        vae = pipeline.vae
        pixels = pipeline.image_processor.preprocess(picture(size)).to(vae.device, vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode()
        decoded.append(vae.decode(latents).sample.float().cpu())
    error = (decoded[0] - decoded[1]).square().mean().sqrt().item()
    extent = (decoded[0].max() - decoded[0].min()).item()
    return 20 * math.log10(extent / error) if error else math.inf


def _peak_mib(folder: Path, args: argparse.Namespace, arm: str) -> int | None:
    """Peak memory of a process that loads a model and runs one step, in MiB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_in_child, (folder, args.device, arm, args.size))


def _peak_in_child(folder: Path, device: str, arm: str, size: int) -> int | None:
    load(folder, device, arm).redraw(picture(size), request(1), lambda step, steps: None)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    return options.peak_mib()


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


os.environ.setdefault("HF_HUB_OFFLINE", "1")
