"""Trains the small autoencoder of the demo's stand-in, on drawings that it makes itself.

    tiny_models/demo_vae.safetensors    the weights, float16

The pictures are the demo's rocket, recoloured, turned and moved, and plain shapes with shading; no
other pictures are used. The weights in the repository come from two runs on one core of a CPU, of
500 steps with seed 0, and of 1020 with `--resume` and seed 1, five minutes of computing together.
They saw the picture without the blur of its lens, and the first one weighed slopes a third as much
and the spread of the latent an eighth, at a rate of 1.5e-3. So running this again gives other
weights, to be measured by `tests/e2e/test_demo.py`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import escape_unencodable
from PIL import Image
from tiny_models.demo_sd import WEIGHTS, is_trained, new_vae
from torch import Tensor, nn
from torch.nn import functional

safetensors: Any = import_module("safetensors.torch")

FILES = Path(__file__).parent / "demo_files"
BATCH, SIDE_PX, STEPS = 2, 128, 1000
WHOLE_PX, WHOLE_STEPS = 512, 20
RATE, SAVED_EVERY = 2e-3, 100
NOISE = 0.02
"""Noise that img2img at low strength adds to a latent of deviation 1."""


def main() -> None:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="(%(default)s)")
    parser.add_argument("--resume", type=Path, help="weights to go on from")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    args = parser.parse_args()
    torch.default_generator.manual_seed(args.seed)
    vae = new_vae().train()
    if args.resume:
        vae.load_state_dict(vae.state_dict() | safetensors.load_file(args.resume))
    for coder in (vae.encoder, vae.decoder):
        coder.mid_block.forward = _unchanged  # what it computes too, at more cost
    for step in train(vae, Drawings(args.seed)):
        if step % SAVED_EVERY == 0:
            _save(vae, args.out)
    _save(vae, args.out)


def _unchanged(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden


def _save(vae: nn.Module, out: Path) -> None:
    tensors = {k: v.half().contiguous() for k, v in vae.state_dict().items() if is_trained(k)}
    safetensors.save_file(
        tensors, out, {"made_by": "scripts/train_demo_vae.py", "license": "CC0-1.0"}
    )


def train(vae: nn.Module, drawings: Drawings) -> Iterator[int]:
    """Train, and give the number of each step. The rate rises, then falls to 0."""
    weights = [value for name, value in vae.named_parameters() if is_trained(name)]
    optimizer: Any = torch.optim.Adam(weights, lr=0.0, betas=(0.9, 0.98))
    begun, mean = time.monotonic(), 0.0
    for step in range(1, STEPS + WHOLE_STEPS + 1):
        part = step / (STEPS + WHOLE_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / 20) * 0.5 * (1 + math.cos(math.pi * part))
        # Whole pictures at the end, since group norms see all of a picture.
        batch = drawings.batch(BATCH, SIDE_PX) if step <= STEPS else drawings.batch(1, WHOLE_PX)
        loss, square = _loss(vae, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        mean += (square - mean) * max(0.05, 1 / step)
        if step % 50 == 0:
            decibel = 10 * math.log10(4 / mean)
            print(f"{time.monotonic() - begun:6.0f} s, step {step}: {decibel:.1f} dB", flush=True)
        yield step


def _loss(vae: Any, pictures: Tensor) -> tuple[Any, float]:
    """The value that is minimised, and the mean square error of pixels in [-1, 1]."""
    latent = vae.encoder(pictures)[:, :4]
    noisy = latent + NOISE * torch.randn_like(latent)
    back = vae.decoder(noisy)
    error = back - pictures
    square = error.square().mean()
    slopes = sum((torch.diff(error, dim=d).abs().mean() for d in (2, 3)), torch.zeros(()))
    spread = (latent.square().mean((0, 2, 3)) - 1).square().mean()
    return 4 * square + error.abs().mean() + 3 * slopes + 0.2 * spread, float(square.detach())


class Drawings:
    """Makes pictures (n, 3, side, side) in [-1, 1]."""

    def __init__(self, seed: int) -> None:
        picture = Image.open(FILES / "rocket.png").convert("RGB")
        cover = Image.open(FILES / "rocket.silhouette.png").convert("L")
        self._whole = _tensor(np.asarray(picture))
        self._rocket = torch.cat([self._whole, _tensor(np.asarray(cover)[..., None])])
        self._rng = np.random.default_rng(seed)

    def batch(self, count: int, side: int) -> Tensor:
        return torch.stack([self._one(side) for _ in range(count)]) * 2 - 1

    def _one(self, side: int) -> Tensor:
        kind = self._rng.random()
        if side == WHOLE_PX and kind < 0.5:
            return self._whole if kind < 0.35 else self._whole.flip(2)
        if kind < 0.6:
            return self._crop(side)
        picture = self._shade(side)
        if kind < 0.85:
            return self._with_rocket(picture)
        for _ in range(self._rng.integers(1, 7)):
            picture = self._with_shape(picture)
        return picture

    def _crop(self, side: int) -> Tensor:
        """A part of the picture as it is, or mirrored."""
        top, left = self._rng.integers(0, WHOLE_PX - side + 1, 2)
        part = self._whole[:, top : top + side, left : left + side]
        return part.flip(2) if self._rng.random() < 0.5 else part

    def _colour(self) -> Tensor:
        return torch.tensor(self._rng.random(3), dtype=torch.float32)[:, None, None]

    def _ramp(self, side: int) -> Tensor:
        """A slope (1, side, side) from 0 to 1 in any direction."""
        angle = self._rng.random() * 2 * math.pi
        line = torch.linspace(-0.5, 0.5, side)
        slope = math.cos(angle) * line[:, None] + math.sin(angle) * line[None]
        return (slope / 1.5 + 0.5)[None]

    def _shade(self, side: int) -> Tensor:
        """One colour, and another towards one side."""
        first = self._colour()
        second = (first + 0.5 * (self._colour() - 0.5)).clamp(0, 1)
        return first + (second - first) * self._ramp(side)

    def _grid(self, side: int) -> tuple[Tensor, Tensor]:
        """Coordinates of a turned, scaled, moved frame, in units of half a side."""
        line = torch.linspace(-1, 1, side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        at_x, at_y = self._rng.uniform(-0.6, 0.6, 2)
        angle = self._rng.random() * 2 * math.pi
        x, y = x - at_x, y - at_y
        turned_x = math.cos(angle) * x - math.sin(angle) * y
        return turned_x, math.sin(angle) * x + math.cos(angle) * y

    def _with_shape(self, picture: Tensor) -> Tensor:
        """An ellipse, a ring or a box with sharp edges, and its shading."""
        side = picture.shape[1]
        x, y = self._grid(side)
        width, height = self._rng.uniform(0.08, 0.7, 2)
        kind = self._rng.integers(0, 3)
        radius = torch.hypot(x / width, y / height)
        distance = (radius - 1) * min(width, height)
        if kind == 1:
            distance = distance.abs() - 0.2 * min(width, height)
        elif kind == 2:
            distance = torch.maximum(x.abs() - width, y.abs() - height)
        cover = (0.5 - distance * side / 2).clamp(0, 1)[None]
        return picture + cover * (self._shade(side) - picture)

    def _with_rocket(self, picture: Tensor) -> Tensor:
        """The rocket in other colours, turned, scaled and moved."""
        side = picture.shape[1]
        angle, scale = self._rng.uniform(-0.6, 0.6), self._rng.uniform(0.4, 1.3)
        cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
        mirror = 1 if self._rng.random() < 0.5 else -1
        moved = self._rng.uniform(-0.4, 0.4, 2)
        affine = torch.tensor([[[cos * mirror, sin, moved[0]], [-sin * mirror, cos, moved[1]]]])
        grid = functional.affine_grid(affine.float(), [1, 4, side, side], align_corners=False)
        drawn = functional.grid_sample(self._rocket[None], grid, align_corners=False)[0]
        colours = drawn[:3]
        if self._rng.random() < 0.7:
            colours = colours[torch.tensor(self._rng.permutation(3))]
            colours = colours ** float(self._rng.uniform(0.6, 1.6))
        return picture + drawn[3:] * (colours - picture)


def _tensor(pixels: Any) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1) / 255


if __name__ == "__main__":
    main()
