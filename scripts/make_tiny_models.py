"""Makes two small models in the real formats, for demos and tests without a download.

    sd-v1-5-local/   a Stable Diffusion 1.5 folder as Diffusers reads it
    triposr-base/    a TripoSR folder as the original reads it

Existing models stay as they are. `tiny_models/` says how the weights are chosen. With `--demo` they
are those of `demo.py`, which suit its picture: colours and edges stay, and the mesh is finer.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from environment import escape_unencodable
from tiny_models.demo_sd import make_demo_sd
from tiny_models.demo_triposr import make_demo_triposr
from tiny_models.sd import make_sd
from tiny_models.triposr import make_triposr

MAKERS: dict[str, Callable[[Path], None]] = {
    "sd-v1-5-local": make_sd,
    "triposr-base": make_triposr,
}
FILES = Path(__file__).parent / "demo_files"
DEMO_MAKERS: dict[str, Callable[[Path], None]] = {
    "sd-v1-5-local": lambda folder: make_demo_sd(folder, FILES / "rocket.png"),
    "triposr-base": lambda folder: make_demo_triposr(folder, FILES / "rocket.silhouette.png"),
}
NOTE = (
    "Made by scripts/make_tiny_models.py; weights set by hand, or trained on drawings by "
    "scripts/train_demo_vae.py; free for any use (CC0-1.0).\n"
)


def main() -> None:
    escape_unencodable()
    root = Path(os.environ.get("DNA_DATA_DIR") or Path(__file__).parents[1] / "data") / "models"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=root, help="folder of models (%(default)s)")
    parser.add_argument("--force", action="store_true", help="make anew what is already there")
    parser.add_argument("--demo", action="store_true", help="those of demo.py")
    args = parser.parse_args()
    for folder in make_all(args.out, force=args.force, makers=DEMO_MAKERS if args.demo else MAKERS):
        print(folder)


def make_all(
    out: Path, *, force: bool = False, makers: dict[str, Callable[[Path], None]] = MAKERS
) -> list[Path]:
    """Make the models below `out`, each completely or not at all; give the new folders."""
    names = [name for name in makers if force or not (out / name).exists()]
    return [_make(out / name, makers[name]) for name in names]


def _make(target: Path, make: Callable[[Path], None]) -> Path:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    before = torch.get_rng_state()
    try:
        with torch.no_grad():
            torch.default_generator.manual_seed(0)
            make(temporary)
        (temporary / "LICENSE.txt").write_text(NOTE)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        torch.set_rng_state(before)
        shutil.rmtree(temporary, ignore_errors=True)
    return target


if __name__ == "__main__":
    main()
