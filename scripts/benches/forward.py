"""Time from a picture to scene codes, with random weights in the published model's full size."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benches import options
from dna_pipeline.providers.triposr import weights
from dna_pipeline.providers.triposr.config import FULL
from dna_pipeline.providers.triposr.network import TSR

SEED = 0
CONFIG = """\
cond_image_size: 512
image_tokenizer_cls: tsr.models.tokenizers.image.DINOSingleImageTokenizer
tokenizer_cls: tsr.models.tokenizers.triplane.Triplane1DTokenizer
tokenizer: {plane_size: 32, num_channels: 1024}
backbone_cls: tsr.models.transformer.transformer_1d.Transformer1D
backbone:
  {in_channels: 1024, num_attention_heads: 16, attention_head_dim: 64, num_layers: 16,
   cross_attention_dim: 768, norm_num_groups: 32}
post_processor_cls: tsr.models.network_utils.TriplaneUpsampleNetwork
post_processor: {in_channels: 1024, out_channels: 40}
decoder_cls: tsr.models.network_utils.NeRFMLP
decoder: {in_channels: 120, n_neurons: 64, n_hidden_layers: 9, activation: silu}
renderer_cls: tsr.models.nerf_renderer.TriplaneNeRFRenderer
renderer: {radius: 0.87}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="room for 1.7 GB of files"
    )
    parser.add_argument("--repeat", type=int, default=2, help="the best counts (%(default)s)")
    options.add_device(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report; `error` is |codes - float32's| / |float32's|, Euclidean norms."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        folder.joinpath("config.yaml").write_text(CONFIG)
        torch.save(random_network().state_dict(), folder / weights.CHECKPOINT)
        report: dict[str, Any] = options.surroundings(args.device)
        codes: dict[str, Tensor] = {}
        for dtype in ("float32", "bfloat16"):
            report[dtype], codes[dtype] = _measure(folder, args, getattr(torch, dtype))
    exact = codes["float32"]
    off = (codes["bfloat16"] - exact).square().sum() / exact.square().sum()
    report["error"] = off.sqrt().item()
    report["speedup"] = round(report["float32"]["seconds"] / report["bfloat16"]["seconds"], 2)
    return report


def _measure(
    folder: Path, args: argparse.Namespace, dtype: torch.dtype
) -> tuple[dict[str, Any], Tensor]:
    network, load_s, _ = options.timed(lambda: weights.load(folder, args.device, dtype))
    picture = torch.rand(1, 512, 512, 3, generator=torch.Generator().manual_seed(SEED))
    runs: list[list[float]] = []
    codes = picture
    with torch.inference_mode():
        for _ in range(args.repeat):
            codes, *took = options.timed(lambda: network(picture).float().cpu())
            runs.append(took)
    seconds, cpu_seconds = min(runs)
    report: dict[str, Any] = {"load_s": load_s, "seconds": seconds, "cpu_seconds": cpu_seconds}
    # Peak of the process so far: float32 runs first, and mapped files in memory count.
    report["peak_mib"] = options.peak_mib()
    return report, codes


@torch.no_grad()
def random_network(device: torch.device | str = "cpu") -> TSR:
    """Make random weights that keep the size of activations: norms do nothing, sums stay near 1."""
    torch.default_generator.manual_seed(SEED)
    network = weights.skeleton(FULL).to_empty(device=device)
    for parameter in network.parameters():
        parameter.normal_(0, 0.02)
    for module in network.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            module.weight.fill_(1)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5)
    network.tokenizer.embeddings.normal_()
    upsample = network.post_processor.upsample
    upsample.weight.normal_(0, upsample.in_channels**-0.5)
    return network
