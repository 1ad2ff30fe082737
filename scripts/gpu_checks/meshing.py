"""Figures of TripoSR: the network at full size, meshes, textures, and a picture to a GLB."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from benches.forward import random_network
from torch import Tensor

from dna_pipeline.providers.base import Device
from dna_pipeline.providers.triposr import surface, weights
from dna_pipeline.providers.triposr.bake import bake
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.network import TSR
from dna_pipeline.providers.triposr.provider import TripoSRModel, TripoSRNetwork
from gpu_checks.jobs import stage_done, triposr_events, triposr_models
from gpu_checks.measuring import measured
from gpu_checks.report import Check, Skipped
from gpu_checks.setting import ROBOT, TINY, Setting

if TYPE_CHECKING:
    from PIL import Image

BAKED_FACES = {True: 500, False: 20_000}
TEXTURE_PX = {True: 128, False: 2048}
REPEAT = 3


class FullSizeModel(TripoSRModel):
    """The network at full size with random weights, and the golden robot as what it finds.

    Random weights give no surface: the network computes the picture's scene codes, and those of
    the robot go on. With `small`, the network is the small golden one.
    """

    small: bool = False

    def load(self, device: Device) -> Any:  # another class than the base's
        field = Field.from_npz(ROBOT, device.name)
        return FullSizeNetwork(_network(device, small=self.small), field)


class FullSizeNetwork(TripoSRNetwork):
    def __init__(self, network: TSR, robot: Field) -> None:
        super().__init__(network)
        self._robot = robot

    def field(self, image: Image.Image, *, foreground_ratio: float) -> Field:
        super().field(image, foreground_ratio=foreground_ratio)
        return self._robot


def forward(dtype: str, setting: Setting) -> dict[str, Any]:
    """The network from a picture to scene codes."""
    if dtype not in ("float32", *setting.dtypes):
        raise Skipped(f"the network does not compute in {dtype} on {setting.device}")
    network = _network(setting.in_dtype(dtype), small=setting.small)
    picture = torch.randint(0, 256, (1, 512, 512, 3), dtype=torch.uint8)

    @torch.inference_mode()
    def run() -> Tensor:
        return network(picture)

    run()
    _, values = measured(setting, run, REPEAT)
    return {"parameters": sum(p.numel() for p in network.parameters()), **values}


def _network(device: Device, *, small: bool) -> TSR:
    dtype: torch.dtype = getattr(torch, device.dtype)
    if small:
        return weights.load(TINY, device.name, dtype)
    return random_network(device.name).requires_grad_(False).eval().compute_in(dtype)


def mesh(resolution: int, setting: Setting) -> dict[str, Any]:
    """From the robot's scene codes to a mesh with colours."""
    resolution = resolution // 8 if setting.small else resolution
    field = Field.from_npz(ROBOT, setting.device)
    surface.extract(field, resolution)
    found, values = measured(setting, lambda: surface.extract(field, resolution), REPEAT)
    phases = {name: round(seconds, 4) for name, seconds in found.seconds.items()}
    return {"resolution": resolution, **values, "phases": phases, "faces": len(found.mesh.faces)}


def texture(setting: Setting) -> dict[str, Any]:
    """A texture for a mesh with few faces. Laying it out is work of the CPU."""
    from dna_pipeline.media.meshes.decimate import decimate

    field = Field.from_npz(ROBOT, setting.device)
    mesh = surface.extract(field, 48 if setting.small else 128).mesh
    vertices, faces = decimate(mesh.vertices, mesh.faces, BAKED_FACES[setting.small])
    size = TEXTURE_PX[setting.small]
    _, values = measured(setting, lambda: bake(field, vertices, faces, size))
    return {"faces": len(faces), "texture_px": size, **values}


def picture_to_glb(setting: Setting) -> dict[str, Any]:
    """A job of the stage `triposr` with a loaded model, from the picture's file to the GLB."""
    device = setting.in_dtype(setting.dtypes[-1])
    models = triposr_models(FullSizeModel(path=TINY, small=setting.small), device)
    resolution = 48 if setting.small else 256
    jobs = count()

    def run() -> float:
        events = triposr_events(models, setting.folder / f"glb-{next(jobs)}", resolution)
        return stage_done(events).seconds

    run()
    _, values = measured(setting, run, REPEAT)
    return {"resolution": resolution, "dtype": device.dtype, **values}


CHECKS: tuple[tuple[str, Check], ...] = (
    ("forward-float32", partial(forward, "float32")),
    ("forward-float16", partial(forward, "float16")),
    ("forward-bfloat16", partial(forward, "bfloat16")),
    ("mesh-256", partial(mesh, 256)),
    ("mesh-512", partial(mesh, 512)),
    ("bake", texture),
    ("picture-to-glb", picture_to_glb),
)
