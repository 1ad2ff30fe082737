"""Time and peak memory of converting a checkpoint of full size, and a comparison of all tensors.

The checkpoint has the original's names and shapes and random numbers in float16: 2.1 GB. The
conversion runs in a process of its own, so that the memory is that of the conversion alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benches.daemons import ROOT

_CHILD = """
import resource, sys, time
from pathlib import Path
started = time.monotonic()
from dna_pipeline.providers.stable_diffusion.convert import convert
convert(Path(sys.argv[1]), Path(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(time.monotonic() - started, peak)
"""
_PARTS = {
    "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="where to work, rather than in $TMPDIR; 4.5 GB")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        single, target = Path(name, "one.safetensors"), Path(name, "sd")
        write_checkpoint(single)
        seconds, peak_gb = convert(single, target)
        count = compare(single, target)
        load(target)
        return {
            "gb": single.stat().st_size / 1e9,
            "seconds": seconds,
            "peak_gb": peak_gb,
            "equal": count,
            "loads": True,
        }


def convert(single: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of a conversion."""
    result = subprocess.run(
        [sys.executable, "-c", _CHILD, str(single), str(target)],
        check=True, capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seconds, peak_gb = map(float, result.stdout.split())
    return seconds, peak_gb


def write_checkpoint(path: Path) -> None:
    """Write random float16 numbers under the names and shapes of the original."""
    import numpy as np

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in original_shapes():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    numbers = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, end, 1 << 26):
            count = min(1 << 26, end - begin) // 2
            file.write((numbers.standard_normal(count, np.float32) / 50).astype(np.float16).data)


def original_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of v1-5-pruned-emaonly.safetensors, the positions left out."""
    sys.path.insert(0, str(ROOT / "tests/unit/providers/stable_diffusion"))
    import original_names  # pyright: ignore[reportMissingImports]

    from dna_pipeline.providers.stable_diffusion.folder import SD15_CONFIG, read_json
    from dna_pipeline.providers.stable_diffusion.single_file import shapes_of

    names: Any = original_names
    for part in _PARTS:
        config = read_json(SD15_CONFIG / part / "config.json")
        for name, shape in shapes_of(part, config).items():
            if part == "unet":
                yield names.unet_name(name, 2), shape
            elif part == "vae":
                is_attention = names.is_vae_attention(name)
                yield names.vae_name(name), (*shape, 1, 1) if is_attention else shape
            else:
                yield f"cond_stage_model.transformer.{name}", shape


def compare(single: Path, folder: Path) -> int:
    """Number of tensors, all of which are equal in both. Raises ValueError if one is not."""
    from safetensors import safe_open

    from dna_pipeline.providers.stable_diffusion.single_file import read_parts

    opened: Any = safe_open
    count = 0
    for part, tensors in read_parts(single).items():
        with opened(folder / part / f"{_PARTS[part]}.safetensors", framework="pt") as file:
            if set(file.keys()) != set(tensors):
                raise ValueError(f"{part}: other names")
            for name, value in tensors.items():
                if not file.get_tensor(name).equal(value):
                    raise ValueError(f"{part}: {name} differs")
                count += 1
    return count


def load(folder: Path) -> None:
    """Load the model as a worker does."""
    import torch

    from dna_pipeline.providers.base import Device
    from dna_pipeline.providers.stable_diffusion.provider import Diffusers

    torch.set_grad_enabled(False)
    Diffusers.model_validate({"path": folder}).load(Device("cpu", "float16"))
