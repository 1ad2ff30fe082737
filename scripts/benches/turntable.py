"""Time for pictures around a scene, made by the method that --mode names."""

from __future__ import annotations

import argparse
from typing import Any

from benches import turntable_mesh, turntable_nerf

MODES = {"mesh": turntable_mesh.run, "nerf": turntable_nerf.run}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=MODES, required=True, help="how the pictures are made")
    turntable_nerf.add_arguments(parser)
    turntable_mesh.add_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` or `OSError` for an unusable scene."""
    return MODES[args.mode](args)
