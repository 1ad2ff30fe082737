"""LoRAs: the time to read one and to change between two, and what a job without any pays for them.

`unet_quotient` compares two UNets of full size that share their weights: one had a LoRA put on,
taken off and forgotten, the other never had any. `control_quotient` compares that one with a third,
which never had any either. They run in turn, and the quotients are those of CPU seconds, since the
clock of a busy machine says little.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch

from benches import options
from dna_pipeline.base.files import sha256_file
from dna_pipeline.providers.stable_diffusion import adapters, tensor_file
from dna_pipeline.providers.stable_diffusion.adapters import Adapters
from dna_pipeline.providers.stable_diffusion.folder import SD15_CONFIG, TEXT, UNET, read_json
from dna_pipeline.weights.loras import Lora, short_hash

SEED = 0
RESIDENT = adapters.MOST_RESIDENT
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "proj_in", "proj_out")
"""Ends of the UNet's layers that kohya's scripts train; of the text encoder they train all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="room for 0.3 GB of files"
    )
    parser.add_argument(
        "--rank", type=options.at_least(1), default=128, help="of the LoRA (%(default)s)"
    )
    parser.add_argument(
        "--pairs", type=options.at_least(0), default=5, help="runs of both UNets (%(default)s)"
    )
    parser.add_argument(
        "--latent", type=options.at_least(8), default=64, help="side of the latent (%(default)s)"
    )
    parser.add_argument(
        "--switches", type=options.at_least(2), default=500, help="on the small model (%(default)s)"
    )


@torch.no_grad()
def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report: `read_s` is that of the first job with a LoRA, `hash_s` that of both hashes;
    `switch_ms` are medians; `growth_mib` is that of the process over the switches."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        report = options.surroundings("cpu") | _full_size(Path(name), args)
        return report | {"small": _small(Path(name), args.switches)}


# --- full size ---


def _full_size(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    torch.default_generator.manual_seed(SEED)
    pipeline, *others = _pipeline()
    files = [_write(folder / f"full{number}.safetensors", pipeline, args.rank) for number in (1, 2)]
    loras = [Lora(path.stem, path, 0.8) for path in files]
    own = Adapters(pipeline)
    report: dict[str, Any] = {"file_mb": round(files[0].stat().st_size / 1e6, 1)}
    _, report["hash_s"], _ = options.timed(lambda: (sha256_file(files[0]), short_hash(files[0])))
    first = [options.timed(lambda lora=lora: _put_on(own, lora)) for lora in loras]
    report |= {"read_s": [s for _, s, _ in first], "read_cpu_s": [cpu for _, _, cpu in first]}
    report["switch_ms"] = _switch_ms(own, loras, 20)
    adapters.MOST_RESIDENT = 1
    _put_on(own, loras[0])  # which forgets the other
    adapters.MOST_RESIDENT = RESIDENT
    return report | _unets([pipeline.unet, *others], args)


def _pipeline() -> tuple[Any, Any, Any]:
    """UNet and text encoder with random weights, and two other UNets with the same tensors."""
    diffusers: Any = import_module("diffusers")
    transformers: Any = import_module("transformers")
    unet_config = read_json(SD15_CONFIG / UNET.name / "config.json")
    with torch.device("meta"):
        unets = [diffusers.UNet2DConditionModel.from_config(unet_config) for _ in range(3)]
        config = transformers.CLIPTextConfig(**read_json(SD15_CONFIG / TEXT.name / "config.json"))
        text = transformers.CLIPTextModel(config)
    for model in (unets[0], text):
        model.to_empty(device="cpu")
        for tensor in model.parameters():
            tensor.normal_(std=0.02)
    for unet in unets[1:]:
        unet.load_state_dict(unets[0].state_dict(), assign=True)
    for model in (*unets, text):
        model.eval().requires_grad_(False)
    return SimpleNamespace(unet=unets[0], text_encoder=text), unets[1], unets[2]


def _write(path: Path, pipeline: Any, rank: int) -> Path:
    """Write a random LoRA in kohya's names and in float16."""
    tensors: dict[str, torch.Tensor] = {}
    parts = (("lora_unet", pipeline.unet, LAYERS), ("lora_te", pipeline.text_encoder, ("",)))
    for start, model, ends in parts:
        for name, module in model.named_modules():
            is_changed = "attentions" in name if start == "lora_unet" else ".layers." in name
            if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d) or not is_changed:
                continue
            if not name.endswith(ends):
                continue
            full = name if start == "lora_unet" or "text_model" in name else f"text_model.{name}"
            layer = f"{start}_{full.replace('.', '_')}"
            outputs, *inputs = module.weight.shape
            down, up = (rank, *inputs), (outputs, rank, *(1 for _ in inputs[1:]))
            tensors[f"{layer}.lora_down.weight"] = torch.randn(down).half() / 100
            tensors[f"{layer}.lora_up.weight"] = torch.randn(up).half()
            tensors[f"{layer}.alpha"] = torch.tensor(1.0)
    tensor_file.write(path, tensors)
    return path


def _unets(unets: list[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Run the UNets in turn: the one that had LoRAs, and two that had none."""
    latent = torch.randn(1, 4, args.latent, args.latent)
    text = torch.randn(1, 77, 768)
    rounds: list[list[float]] = []
    for number in range(args.pairs + 1):
        times = [0.0] * len(unets)
        for index in range(len(unets)):
            index = (index + number) % len(unets)
            unet = unets[index]
            times[index] = options.timed(lambda unet=unet: unet(latent, 500, text))[2]
        rounds.append(times)
        print(times, file=sys.stderr, flush=True)
    rounds = rounds[1:]  # the first call of a process takes longer
    if not rounds:
        return {}
    return {
        "unet_cpu_s": median(used for used, _, _ in rounds),
        "unet_quotient": round(median(used / fresh for used, fresh, _ in rounds), 4),
        "control_quotient": round(median(other / fresh for _, fresh, other in rounds), 4),
    }


# --- the small model ---


def _small(folder: Path, switches: int) -> dict[str, Any]:
    import_module("make_tiny_models").make_all(folder / "models")
    sd = folder / "models/sd-v1-5-local"
    pipeline = import_module("diffusers").StableDiffusionPipeline.from_pretrained(
        sd, local_files_only=True
    )
    number = RESIDENT + 2
    files = [_write(folder / f"small{one}.safetensors", pipeline, 4) for one in range(number)]
    loras = [Lora(path.stem, path, 0.8) for path in files]
    own = Adapters(pipeline)
    for _ in islice(_puts(own, loras), 4 * number):
        pass
    gc.collect()
    before = _resident_mib()
    for _ in islice(_puts(own, loras), switches):
        pass
    gc.collect()
    growth = round(_resident_mib() - before, 2)
    return {"switch_ms": _switch_ms(own, loras[:2], 50), "growth_mib": growth}


def _puts(own: Adapters, loras: list[Lora]) -> Iterator[None]:
    """Put one LoRA after the other on, without an end; more than stay in memory, so that each is
    read anew."""
    while True:
        for lora in loras:
            _put_on(own, lora)
            yield


def _put_on(own: Adapters, lora: Lora) -> None:
    with own.active([lora]):
        pass


def _switch_ms(own: Adapters, loras: list[Lora], number: int) -> float:
    for lora in loras:
        _put_on(own, lora)
    times = [options.timed(lambda lora=lora: _put_on(own, lora))[1] for lora in loras * number]
    return round(1000 * median(times), 2)


def _resident_mib() -> float:
    """Memory of this process now; on other systems than Linux, its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float(options.peak_mib() or 0)
    return pages * 4096 / (1 << 20)
