"""CPU time of the work on pictures beside the models: encoding, keying, cutting out, the preview.

Each part is measured several times and the least time is reported, since all else that the machine
does only adds to it. `control` is Pillow's own encoding of the same picture, which no change of
this program affects: where it differs between two runs, the machine does.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benches import options
from dna_pipeline.media.images import save_png
from dna_pipeline.media.matte import cut_out
from dna_pipeline.media.meshes.mesh import Mesh
from dna_pipeline.media.meshes.preview import render_preview
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.matting.keying import BorderKeyer

MATTE_PX = (4000, 3000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size", type=options.at_least(64), default=768, help="pixels (%(default)s)"
    )
    parser.add_argument("--repeat", type=options.at_least(1), default=3, help="times (%(default)s)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    picture, keyer = product_shot(args.size), BorderKeyer(BorderKey.model_validate({}))
    alpha = keyer.alpha(picture)
    cutout, mesh = cut_out(picture, alpha), bumpy_ball(256)
    matte = cutout.resize(MATTE_PX)
    preview = render_preview(mesh, closed=True)

    def key() -> None:
        keyer.remarks(picture, keyer.alpha(picture))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        parts: dict[str, Callable[[], object]] = {
            "picture_png": lambda: save_png(picture, path),
            "border_key": key,
            "cut_out": lambda: cut_out(picture, alpha),
            "matte_png": lambda: save_png(cutout, path),
            "preview": lambda: render_preview(mesh, closed=True),
            "preview_png": lambda: save_png(preview, path),
        }
        seconds = {name: _least(args.repeat, part) for name, part in parts.items()}
        sizes = {"picture_png": _size(picture, path), "matte_png": _size(cutout, path)}
        large = {"matte_12mp_png": _least(1, lambda: save_png(matte, path))}
        large["cut_out_12mp"] = _least(
            1, lambda: cut_out(matte.convert("RGB"), matte.getchannel("A"))
        )
    control = _least(args.repeat, lambda: picture.save(io.BytesIO(), "PNG"))
    return {
        "cpu_seconds": seconds | {"sum": round(sum(seconds.values()), 4)},
        "large": large,
        "control": control,
        "bytes": sizes,
    }


def product_shot(side_px: int) -> Image.Image:
    """A portrait in a round frame on a plain, slightly graded and noisy backdrop."""
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    grade = np.stack([200 + 20 * columns / side_px, 190 + 15 * rows / side_px, 180 + 0 * rows], -1)
    noise = np.random.default_rng(0).normal(0, 1, grade.shape)
    shot = Image.fromarray((grade + noise).clip(0, 255).astype(np.uint8))
    photographs: Any = import_module("skimage.data")
    portrait = Image.fromarray(photographs.astronaut()).resize((side_px // 2, side_px // 2))
    distance = (columns - side_px / 2) ** 2 + (rows - side_px / 2) ** 2
    frame = Image.fromarray((distance < (0.24 * side_px) ** 2).astype(np.uint8) * 255)
    page = Image.new("RGB", shot.size)
    page.paste(portrait, (side_px // 4, side_px // 4))
    shot.paste(page, mask=frame)
    return shot


def bumpy_ball(resolution: int) -> Mesh:
    """A closed mesh with about four faces for each square of the resolution."""
    axis = np.linspace(-1, 1, resolution, dtype=np.float32)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    bumps = 0.08 * np.sin(12 * x) * np.sin(11 * y) * np.sin(13 * z)
    measure: Any = import_module("skimage.measure")
    field = x * x + 1.4 * y * y + 1.2 * z * z - 0.5 + bumps
    vertices, faces, _, _ = measure.marching_cubes(field, 0.0)
    vertices = (vertices / (resolution - 1) * 2 - 1).astype(np.float32)
    return Mesh(vertices, faces.astype(np.int32), (vertices + 1) / 2)


def _least(times: int, part: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        part()
        best = min(best, time.process_time() - began)
    return round(best, 4)


def _size(image: Image.Image, path: Path) -> int:
    save_png(image, path)
    return path.stat().st_size
