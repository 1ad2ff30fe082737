"""Pictures around a scene, in the way that --mode names."""

from __future__ import annotations

import argparse
from typing import Any

from benches import turntable_nerf

MODES = {"nerf": turntable_nerf.run}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, required=True, help="how the pictures are made")
    turntable_nerf.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The facts to print. Raises `ValueError` or `OSError` for a scene that won't do."""
    return MODES[args.mode](args)
